"""The order of a run. Everything that it starts ends with it."""

import asyncio
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import psutil

from benchmarks.gateway_cost.figures import FEW, MANY, Found
from benchmarks.gateway_cost.gateway import Gateway, names
from benchmarks.gateway_cost.measure import OpenStreams, latencies
from benchmarks.serving_speed.run import turned
from hive.local.processes import free_ports
from hive.rendering import ROOT

MODELS = (FEW, MANY, 200)
STREAMS = 500
WARM_UP = 100
FILES = 8192  # each stream is a socket here, two in Envoy and one in the upstream

Report = Callable[[str], None]


def measure(scratch: Path, report: Report, rounds: int = 8, requests: int = 250) -> Found:
    """Start the upstream and the gateways, and ask.

    Raises:
        FileNotFoundError: there is no Envoy here.
        RuntimeError: something does not start, or answers with an error.
    """
    _allow_files()
    with ExitStack() as stack:
        upstream, *ports = free_ports(1 + 2 * len(MODELS))
        server = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.gateway_cost.upstream", str(upstream), str(max(MODELS))],
            cwd=ROOT,
            start_new_session=True,
        )
        stack.callback(server.wait)
        stack.callback(server.kill)
        gateways = []
        for place, models in enumerate(MODELS):
            gateway = Gateway(scratch / f"envoy-{models}", models, upstream, (ports[2 * place], ports[2 * place + 1]))
            stack.callback(gateway.stop)
            gateways.append(gateway)
        for gateway in gateways:
            gateway.wait()
        report(f"Gateways with {', '.join(str(gateway.models) for gateway in gateways)} models are up")

        # Number of models (0: the upstream itself) -> port, path, model.
        asked = {0: (upstream, f"/models/{names(1)[0]}/v1/chat/completions", names(1)[0])}
        asked |= {one.models: (one.port, "/v1/chat/completions", names(one.models)[-1]) for one in gateways}
        for port, path, model in asked.values():
            _until_it_answers(port, path, model)
            latencies(port, path, model, WARM_UP)
        idle = {one.models: psutil.Process(one.process.pid).memory_info().rss for one in gateways}
        found: dict[int, list[list[float]]] = {models: [] for models in asked}
        for number in range(rounds):
            for models in turned(list(asked), number):
                found[models].append(latencies(*asked[models], requests))
        report(f"{rounds} rounds of {requests} requests to each")

        envoy = psutil.Process(next(one for one in gateways if one.models == MANY).process.pid)
        before = envoy.memory_info().rss
        with_streams = asyncio.run(_with_streams(envoy, *asked[MANY]))
        report(f"{STREAMS} streams were open at once")
        return Found(
            direct=found.pop(0),
            through=found,
            idle_bytes=idle,
            streams=STREAMS,
            bytes_before=before,
            bytes_with_streams=with_streams,
        )


async def _with_streams(envoy: psutil.Process, port: int, path: str, model: str) -> int:
    """Envoy's resident size while they are open."""
    async with OpenStreams(port, path, model, STREAMS):
        await asyncio.sleep(1)  # Envoy frees what the requests themselves took
        return int(envoy.memory_info().rss)


def _until_it_answers(port: int, path: str, model: str) -> None:
    """Envoy takes over its clusters after it is ready.

    Raises:
        RuntimeError, OSError: it does not.
    """
    end = time.monotonic() + 20
    while True:
        try:
            latencies(port, path, model, 1)
        except (OSError, RuntimeError):
            if time.monotonic() > end:
                raise
            time.sleep(0.1)
        else:
            return


def _allow_files() -> None:
    """Sockets of 500 streams for this process and for what it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
