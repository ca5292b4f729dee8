"""`python -m vram_agent`: serves until SIGTERM."""

import asyncio
import contextlib
import fcntl
import os
import signal
import sys
from collections.abc import Iterator

from aiohttp import web

from vram_agent import logs
from vram_agent.agent import Agent
from vram_agent.devices import NoDeviceError
from vram_agent.server import lease_app, public_app
from vram_agent.settings import Settings, from_environment
from vram_agent.sources import open_source

SOCKET_MODE = 0o666  # whoever can reach the folder may ask; the kernel says who asks
SHUTDOWN = 1.0  # seconds for requests under way: a waiter's could take longer than a pod has to end


async def serve(settings: Settings) -> None:
    """Open both doors and run the agent until SIGTERM or SIGINT."""
    agent = Agent(settings, open_source(settings.kind))
    agent.restore()
    await agent.look()
    leases = web.AppRunner(
        lease_app(agent), access_log=None, handler_cancellation=True, shutdown_timeout=SHUTDOWN
    )  # a waiter that goes away leaves the queue
    public = web.AppRunner(public_app(agent), access_log=None, shutdown_timeout=SHUTDOWN)
    await leases.setup()
    await public.setup()
    # The port first: an agent that finds it taken must not have taken the socket of the one that runs.
    await web.TCPSite(public, settings.host, settings.port).start()
    settings.socket.unlink(missing_ok=True)
    await web.UnixSite(leases, settings.socket).start()
    settings.socket.chmod(SOCKET_MODE)

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    sampling = asyncio.create_task(agent.run())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({sampling, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if sampling.done():
        await sampling  # raises what ended it
    sampling.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await sampling
    settings.socket.unlink(missing_ok=True)
    await leases.cleanup()
    await public.cleanup()


@contextlib.contextmanager
def alone(settings: Settings) -> Iterator[None]:
    """Be the only agent of this socket: two would grant the same bytes. The kernel ends the lock with the process.

    Raises:
        BlockingIOError: there is another one.
    """
    settings.socket.parent.mkdir(parents=True, exist_ok=True)
    with settings.socket.with_suffix(".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BlockingIOError(f"another agent serves {settings.socket}; there can be one for each node") from error
        yield


def main() -> None:
    """Exit 1 with one clear line when this node has no usable device, the port is taken, or another agent runs."""
    logs.set_up()
    settings = from_environment()
    try:
        with alone(settings):
            asyncio.run(serve(settings))
    except (NoDeviceError, OSError, OverflowError) as error:  # the last: no such port
        sys.exit(f"ERROR: {error}")
    sys.stderr.flush()
    os._exit(0)  # a thread that hangs in a broken driver must not keep the process


if __name__ == "__main__":
    main()
