"""A ledger on imaginary devices with imaginary processes: what tests of the ledger drive. Sizes are single bytes."""

from vram_agent.api import LeaseRequest, LeaseState
from vram_agent.ledger import DeviceInfo, Entry, Ledger, Process, Sample

TOTAL = 100
RESERVED = 4
SAFETY = 6
HEADROOM = 10
LEASABLE = TOTAL - RESERVED - SAFETY - HEADROOM  # 80, while no more than the headroom is foreign
STALE_AFTER = 3.0
OUTSIDER = 7  # a PID that no lease knows


class World:
    """The ledger under test, and the truth that it learns through `observe` alone."""

    def __init__(self, *devices: str) -> None:
        infos = [DeviceInfo(id=device, kind="nvml", name="GPU") for device in devices]
        self.ledger = Ledger(infos, safety=SAFETY, headroom=HEADROOM, stale_after=STALE_AFTER)
        self.now = 1000.0
        self.live: dict[Process, int] = {}  # to the parent's PID
        self.held: dict[str, dict[int, int]] = {device: {} for device in devices}  # bytes by PID, dead ones included
        self.failing: set[str] = set()
        self.spawned = 100
        self.observe()

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
        return self.ledger.observe({device: self._sample(device) for device in self.held}, self._descendants, self.now)

    def settle(self) -> dict[str, str]:
        """What the agent does after every change; returns who was refused, and why."""
        self.ledger.promote(self.now)
        return {lease_id: refusal.error for lease_id, refusal in self.ledger.hopeless(self.now).items()}

    def request(self, lease_id: str, size: int, *devices: str, holder: Process | None = None) -> Entry:
        """A request of a new process, or of `holder`."""
        request = LeaseRequest(request_id=lease_id, model=lease_id, bytes=size, devices=devices)
        return self.ledger.request(request, holder or self.spawn(), self.now)

    def ask(self, lease_id: str, size: int, *devices: str, holder: Process | None = None) -> Entry:
        """A request that is STARTING when it could be granted at once."""
        entry = self.request(lease_id, size, *devices, holder=holder)
        self.settle()
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

    def _descendants(self, roots: set[Process]) -> set[Process]:
        found = roots & self.live.keys()
        while more := {p for p, parent in self.live.items() if parent in {f.pid for f in found}} - found:
            found |= more
        return found
