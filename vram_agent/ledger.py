"""The ledger: which lease owns which bytes of which device. Pure: no clock, no files, no processes of its own.

The invariant, for every device, in bytes, checked at every grant:

    sum(live leases) + max(foreign, headroom) <= total - reserved - safety

A lease is live from STARTING until its processes are gone and the device no longer shows their bytes. A PENDING lease
owns nothing yet: it is a place in the queue, given only to a request that fits once the leases that are leaving have
left. `free - pending` is never computed: what the driver calls free moves while engines load and exit
(races between two starting engines: vllm#55827, vllm#56830).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from vram_agent.api import Device, Foreign, Lease, LeaseRequest, LeaseState, Refusal, human

LEAVING = frozenset({LeaseState.DRAINING, LeaseState.ORPHANED})
LIVE = frozenset({LeaseState.STARTING, LeaseState.ACTIVE}) | LEAVING


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


@dataclass
class Entry:
    """A lease in the ledger.

    `processes` is the holder and every descendant that was ever seen and still lives. `departed` are PIDs of processes
    that are gone while a device still shows bytes of theirs: drivers free memory some time after the exit.
    """

    id: str
    model: str
    bytes: int
    devices: tuple[str, ...]
    holder: Process
    since: float
    state: LeaseState = LeaseState.PENDING
    processes: set[Process] = field(default_factory=set)
    departed: set[int] = field(default_factory=set)
    used: dict[str, int] = field(default_factory=dict)

    def charge(self, device: str) -> int:
        """Bytes that this lease takes from the device: its budget, or more where it holds more."""
        return max(self.bytes, self.used.get(device, 0))


class RefusedError(Exception):
    """No lease; `refusal` has the figures."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.error)
        self.refusal = refusal


@dataclass(frozen=True)
class DeviceInfo:
    """What never changes while the agent runs."""

    id: str
    kind: str
    name: str


class Ledger:
    """Leases and the last sample of each device.

    Args:
        devices: the devices of this node.
        safety: bytes of each device that are never granted.
        headroom: bytes of each device kept for memory without a lease.
        stale_after: seconds after which a sample no longer counts, and grants stop.
    """

    def __init__(self, devices: Iterable[DeviceInfo], *, safety: int, headroom: int, stale_after: float) -> None:
        self.devices = {device.id: device for device in devices}
        self.safety = safety
        self.headroom = headroom
        self.stale_after = stale_after
        self.entries: dict[str, Entry] = {}
        self.samples: dict[str, Sample] = {}

    # -- questions ---------------------------------------------------------------------------------------------

    def foreign(self, device: str) -> int:
        """Bytes in use on the device that belong to no live lease; a waiter's are foreign until its turn comes."""
        sample = self.samples[device]
        return max(0, sample.used - sum(sample.by_pid.get(pid, 0) for pid in self._ours(device)))

    def allocatable(self, device: str) -> int:
        """Bytes that leases can have in all on this device now."""
        sample = self.samples[device]
        return sample.total - sample.reserved - self.safety - max(self.foreign(device), self.headroom)

    def charged(self, device: str, states: frozenset[LeaseState]) -> int:
        """Bytes of the device that leases in these states take."""
        return sum(
            entry.charge(device) for entry in self.entries.values() if device in entry.devices and entry.state in states
        )

    def free(self, device: str) -> int:
        """Bytes that a new lease can get now. Negative when foreign memory grew past the headroom."""
        return self.allocatable(device) - self.charged(device, LIVE)

    def trouble(self, device: str, now: float) -> str | None:
        """Why nothing may be granted on this device, or None."""
        sample = self.samples.get(device)
        if sample is None:
            return "not sampled yet"
        if sample.error:
            return sample.error
        if now - sample.taken > self.stale_after:
            return f"the last sample is {now - sample.taken:.1f} s old (limit {self.stale_after:.1f} s)"
        return None

    def holders(self, device: str) -> tuple[str, ...]:
        """What holds the device's bytes, largest first, in words."""
        found = [
            (entry.charge(device), f"{entry.model} ({entry.state}, pid {entry.holder.pid})")
            for entry in self.entries.values()
            if device in entry.devices
        ]
        foreign = self.foreign(device)
        if foreign > self.headroom:
            found.append((foreign, "processes without a lease"))
        elif self.headroom:
            found.append((self.headroom, "headroom"))
        return tuple(f"{human(size)} {who}" for size, who in sorted(found, key=lambda pair: -pair[0]))

    # -- changes -----------------------------------------------------------------------------------------------

    def request(self, request: LeaseRequest, holder: Process, now: float) -> Entry:
        """Queue a lease for `holder`, or return the one that this request id already has.

        Raises:
            RefusedError: a device is unknown or can't be read, or the bytes would not fit even after every leaving
                lease has left.
        """
        if (known := self.entries.get(request.request_id)) is not None:
            return known
        for device in request.devices:
            if device not in self.devices:
                raise RefusedError(
                    Refusal(error=f"device {device} is not on this node; it has {', '.join(self.devices)}")
                )
            if reason := self.trouble(device, now):
                raise RefusedError(Refusal(error=f"device {device} grants nothing: {reason}", device=device))
            staying = self.charged(device, frozenset(LeaseState) - LEAVING)
            self._check_fits(request.model, request.bytes, device, self.allocatable(device) - staying)
        entry = Entry(
            id=request.request_id,
            model=request.model,
            bytes=request.bytes,
            devices=tuple(sorted(set(request.devices))),
            holder=holder,
            since=now,
            processes={holder},
        )
        self.entries[entry.id] = entry
        return entry

    def promote(self, now: float) -> None:
        """Move every PENDING lease whose turn has come to STARTING: in order of arrival, one start a device.

        A lease never overtakes an earlier one that waits for the same device, so none starves. What has nothing left
        to wait for is taken out by `hopeless`.
        """
        blocked = {device for e in self.entries.values() if e.state is LeaseState.STARTING for device in e.devices}
        for entry in self._pending():
            ready = all(
                device not in blocked and self.trouble(device, now) is None and self.free(device) >= entry.bytes
                for device in entry.devices
            )
            if ready:
                entry.state = LeaseState.STARTING
                entry.since = now
            blocked.update(entry.devices)

    def hopeless(self, now: float) -> dict[str, Refusal]:
        """PENDING leases that nothing can help any more: no start and no leaving lease to wait for, no earlier waiter,
        and still not enough bytes. They are taken out; the reasons are returned by lease id."""
        refused: dict[str, Refusal] = {}
        waited_for: set[str] = set()
        for entry in self._pending():
            for device in entry.devices:
                moving = any(
                    device in other.devices and other.state in LEAVING | {LeaseState.STARTING}
                    for other in self.entries.values()
                )
                if reason := self.trouble(device, now):
                    refused[entry.id] = Refusal(error=f"device {device} grants nothing: {reason}", device=device)
                elif not moving and device not in waited_for:
                    try:
                        self._check_fits(entry.model, entry.bytes, device, self.free(device))
                    except RefusedError as refusal:
                        refused[entry.id] = refusal.refusal
            waited_for.update(entry.devices)
        for lease_id in refused:
            del self.entries[lease_id]
        return refused

    def activate(self, lease_id: str, now: float) -> Entry:
        """The engine has started and was measured: the next start on its devices may begin.

        Raises:
            KeyError: no such lease.
        """
        entry = self.entries[lease_id]
        if entry.state is LeaseState.STARTING:
            entry.state = LeaseState.ACTIVE
            entry.since = now
        return entry

    def drain(self, lease_id: str, now: float) -> None:
        """The holder gives the lease back. Its bytes stay charged until `observe` sees them gone.

        Raises:
            KeyError: no such lease.
        """
        entry = self.entries[lease_id]
        if entry.state is LeaseState.PENDING:
            del self.entries[lease_id]
        elif entry.state not in LEAVING:
            entry.state = LeaseState.DRAINING
            entry.since = now

    def observe(
        self, samples: Mapping[str, Sample], descendants: Callable[[set[Process]], set[Process]], now: float
    ) -> list[Entry]:
        """Take in a round of samples and what lives.

        Args:
            samples: by device id.
            descendants: the live ones of the given processes, and all that descend from them.
            now: seconds.

        Returns:
            Leases that ended: no process left, and no byte of theirs on any of their devices.
        """
        self.samples.update(samples)
        ended = []
        for entry in list(self.entries.values()):
            before = entry.processes
            entry.processes = descendants(before)
            if entry.holder not in entry.processes and entry.state is not LeaseState.ORPHANED:
                if entry.state is LeaseState.PENDING:
                    del self.entries[entry.id]
                    continue
                entry.state = LeaseState.ORPHANED
                entry.since = now
            readings = {d: s.by_pid for d in entry.devices if (s := self.samples.get(d)) and s.error is None}
            entry.departed |= {process.pid for process in before - entry.processes}
            pids = entry.departed | {process.pid for process in entry.processes}
            entry.used |= {d: sum(by_pid.get(pid, 0) for pid in pids) for d, by_pid in readings.items()}
            if len(readings) < len(entry.devices):
                continue  # a sample with an error says nothing, so nothing is released on it
            entry.departed = {pid for pid in entry.departed if any(by_pid.get(pid, 0) for by_pid in readings.values())}
            if not entry.processes and not entry.departed:
                del self.entries[entry.id]
                ended.append(entry)
        return ended

    # -- views -------------------------------------------------------------------------------------------------

    def device_views(self, now: float, names: Mapping[int, str]) -> tuple[Device, ...]:
        """The devices for the API. `names` gives process names by PID, as far as they are known."""
        views = []
        for device in self.devices.values():
            sample = self.samples.get(device.id)
            if sample is None:
                continue
            ours = self._ours(device.id)
            views.append(
                Device(
                    id=device.id,
                    kind=device.kind,
                    name=device.name,
                    total=sample.total,
                    reserved=sample.reserved,
                    safety=self.safety,
                    headroom=self.headroom,
                    foreign=self.foreign(device.id),
                    leased=self.charged(device.id, LIVE),
                    free=self.free(device.id),
                    processes=tuple(
                        Foreign(pid=pid, name=names.get(pid, "?"), bytes=size)
                        for pid, size in sorted(sample.by_pid.items(), key=lambda pair: -pair[1])
                        if pid not in ours
                    ),
                    sampled=sample.taken,
                    error=self.trouble(device.id, now),
                )
            )
        return tuple(views)

    def lease_view(self, entry: Entry) -> Lease:
        """One lease for the API."""
        return Lease(
            id=entry.id,
            model=entry.model,
            state=entry.state,
            bytes=entry.bytes,
            devices=entry.devices,
            pid=entry.holder.pid,
            pids=tuple(sorted(process.pid for process in entry.processes)),
            used={device: entry.used.get(device, 0) for device in entry.devices},
            since=entry.since,
        )

    # -- inside ------------------------------------------------------------------------------------------------

    def _ours(self, device: str) -> set[int]:
        """PIDs of the live leases on the device: a set, because one process can hold two leases."""
        live = [entry for entry in self.entries.values() if entry.state in LIVE and device in entry.devices]
        return {p.pid for entry in live for p in entry.processes} | {pid for entry in live for pid in entry.departed}

    def _pending(self) -> list[Entry]:
        """The queue, in order of arrival (dicts keep it)."""
        return [entry for entry in self.entries.values() if entry.state is LeaseState.PENDING]

    def _check_fits(self, model: str, asked: int, device: str, free: int) -> None:
        if asked <= free:
            return
        holders = self.holders(device)
        total = self.samples[device].total
        error = (
            f"{model} asked for {human(asked)} ({asked} bytes) of {device}; {human(free)} ({free} bytes) can be had "
            f"of {human(total)}; held by: {', '.join(holders) or 'nobody'}"
        )
        raise RefusedError(Refusal(error=error, device=device, asked=asked, free=free, holders=holders))
