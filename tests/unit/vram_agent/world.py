"""A ledger on imaginary devices with imaginary processes: what tests of the ledger drive. Sizes are single bytes."""

from vram_agent.api import LeaseRequest, LeaseState
from vram_agent.ledger import Ledger
from vram_agent.records import DeviceInfo, Entry, Process, RefusedError, Sample

TOTAL = 100
RESERVED = 4
SAFETY = 6
HEADROOM = 10
LEASABLE = TOTAL - RESERVED - SAFETY - HEADROOM  # 80, while no more than the headroom is foreign
STALE_AFTER = 3.0
CLEAR_AFTER = 0.5
OUTSIDER = 7  # a PID that no lease knows


class World:
    """The ledger under test, and the truth that it learns through `observe` alone."""

    def __init__(self, *devices: str, sampled: bool = True) -> None:
        self.infos = [DeviceInfo(id=device, kind="nvml", name="GPU") for device in devices]
        self.new_ledger()
        self.now = 1000.0
        self.live: dict[Process, int] = {}  # to the parent's PID
        self.held: dict[str, dict[int, int]] = {device: {} for device in devices}  # bytes by PID, dead ones included
        self.failing: set[str] = set()
        self.hanging: set[str] = set()
        self.spawned = 100
        if sampled:
            self.observe()

    def new_ledger(self) -> None:
        """What an agent has when it starts."""
        self.ledger = Ledger(
            self.infos, safety=SAFETY, headroom=HEADROOM, stale_after=STALE_AFTER, patience=0, clear_after=CLEAR_AFTER
        )

    def spawn(self, parent: int = 1) -> Process:
        self.spawned += 1
        process = Process(pid=self.spawned, start=10 * self.spawned)
        self.live[process] = parent
        return process

    def kill(self, process: Process) -> None:
        """The process is gone; what it held is shown until `hold` says otherwise."""
        del self.live[process]

    def hold(self, device: str, pid: int, size: int) -> None:
        self.held[device][pid] = size

    def foreign(self, device: str, size: int) -> None:
        self.hold(device, OUTSIDER, size)

    def observe(self) -> list[Entry]:
        """One round of the agent, without what follows from it (`settle`)."""
        samples = {device: self._sample(device) for device in self.held if device not in self.hanging}
        return self.ledger.observe(samples, self.descendants, list(self.ledger.entries), self.now)

    def rounds(self) -> list[Entry]:
        """As many rounds as the end of a lease takes; all that ended."""
        first = self.observe()
        self.now += CLEAR_AFTER
        return first + self.observe()

    def settle(self) -> dict[str, str]:
        """What the agent does after every change; returns who was refused, and why."""
        self.ledger.promote(self.now)
        return {lease_id: refusal.error for lease_id, refusal in self.ledger.hopeless(self.now).items()}

    def request(self, lease_id: str, size: int, *devices: str, holder: Process | None = None) -> Entry:
        """A request of a new process, or of `holder`."""
        request = LeaseRequest(request_id=lease_id, model=lease_id, bytes=size, devices=devices)
        return self.ledger.request(request, holder or self.spawn(), self.now)

    def ask(self, lease_id: str, size: int, *devices: str, holder: Process | None = None) -> Entry:
        """A request that is STARTING when it could be granted at once.

        Raises:
            RefusedError: as the agent's caller gets it.
        """
        entry = self.request(lease_id, size, *devices, holder=holder)
        self.observe()
        self.ledger.promote(self.now)
        if (refusal := self.ledger.hopeless(self.now).get(lease_id)) is not None:
            raise RefusedError(refusal)
        return entry

    def serve(self, lease_id: str, size: int, *devices: str, holder: Process | None = None) -> Entry:
        """A lease that has been granted and has started."""
        entry = self.ask(lease_id, size, *devices, holder=holder)
        assert entry.state is LeaseState.STARTING
        return self.ledger.activate(lease_id, self.now)

    def _sample(self, device: str) -> Sample:
        if device in self.failing:
            return Sample(total=0, reserved=0, used=0, by_pid={}, taken=self.now, error="GPU is lost")
        by_pid = {pid: size for pid, size in self.held[device].items() if size}
        return Sample(total=TOTAL, reserved=RESERVED, used=sum(by_pid.values()), by_pid=by_pid, taken=self.now)

    def descendants(self, roots: set[Process]) -> set[Process]:
        """The live ones of them, and all that descend from those."""
        found = roots & self.live.keys()
        while more := {p for p, parent in self.live.items() if parent in {f.pid for f in found}} - found:
            found |= more
        return found
