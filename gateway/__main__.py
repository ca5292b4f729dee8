"""`python -m gateway` keeps Envoy's files true until SIGTERM; `python -m gateway prepare` writes them once, before
Envoy starts."""

import asyncio
import contextlib
import signal
import sys

from aiohttp import web

from gateway.discovery import Discovery
from gateway.server import app
from gateway.settings import Settings, from_environment
from vram_agent import logs


async def serve(settings: Settings) -> None:
    """Look and answer until SIGTERM or SIGINT."""
    discovery = Discovery(settings)
    discovery.prepare()
    runner = web.AppRunner(app(discovery), access_log=None, shutdown_timeout=1)
    await runner.setup()
    settings.socket.unlink(missing_ok=True)
    await web.UnixSite(runner, settings.socket).start()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    looking = asyncio.create_task(discovery.run())
    await stop.wait()
    looking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await looking
    await runner.cleanup()


def main() -> None:
    """Exit 1 with one clear line when the chart's files are not there."""
    logs.set_up()
    settings = from_environment()
    try:
        if sys.argv[1:] == ["prepare"]:
            Discovery(settings).prepare()
        else:
            asyncio.run(serve(settings))
    except OSError as error:
        sys.exit(f"ERROR: {error}")


if __name__ == "__main__":
    main()
