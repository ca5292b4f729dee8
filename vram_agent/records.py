"""What the ledger is made of: processes, samples, devices and the leases themselves. Data alone."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from vram_agent.api import Enforcement, LeaseState, Refusal


@dataclass(frozen=True)
class Process:
    """A process, told from a later one with the same PID by its start time (clock ticks since boot)."""

    pid: int
    start: int


@dataclass(frozen=True)
class Sample:
    """One reading of one device, bytes. `by_pid` holds what is known of each process; `used` is the whole device's,
    without `reserved`. An `error` means that the figures can't be trusted and nothing may be granted."""

    total: int
    reserved: int
    used: int
    by_pid: Mapping[int, int]
    taken: float
    error: str | None = None


NO_SAMPLE = Sample(total=0, reserved=0, used=0, by_pid={}, taken=0.0, error="not sampled yet")


@dataclass
class Entry:
    """A lease in the ledger.

    `processes` is the holder and every descendant that was ever seen and still lives. `departed` are the PIDs of those
    that are gone, with the time at which a device last showed bytes of theirs or they were last alive: drivers free
    memory some time after the exit.
    """

    id: str
    model: str
    bytes: int
    devices: tuple[str, ...]
    holder: Process
    since: float
    state: LeaseState = LeaseState.PENDING
    planned: int = 0
    fingerprint: str | None = None
    group: int = 0  # the holder's process group, to know children that it had for a moment before it died
    cgroup: str | None = None  # the holder's container, for limits that the driver sets
    processes: set[Process] = field(default_factory=set)
    departed: dict[int, float] = field(default_factory=dict)
    used: dict[str, int] = field(default_factory=dict)
    residual: dict[str, int] = field(default_factory=dict)  # from falling asleep to waking: what it keeps
    told: bool = False  # its holder has got the answer to its request
    observed: bool = False  # a round has looked at its processes since it asked
    unfit_since: float | None = None  # there has been too little room for it from then on
    admitted: bool = False  # it would have fitted once what was leaving had left; it may wait while anything moves

    @property
    def pids(self) -> set[int]:
        """PIDs whose memory is the lease's."""
        return {process.pid for process in self.processes} | self.departed.keys()

    def granted(self, device: str) -> int:
        """Bytes of the device that are its own: all, unless it sleeps or left while it slept."""
        return self.bytes if self.state is LeaseState.STARTING else self.residual.get(device, self.bytes)

    def need(self, device: str) -> int:
        """Bytes that it would take from the device with its whole budget."""
        return max(self.bytes, self.used.get(device, 0))

    def charge(self, device: str) -> int:
        """Bytes that it takes from the device: what it was granted, or more where it holds more."""
        return max(self.granted(device), self.used.get(device, 0))


class RefusedError(Exception):
    """No lease; `refusal` has the figures."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.error)
        self.refusal = refusal


@dataclass(frozen=True)
class DeviceInfo:
    """What never changes while the agent runs. `lost` says why the device can't even be sampled, if so."""

    id: str
    kind: str
    name: str
    enforcement: Enforcement = Enforcement.NONE
    lost: str | None = None
