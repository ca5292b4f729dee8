"""What the checks share: the GPU, the agent, the engines, and how the bytes of one engine are read."""

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.gpu_check.nvml import Gpu
from benchmarks.gpu_check.processes import ANSWER, Agent, BrokenError, Engine
from serve_app.pinning import gpu_environment
from vram_agent.api import GIB, MIB, Device, Event, EventKind, Lease, State

LEAST_BUDGET = 5 * GIB // 4  # the CUDA context, and some blocks and matrices beside it
MOST_BUDGET = 6 * GIB
SHARE = 5  # a budget is this part of what is free: three engines, foreign memory, and room to go beyond


@dataclass(frozen=True)
class Finding:
    """One check's result: a sentence with its figures, and the figures by name, bytes and seconds."""

    ok: bool
    text: str
    figures: dict[str, Any] = field(default_factory=dict)


class Context:
    """Grows from check to check; `end` ends all that was started.

    Args:
        gpu: the one to use.
        folder: for sockets and logs; its path is short enough for a socket's.
    """

    def __init__(self, gpu: Gpu, folder: Path) -> None:
        self.gpu = gpu
        self.folder = folder
        self.before = gpu.used()  # by others
        self.engines: dict[str, Engine] = {}
        self.budget = 0
        self.listed = False  # NVML's PIDs are those of /proc
        self.cuda_context: dict[str, int] = {}  # bytes, by when they were measured
        self._agent: Agent | None = None
        self._offsets: dict[str, int] = {}

    # -- the agent -------------------------------------------------------------------------------------------------

    def start_agent(self, headroom: int, safety: int) -> float:
        """Seconds that it took."""
        agent = Agent(self.folder, headroom // MIB, safety // MIB)
        try:
            seconds = agent.start()
        except BaseException:
            agent.kill()
            raise
        self._agent = agent
        return seconds

    @property
    def agent(self) -> Agent:
        if self._agent is None:
            raise BrokenError("not made: there is no agent")
        return self._agent

    def state(self) -> State:
        return self.agent.state()

    def device(self, state: State | None = None) -> Device:
        """The GPU in this state, or as it is now."""
        for device in (state or self.state()).devices:
            if device.id == self.gpu.uuid:
                return device
        raise BrokenError(f"the agent does not show {self.gpu.uuid}")

    def lease(self, name: str) -> Lease | None:
        return next((lease for lease in self.state().leases if lease.model == name), None)

    def sampled_again(self) -> State:
        """The state after two rounds that began since the call: the second one saw all that was true then."""
        found = self.state()
        for _ in range(2):
            before = self.device(found).sampled
            end = time.monotonic() + ANSWER
            while self.device(found).sampled <= before:
                if time.monotonic() > end:
                    raise BrokenError("the agent takes no samples")
                time.sleep(0.02)
                found = self.state()
        return found

    def events_since(self, moment: float, kind: EventKind) -> list[Event]:
        """`moment` is in seconds since 1970."""
        return [event for event in self.state().events if event.kind is kind and event.time >= moment]

    # -- engines ---------------------------------------------------------------------------------------------------

    def new_engine(self, name: str, *, leased: bool = True) -> Engine:
        self.engines[name] = Engine(name, self.folder, self.agent.socket if leased else None)
        return self.engines[name]

    def engine(self, name: str) -> Engine:
        """One that runs.

        Raises:
            BrokenError: it does not.
        """
        found = self.engines.get(name)
        if found is None or not found.opened:
            raise BrokenError(f"not made: the engine {name} does not run")
        return found

    def request(self, name: str, size: int) -> dict[str, Any]:
        return {"request_id": uuid.uuid4().hex, "model": name, "bytes": size, "devices": [self.gpu.uuid]}

    def start(self, engine: Engine) -> None:
        """The engine of a lease, pinned and capped as a replica's."""
        self._offsets[engine.name] = self.gpu.used()
        engine.start(pin(self.device(), self.budget))

    def start_unleased(self, engine: Engine) -> None:
        self._offsets[engine.name] = self.gpu.used()
        engine.start({"CUDA_VISIBLE_DEVICES": self.gpu.uuid})

    def drop(self, name: str) -> None:
        if name in self.engines:
            self.engines.pop(name).end()

    # -- bytes -----------------------------------------------------------------------------------------------------

    def bytes_of(self, engine: Engine) -> int:
        """What the engine's process holds: as NVML lists it, or, where it lists none, what the GPU holds more than
        before its start. That is right only while nobody else's memory changes; see `rebase`."""
        if self.listed:
            return self.gpu.by_pid().get(engine.pid) or 0
        return max(0, self.gpu.used() - self._offsets[engine.name])

    def rebase(self, engine: Engine) -> Callable[[], int]:
        """`bytes_of` from now on, after others came and went. Where NVML does not list the engine, it now holds what
        torch says, and a context as large as the first engine's."""
        if not self.listed:
            if not self.cuda_context:
                raise BrokenError("not made: the first engine was not measured")
            size = engine.line.ask("stats")["reserved"] + max(self.cuda_context.values())
            self._offsets[engine.name] = self.gpu.used() - size
        return lambda: self.bytes_of(engine)

    @property
    def how(self) -> str:
        return "" if self.listed else " (by the whole GPU's figure: NVML does not list it)"

    def end(self) -> None:
        for name in list(self.engines):
            self.drop(name)
        if self._agent is not None:
            self._agent.kill()


def pin(device: Device, budget: int) -> dict[str, str]:
    """What a replica's engine gets of CUDA and torch; a test compares it with serve_app.model.pin."""
    return gpu_environment((device.id,), device, budget)
