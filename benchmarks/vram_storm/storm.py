"""Runs one storm: starts the agent, the engines and the hogs when the script says so, and leaves nothing behind."""

import contextlib
import dataclasses
import functools
import heapq
import http.client
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import unix_http
from benchmarks.ports import free_port
from benchmarks.vram_storm.cgroup import MemoryCgroup
from benchmarks.vram_storm.observer import Observer
from benchmarks.vram_storm.records import Event, Records
from benchmarks.vram_storm.script import MIB, Engine, Hog, Restart, Script

ROOT = Path(__file__).parents[2]
AGENT_DEADLINE = 60.0  # seconds until a new agent answers, on a machine that others use as well
LAST_WORDS = 60.0  # seconds from the last start until every holder has ended
ORPHANS = 20.0  # seconds until the agent has ended every orphan: twice its grace time, and some rounds
FORGOTTEN = 5.0  # seconds until a lease without processes is gone
KILL_FIRST = 500  # oom_score_adj: the kernel kills engines before the agent, which keeps 0


@dataclass(frozen=True)
class Sizes:
    """Bytes."""

    pool: int
    safety: int
    headroom: int


@dataclass(frozen=True)
class Outcome:
    """A storm that is over."""

    records: Records
    seconds: float
    oom_kills: int
    restarts: int
    restart_seconds: tuple[float, ...]  # from each launch to the first answer
    orphans_left: int  # processes that the agent had not ended
    leases_left: int
    bytes_left: int  # of the cgroup, above what it had before the first engine
    failures_logged: tuple[str, ...]  # the agent's own
    peak_used: int


class Storm:
    """One run. `run` may be called once.

    Args:
        script: what happens.
        sizes: of the device.
        module: the agent, `vram_agent` or one with another rule.
        folder: for the agent's socket and logs; empty.
        progress: called with the number of engines started so far.
    """

    def __init__(
        self, script: Script, sizes: Sizes, module: str, folder: Path, progress: Callable[[int], None]
    ) -> None:
        self.script = script
        self.sizes = sizes
        self.module = module
        self.folder = folder
        self.progress = progress
        self.socket = str(folder / "agent.sock")
        self.agent_log = folder / "agent.log"
        self.events = folder / "events.jsonl"
        self.cgroup = MemoryCgroup(f"hive-storm-{os.getpid()}", sizes.pool)
        self.env = {
            "PATH": os.environ["PATH"],
            "HIVE_AGENT_SOCKET": self.socket,
            "HIVE_AGENT_HOST": "127.0.0.1",
            "HIVE_AGENT_PORT": str(free_port()),
            "HIVE_DEVICE_KIND": "host",
            "HIVE_NODE_NAME": "storm",
            "HIVE_HEADROOM_MIB": str(sizes.headroom // MIB),
            "HIVE_SAFETY_MIB": str(sizes.safety // MIB),
        }
        self.agent: subprocess.Popen[bytes] | None = None
        self.agents: set[int] = set()
        self.children: list[subprocess.Popen[bytes]] = []
        self.engines_started = 0
        self.restart_seconds: list[float] = []
        self._actions: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def run(self) -> Outcome:
        """Everything from the cgroup to the figures.

        Raises:
            NoCgroupError: no memory cgroup can be had.
        """
        with self.cgroup, self._processes():
            self._start_agent()
            before = self.cgroup.used()
            began = time.monotonic()
            with Observer(self.cgroup, self.socket) as observer:
                self._play(began)
                self._wait(LAST_WORDS, lambda: all(child.poll() is not None for child in self.children))
                self._wait(ORPHANS, lambda: not self._strangers())
                orphans = self._strangers()
                for pid in orphans:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                self._wait(FORGOTTEN, lambda: not self._state()["leases"])
                leases_left = len(self._state()["leases"])
                left = self.cgroup.used() - before
            oom_kills = self.cgroup.oom_kills()
            seconds = time.monotonic() - began
        return Outcome(
            records=Records(
                tuple(self._read_events()), tuple(observer.facts), tuple(observer.seen), frozenset(self.agents)
            ),
            seconds=seconds,
            oom_kills=oom_kills,
            restarts=len(self.restart_seconds) - 1,
            restart_seconds=tuple(self.restart_seconds[1:]),
            orphans_left=len(orphans),
            leases_left=leases_left,
            bytes_left=left,
            failures_logged=tuple(self._failures()),
            peak_used=max(sample.used for sample in observer.facts),
        )

    # -- the script ------------------------------------------------------------------------------------------------

    def _play(self, began: float) -> None:
        for engine in self.script.engines:
            self._at(began + engine.at, functools.partial(self._start_engine, engine))
        for hog in self.script.hogs:
            self._at(began + hog.at, functools.partial(self._start_hog, hog))
        for restart in self.script.restarts:
            self._at(began + restart.at, functools.partial(self._kill_agent, restart))
        while self._actions:
            when, _, action = heapq.heappop(self._actions)
            time.sleep(max(0.0, when - time.monotonic()))
            action()
            self.progress(self.engines_started)

    def _at(self, when: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._actions, (when, next(self._order), action))

    def _start_engine(self, engine: Engine) -> None:
        plan = json.dumps(dataclasses.asdict(engine))
        self._python("benchmarks.vram_storm.engine", self.socket, str(self.events), plan)
        self.engines_started += 1

    def _start_hog(self, hog: Hog) -> None:
        process = self._python("benchmarks.vram_storm.hog", str(hog.size))
        self._at(time.monotonic() + hog.lasts, process.kill)

    def _python(self, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        """A small Python inside the cgroup: without site-packages it starts in a moment."""
        for child in self.children:
            child.poll()
        program = self.cgroup.program([sys.executable, "-E", "-S", "-m", module, *arguments], KILL_FIRST)
        self.children.append(subprocess.Popen(program, cwd=ROOT))
        return self.children[-1]

    # -- the agent -------------------------------------------------------------------------------------------------

    def _start_agent(self) -> None:
        began = time.monotonic()
        self._launch_agent()
        self._wait(AGENT_DEADLINE, self._answers)
        if not self._answers():
            raise RuntimeError(f"the agent does not answer:\n{self.agent_log.read_text()[-2000:]}")
        self.restart_seconds.append(time.monotonic() - began)

    def _kill_agent(self, restart: Restart) -> None:
        assert self.agent is not None
        self.agent.kill()
        self.agent.wait()
        self._at(time.monotonic() + restart.down, self._restart_agent)

    def _restart_agent(self) -> None:
        """Does not wait: the storm goes on while it starts."""
        began = time.monotonic()
        self._launch_agent()
        self._at(began, lambda: self._note_answer(began))

    def _note_answer(self, began: float) -> None:
        if self._answers():
            self.restart_seconds.append(time.monotonic() - began)
        elif time.monotonic() - began < AGENT_DEADLINE:
            self._at(time.monotonic() + 0.05, lambda: self._note_answer(began))
        else:
            raise RuntimeError(f"the agent did not come back:\n{self.agent_log.read_text()[-2000:]}")

    def _launch_agent(self) -> None:
        program = self.cgroup.program([sys.executable, "-m", self.module])
        with self.agent_log.open("ab") as log:
            self.agent = subprocess.Popen(program, cwd=ROOT, env=self.env, stdout=log, stderr=log)
        self.agents.add(self.agent.pid)

    def _state(self) -> Any:
        return unix_http.ask(self.socket, "GET", "/v1/state", timeout=5.0)[1]

    def _answers(self) -> bool:
        try:
            return bool(self._state())
        except (OSError, http.client.HTTPException):
            return False

    def _failures(self) -> Iterator[str]:
        """Lines of the agent's log that tell of a mistake of its own."""
        for line in self.agent_log.read_text(errors="replace").splitlines():
            if '"level": "ERROR"' in line or line.startswith(("Traceback", "ERROR")):
                yield line

    # -- the end ---------------------------------------------------------------------------------------------------

    def _strangers(self) -> list[int]:
        """What is inside beside the agent."""
        assert self.agent is not None
        return [pid for pid in self.cgroup.pids() if pid != self.agent.pid]

    def _wait(self, seconds: float, done: Callable[[], bool]) -> None:
        """Until it is done, or for so long: what is left then is a finding, not an error."""
        end = time.monotonic() + seconds
        while not done() and time.monotonic() < end:
            time.sleep(0.05)

    @contextlib.contextmanager
    def _processes(self) -> Iterator[None]:
        """At the end, whatever happened, none of ours lives and all are reaped."""
        try:
            yield
        finally:
            ours = [*self.children, *([self.agent] if self.agent else [])]
            for process in ours:
                process.kill()
            for process in ours:
                process.wait()

    def _read_events(self) -> Iterator[Event]:
        for line in self.events.read_text().splitlines():
            one = json.loads(line)
            detail = " ".join(str(one[key]) for key in ("asked", "status", "answer", "error", "why") if key in one)
            yield Event(one["t"], one["id"], one["event"], one["pid"], one.get("child"), detail)
