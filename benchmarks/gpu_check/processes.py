"""Processes that the check starts, and what is said to them. All of them end with the check."""

import contextlib
import ctypes
import http.client
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks import unix_http
from benchmarks.gpu_check.nvml import alive
from benchmarks.ports import free_port
from vram_agent.api import Lease, State

ROOT = Path(__file__).parents[2]
ANSWER = 30.0  # seconds for anything but a start, on a machine that others use as well
START = 60.0  # seconds: torch from a slow disk, and a CUDA context
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # prctl(2)


class BrokenError(Exception):
    """Something did not come about; says what, and what was last heard."""


class Line:
    """Questions and answers, a line of JSON each, with a process.

    Args:
        questions: file descriptor to write to.
        answers: file descriptor to read from.
        log: the process's stderr, for what it said last.
    """

    def __init__(self, questions: int, answers: int, log: Path) -> None:
        self.questions = questions
        self.answers = answers
        self.log = log
        self._rest = b""

    def tell(self, command: str, *arguments: object) -> None:
        try:
            os.write(self.questions, json.dumps([command, arguments]).encode() + b"\n")
        except BrokenPipeError as error:
            raise BrokenError(f"the process ended before `{command}`: {last_words(self.log)}") from error

    def answer(self, seconds: float = ANSWER) -> Any:
        """The answer to the oldest command.

        Raises:
            BrokenError: there is none, or it says that the command failed.
        """
        end = time.monotonic() + seconds
        while b"\n" not in self._rest:
            if not select.select([self.answers], [], [], max(0.0, end - time.monotonic()))[0]:
                raise BrokenError(f"no answer in {seconds:.0f} s: {last_words(self.log)}")
            read = os.read(self.answers, 65536)
            if not read:
                raise BrokenError(f"the process ended: {last_words(self.log)}")
            self._rest += read
        line, _, self._rest = self._rest.partition(b"\n")
        answer = json.loads(line)
        if isinstance(answer, dict) and "failed" in answer:
            raise BrokenError(answer["failed"])
        return answer

    def heard(self) -> bool:
        """Whether something has come that is not read."""
        return bool(self._rest) or bool(select.select([self.answers], [], [], 0)[0])

    def ask(self, command: str, *arguments: object, seconds: float = ANSWER) -> Any:
        self.tell(command, *arguments)
        return self.answer(seconds)

    def hang_up(self) -> None:
        """No more questions; the process ends by that."""
        if self.questions >= 0:
            os.close(self.questions)
        self.questions = -1

    def close(self) -> None:
        self.hang_up()
        if self.answers >= 0:
            os.close(self.answers)
        self.answers = -1


class Engine:
    """A process in the GPU, below a holder or, without one, of nobody's lease.

    Args:
        name: of the model.
        folder: for logs.
        socket: the agent's; None for a process without a lease.
    """

    def __init__(self, name: str, folder: Path, socket: Path | None) -> None:
        self.name = name
        self.pid = 0  # once it is started
        self.lease: Lease | None = None
        self.opened: dict[str, Any] = {}  # what torch saw
        self.log = folder / f"{name}.log"
        engine_in, questions = os.pipe()
        answers, engine_out = os.pipe()
        self.line = Line(questions, answers, self.log)
        self.holder: subprocess.Popen[bytes] | None = None
        self.held: Line | None = None  # to the holder
        self.free: subprocess.Popen[bytes] | None = None  # without a holder
        self._ends: tuple[int, ...] = (engine_in, engine_out)
        if socket is None:
            return
        ends = (str(engine_in), str(engine_out))
        program = [sys.executable, "-E", "-S", "-m", "benchmarks.gpu_check.holder", str(socket), *ends]
        with self.log.open("ab") as log:
            self.holder = subprocess.Popen(
                program,
                cwd=ROOT,
                pass_fds=self._ends,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        self._close_ends()
        assert self.holder.stdin is not None
        assert self.holder.stdout is not None
        self.held = Line(self.holder.stdin.fileno(), self.holder.stdout.fileno(), self.log)

    def start(self, env: Mapping[str, str]) -> None:
        """Start it and wait until it has a CUDA context."""
        whole = {name: value for name, value in os.environ.items() if name != "PYTORCH_ALLOC_CONF"} | dict(env)
        if self.held is not None:
            self.pid = self.held.ask("start", whole)
        else:
            program = [sys.executable, "-m", "benchmarks.gpu_check.engine"]
            with self.log.open("ab") as log:
                self.free = subprocess.Popen(
                    program, cwd=ROOT, env=whole, stdin=self._ends[0], stdout=self._ends[1], stderr=log
                )
            self._close_ends()
            self.pid = self.free.pid
        self.opened = self.line.ask("open", seconds=START)

    def activate(self) -> dict[str, Any]:
        """Say that it is ready; the agent's answer."""
        assert self.held is not None
        assert self.lease is not None
        answer: dict[str, Any] = self.held.ask("activate", self.lease.id)
        if answer["status"] != 200:
            raise BrokenError(f"the agent does not activate {self.name}: {answer['status']} {answer['body']}")
        self.lease = Lease.model_validate(answer["body"])
        return answer

    def drain(self) -> None:
        """Give the lease back and end: engine first, then holder, as a replica that is stopped."""
        assert self.holder is not None
        assert self.holder.stdin is not None
        assert self.held is not None
        assert self.lease is not None
        status = self.held.ask("drain", self.lease.id)["status"]
        self.line.hang_up()
        self.held.ask("reap")
        self.holder.stdin.close()
        self.holder.wait(ANSWER)
        if status != 204:
            raise BrokenError(f"the agent does not take the lease of {self.name} back: {status}")

    def kill_holder(self) -> float:
        """kill -9; when that was."""
        assert self.holder is not None
        at = time.monotonic()
        self.holder.kill()
        self.holder.wait()
        return at

    def end(self) -> None:
        """Nothing of it lives when this returns. May be called again."""
        for process in (self.holder, self.free):
            if process is not None:
                process.kill()
                process.wait()
        if self.pid and alive(self.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        if self.pid and self.free is None:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self.pid, 0)  # it became ours when its holder ended
        self._close_ends()
        self.line.close()
        for pipe in (self.holder.stdin, self.holder.stdout) if self.holder is not None else ():
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _close_ends(self) -> None:
        for end in self._ends:
            os.close(end)
        self._ends = ()


class Agent:
    """`python -m vram_agent`.

    Args:
        folder: for the socket, the ledger's file and the log.
        headroom, safety: MiB.
    """

    def __init__(self, folder: Path, headroom: int, safety: int) -> None:
        self.socket = folder / "agent.sock"
        self.log = folder / "agent.log"
        self.env = dict(os.environ) | {
            "HIVE_AGENT_SOCKET": str(self.socket),
            "HIVE_AGENT_HOST": "127.0.0.1",
            "HIVE_AGENT_PORT": str(free_port()),
            "HIVE_DEVICE_KIND": "nvml",
            "HIVE_NODE_NAME": "gpu-check",
            "HIVE_HEADROOM_MIB": str(headroom),
            "HIVE_SAFETY_MIB": str(safety),
        }
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self) -> float:
        """Seconds until it answers."""
        began = time.monotonic()
        with self.log.open("ab") as log:
            program = [sys.executable, "-m", "vram_agent"]
            self.process = subprocess.Popen(
                program,
                cwd=ROOT,
                env=self.env,
                stdout=log,
                stderr=log,
                preexec_fn=_end_with_parent,  # noqa: PLW1509 (no thread of this process runs at that time)
            )
        wait(START, self._answers, lambda: f"the agent does not answer: {last_words(self.log)}")
        return time.monotonic() - began

    def state(self) -> State:
        status, body = unix_http.ask(str(self.socket), "GET", "/v1/state", timeout=5.0)
        if status != 200:
            raise BrokenError(f"the agent answers {status}: {body}")
        return State.model_validate(body)

    def kill(self) -> None:
        """kill -9."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def _answers(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise BrokenError(f"the agent ended: {last_words(self.log)}")
        try:
            return bool(self.state().devices)
        except (OSError, http.client.HTTPException):
            return False


def wait(seconds: float, done: Callable[[], object], what: Callable[[], str]) -> None:
    """Until it is done.

    Raises:
        BrokenError: it is not done in time.
    """
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            raise BrokenError(what())
        time.sleep(0.01)


def last_words(log: Path) -> str:
    """The last line of a log that says something."""
    lines = log.read_text(errors="replace").split("\n") if log.exists() else []
    return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "it said nothing")


def adopt_orphans() -> None:
    """From now on descendants that lose their parent are this process's children, so none can get away."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_descendants() -> None:
    """Kill and reap whatever is left below this process."""
    end = time.monotonic() + ANSWER
    while time.monotonic() < end and (children := _children()):
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


def _children() -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == os.getpid():
            found.append(int(path.parent.name))
    return found


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
