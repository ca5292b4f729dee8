"""What the tests of real processes share: a deadline, a holder of leases, a running agent."""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from tests.unit.vram_agent import holder
from vram_agent.api import MIB, Device, Lease, LeaseState, State

T = TypeVar("T")
ROOT = Path(__file__).parents[3]
DEADLINE = 30.0  # seconds; reached only when something is broken
PAUSE = 0.02


def eventually(look: Callable[[], T | None], what: str) -> T:
    """What `look` returns as soon as it is true; fails with `what` and the last look after the deadline."""
    end = time.monotonic() + DEADLINE
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() > end:
            raise AssertionError(f"waited {DEADLINE:.0f} s for: {what}; last seen: {seen!r}")
        time.sleep(PAUSE)


class Holder:
    """A process of its own that holds leases; see holder.py."""

    def __init__(self) -> None:
        program = [sys.executable, "-I", "-S", holder.__file__]
        self.process = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.pid = self.process.pid
        self.children: list[int] = []

    def tell(self, command: str, *arguments: object) -> None:
        """Start a command without waiting for its end."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([command, arguments]).encode() + b"\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        """The end of the oldest command that was told. Also comes from children, and after this process's death."""
        assert self.process.stdout is not None
        assert select.select([self.process.stdout], [], [], DEADLINE)[0], "the holder does not answer"
        return json.loads(self.process.stdout.readline())

    def rest(self) -> bytes:
        """All further answers, once this process and its children are dead."""
        assert self.process.stdout is not None
        return self.process.stdout.read()

    def do(self, command: str, *arguments: object) -> Any:
        self.tell(command, *arguments)
        return self.answer()

    def fork(self, size: int = 0, generations: int = 1, stubborn: bool = False) -> list[int]:
        pids: list[int] = self.do("fork", size, generations, stubborn)
        self.children += pids
        return pids

    def kill(self) -> None:
        """kill -9; what it forked lives on."""
        self.process.kill()
        self.process.wait()

    def clean_up(self) -> None:
        self.kill()
        for pid in self.children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


class AgentProcess:
    """`python -m vram_agent` with its socket in `folder`.

    Args:
        folder: for the socket, the ledger's file and the log.
        env: HIVE_* and others, over the defaults below; None takes a variable out.
    """

    def __init__(self, folder: Path, env: Mapping[str, str | None]) -> None:
        self.socket = folder / "agent.sock"
        self.log = folder / "agent.log"
        self.ledger_file = folder / "leases.json"
        self.port = free_port()
        given = {
            "PATH": os.environ["PATH"],
            "HIVE_AGENT_SOCKET": str(self.socket),
            "HIVE_AGENT_HOST": "127.0.0.1",
            "HIVE_AGENT_PORT": str(self.port),
            "HIVE_DEVICE_KIND": "host",
            "HIVE_NODE_NAME": "test-node",
            "HIVE_HEADROOM_MIB": "0",
            "HIVE_SAFETY_MIB": "64",
            **env,
        }
        self.env = {name: value for name, value in given.items() if value is not None}
        self.process: subprocess.Popen[bytes] | None = None

    def launch(self) -> "AgentProcess":
        """Start it and return at once."""
        with self.log.open("wb") as log:
            program = [sys.executable, "-m", "vram_agent"]
            self.process = subprocess.Popen(program, cwd=ROOT, env=self.env, stdout=log, stderr=log)
        return self

    def start(self) -> "AgentProcess":
        """Start it and wait until it answers."""
        self.launch()
        eventually(self._answers, "the agent answers on its socket")
        return self

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal; the exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        assert self.process is not None
        return self.process.wait(DEADLINE)

    def ask(self, method: str, url: str, body: object = None) -> tuple[int, Any]:
        """A request by the test's own process."""
        return holder.ask(str(self.socket), method, url, body)

    def state(self) -> State:
        status, body = self.ask("GET", "/v1/state")
        assert status == 200
        return State.model_validate(body)

    def lease(self, lease_id: str) -> Lease | None:
        return next((lease for lease in self.state().leases if lease.id == lease_id), None)

    def device(self, device_id: str) -> Device:
        return next(device for device in self.state().devices if device.id == device_id)

    def in_state(self, lease_id: str, wanted: LeaseState) -> Lease:
        """The lease, once it has come to this state."""

        def look() -> Lease | None:
            lease = self.lease(lease_id)
            return lease if lease is not None and lease.state is wanted else None

        return eventually(look, f"{lease_id} is {wanted}")

    def gone(self, lease_id: str) -> None:
        eventually(lambda: self.lease(lease_id) is None, f"{lease_id} is gone")

    def sampled_again(self) -> None:
        """Two rounds have begun since the call: the second one saw everything that was true at the call."""
        for _ in range(2):
            before = max(device.sampled for device in self.state().devices)
            eventually(lambda: max(d.sampled for d in self.state().devices) > before, "a new sample")  # noqa: B023

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"the agent ended: {self.log.read_text()}"
        try:
            return self.ask("GET", "/v1/state")[0] == 200
        except OSError:
            return False


def lease_request(lease_id: str, size: int = 64 * MIB, *devices: str) -> dict[str, object]:
    return {"request_id": lease_id, "model": f"model-{lease_id}", "bytes": size, "devices": devices or ("host",)}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
