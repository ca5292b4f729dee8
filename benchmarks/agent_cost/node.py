"""A node for the measurement: the real agent on fake GPUs, and holders of leases. Sizes in bytes, times in seconds."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from benchmarks import procfs
from benchmarks.ports import free_port
from benchmarks.unix_http import ask
from tests.fake_nvml import FakeNvml, Gpu

ROOT = Path(__file__).parents[2]
DEADLINE = 20.0
GIB = 1024**3
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Load:
    """So many leases on so many GPUs, evenly."""

    gpus: int
    leases: int

    @property
    def name(self) -> str:
        return f"{self.gpus} GPUs, {self.leases} leases"


GPU_SIZE = 180 * GIB
LEASE_SIZE = 9 * GIB


class Node:
    """A context manager: on entry the agent runs and every lease is held; on exit nothing of it lives.

    Args:
        load: what it carries.
        library: of the fake driver.
        folder: for the socket, the GPUs' file and the log.
        agent: the agent's module and its arguments.
    """

    def __init__(self, load: Load, library: Path, folder: Path, agent: Sequence[str]) -> None:
        self.load = load
        self.nvml = FakeNvml(library, folder / "gpus")
        self.socket = str(folder / "agent.sock")
        self.log = folder / "agent.log"
        self.port = free_port()
        self.program = [sys.executable, "-m", *agent]
        self.devices = [f"GPU-{number:02d}" for number in range(load.gpus)]
        self.agent: subprocess.Popen[bytes] | None = None
        self.holders: subprocess.Popen[str] | None = None

    def __enter__(self) -> "Node":
        self._write({})
        env = {
            "PATH": os.environ["PATH"],
            "HIVE_AGENT_SOCKET": self.socket,
            "HIVE_AGENT_HOST": "127.0.0.1",
            "HIVE_AGENT_PORT": str(self.port),
            "HIVE_DEVICE_KIND": "nvml",
            "HIVE_NODE_NAME": "node",
            "HIVE_HEADROOM_MIB": "512",
            "HIVE_SAFETY_MIB": "256",
            **self.nvml.env,
        }
        try:
            with self.log.open("wb") as log:
                self.agent = subprocess.Popen(self.program, cwd=ROOT, env=env, stdout=log, stderr=log)
            self._await_agent()
            self._hold()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.holders is not None:
            self.holders.communicate()  # they end with their stdin
        if self.agent is not None:
            self.agent.send_signal(signal.SIGTERM)
            self.agent.wait()

    @property
    def pid(self) -> int:
        assert self.agent is not None
        return self.agent.pid

    def cpu_seconds(self) -> float:
        """CPU time of the agent so far."""
        return procfs.cpu_seconds(self.pid)

    def resident(self) -> int:
        """Bytes of memory of the agent, its mapped files included."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * PAGE

    def passers_by(self, count: int) -> list[dict[str, float]]:
        """Seconds of each step of so many engines that come and go, one after the other."""
        wanted = [(f"passer-{number}", self.devices[number % len(self.devices)], GIB) for number in range(count)]
        program = _holders("pass", self.socket, wanted)
        done = subprocess.run(program, cwd=ROOT, check=True, capture_output=True, text=True)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def state(self) -> bytes:
        """As a client on the node reads it."""
        status, state = ask(self.socket, "GET", "/v1/state")
        assert status == 200
        return json.dumps(state).encode()

    def metrics(self) -> bytes:
        """As Prometheus reads them."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics") as answer:
            return bytes(answer.read())

    # -- inside ----------------------------------------------------------------------------------------------------

    def _hold(self) -> None:
        wanted = [
            (f"lease-{number:03d}", self.devices[number % len(self.devices)], LEASE_SIZE)
            for number in range(self.load.leases)
        ]
        self.holders = subprocess.Popen(
            _holders("stay", self.socket, wanted), cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.holders.stdout is not None
        engines: dict[str, dict[int, int | None]] = {}
        for _ in wanted:
            line = self.holders.stdout.readline()
            if not line:
                raise RuntimeError(f"the holders ended: {self.log.read_text()[-2000:]}")
            held = json.loads(line)
            engines.setdefault(held["device"], {})[held["engine"]] = int(0.96 * LEASE_SIZE)
            self._write(engines)

    def _write(self, engines: dict[str, dict[int, int | None]]) -> None:
        self.nvml.write(*(Gpu(device, GPU_SIZE, processes=engines.get(device, {})) for device in self.devices))

    def _await_agent(self) -> None:
        end = time.monotonic() + DEADLINE
        while True:
            assert self.agent is not None
            try:
                self.state()
            except OSError as error:
                if time.monotonic() > end or self.agent.poll() is not None:
                    raise RuntimeError(f"the agent does not answer: {self.log.read_text()}") from error
                time.sleep(0.05)
            else:
                return


def _holders(how: str, socket: str, wanted: list[tuple[str, str, int]]) -> list[str]:
    return [sys.executable, "-E", "-S", "-m", "benchmarks.agent_cost.holders", how, socket, json.dumps(wanted)]
