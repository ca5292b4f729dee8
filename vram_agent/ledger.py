"""The ledger: which lease owns which bytes of which device. Pure: no clock, no files, no processes of its own.

The invariant, for every device, in bytes, checked at every grant:

    sum(live leases) + max(foreign, headroom) <= total - reserved - safety

A lease is live from STARTING until its processes are gone and the device no longer shows their bytes. A PENDING lease
owns nothing yet: it is a place in the queue, kept only while it would fit once the leases that are leaving have left.
`free - pending` is never computed: what the driver calls free moves while engines load and exit
(races between two starting engines: vllm#55827, vllm#56830).

A grant over several devices is one step of this object, so it is all or none, and no order of locks can be wrong.
"""

from collections.abc import Callable, Collection, Iterable, Mapping

from vram_agent.api import Claim, LeaseRequest, LeaseState, Reason, Refusal, human
from vram_agent.records import NO_SAMPLE, DeviceInfo, Entry, Process, RefusedError, Sample

LEAVING = frozenset({LeaseState.DRAINING, LeaseState.ORPHANED})
LIVE = frozenset({LeaseState.STARTING, LeaseState.ACTIVE, LeaseState.SLEEPING}) | LEAVING
QUEUE_LIMIT = 256  # waiters; more than that is a client that asks without end
# Seconds after which a leaving lease is taken for one that stays: nobody waits for a process that does not end.
LEAVING_PATIENCE = 120.0
OVERHEADS_LIMIT = 1000  # fingerprints remembered


class Ledger:
    """Leases, the queue for them, and the last sample of each device.

    Args:
        devices: the devices of this node.
        safety: bytes of each device that are never granted.
        headroom: bytes of each device kept for memory without a lease.
        stale_after: seconds after which a sample no longer counts, and grants stop.
        patience: seconds in which a request must find no room until it is refused. Memory of a process that ends is for
            a moment nobody's, and so counts as foreign beside the bytes of its lease.
        clear_after: seconds in which no sample may show a byte of a dead process until it is forgotten, and with the
            last one its lease. Drivers can take a process off their list before they have freed its memory.
    """

    def __init__(
        self,
        devices: Iterable[DeviceInfo],
        *,
        safety: int,
        headroom: int,
        stale_after: float,
        patience: float,
        clear_after: float,
    ) -> None:
        self.devices = {device.id: device for device in devices}
        self.safety = safety
        self.headroom = headroom
        self.stale_after = stale_after
        self.patience = patience
        self.clear_after = clear_after
        self.entries: dict[str, Entry] = {}
        self.queue: list[str] = []  # ids of PENDING leases and of SLEEPING ones that want to wake, in order of arrival
        self.samples: dict[str, Sample] = {}
        self.overheads: dict[str, int] = {}
        self.held_until = 0.0  # no grant before this time: holders of lost leases may still speak up
        self.broken: str | None = None  # why no device grants anything

    # -- questions ---------------------------------------------------------------------------------------------

    def sample(self, device: str) -> Sample:
        """The last one of the device, or one that says that there is none."""
        return self.samples.get(device, NO_SAMPLE)

    def ours(self, device: str) -> set[int]:
        """PIDs of the live leases on the device: a set, because one process can hold two leases."""
        return {pid for entry in self._live(device) for pid in entry.pids}

    def foreign(self, device: str, besides: Entry | None = None) -> int:
        """Bytes in use on the device that belong to no live lease, nor to `besides`. To all others, the memory of a
        waiter is foreign until its turn comes."""
        sample = self.sample(device)
        ours = self.ours(device) | (besides.pids if besides else set())
        return max(0, sample.used - sum(sample.by_pid.get(pid, 0) for pid in ours))

    def allocatable(self, device: str, besides: Entry | None = None) -> int:
        """Bytes that leases can have in all on this device now."""
        sample = self.sample(device)
        foreign = max(self.foreign(device, besides), self.headroom)
        return sample.total - sample.reserved - self.safety - foreign

    def charged(self, device: str, besides: Entry | None = None) -> int:
        """Bytes of the device that live leases other than `besides` take."""
        return sum(entry.charge(device) for entry in self._live(device) if entry is not besides)

    def free(self, device: str) -> int:
        """Bytes that a new lease can get now. Negative when the device is over."""
        return self.allocatable(device) - self.charged(device)

    def trouble(self, device: str, now: float) -> str | None:
        """Why nothing may be granted on this device, or None."""
        sample = self.sample(device)
        if reason := self.broken or self.devices[device].lost or sample.error:
            return reason
        if now - sample.taken > self.stale_after:
            return f"the last sample is {now - sample.taken:.1f} s old (limit {self.stale_after:.1f} s)"
        return None

    def holders(self, device: str, besides: Entry | None = None) -> tuple[str, ...]:
        """What holds the device's bytes, largest first, in words."""
        found = [
            (entry.charge(device), f"{entry.model} ({entry.state}, pid {entry.holder.pid})")
            for entry in self.entries.values()
            if device in entry.devices and entry is not besides
        ]
        foreign = self.foreign(device, besides)
        if foreign > self.headroom:
            found.append((foreign, "processes without a lease"))
        elif self.headroom:
            found.append((self.headroom, "headroom"))
        return tuple(f"{human(size)} {who}" for size, who in sorted(found, key=lambda pair: -pair[0]))

    # -- what holders ask ----------------------------------------------------------------------------------------

    def request(self, request: LeaseRequest, holder: Process, now: float) -> Entry:
        """Queue a lease for `holder`, or return the one that this request id already has.

        Raises:
            RefusedError: a device is unknown, the queue is full, or this request id means something else.
        """
        if (known := self.entries.get(request.request_id)) is not None:
            self._check_same(known, request, holder)
            return known
        entry = self._entry(request, holder, now)
        self._enqueue(entry)
        self.entries[entry.id] = entry
        return entry

    def claim(self, claim: Claim, holder: Process, now: float) -> Entry:
        """Take back a lease that a lost ledger had granted. It is taken even where the bytes do not fit any more: they
        are in use, and a device that is over grants nothing.

        Raises:
            RefusedError: a device is unknown, or this request id means something else.
        """
        if (known := self.entries.get(claim.request_id)) is not None:
            self._check_same(known, claim, holder)
            return known
        entry = self._entry(claim, holder, now)
        entry.state = claim.state
        entry.told = True
        self.entries[entry.id] = entry
        return entry

    def activate(self, lease_id: str, now: float) -> Entry:
        """The engine has started and was measured: the next start on its devices may begin.

        Raises:
            KeyError: no such lease.
        """
        entry = self.entries[lease_id]
        if entry.state is LeaseState.STARTING:
            self._move(entry, LeaseState.ACTIVE, now)
            self._learn(entry)
        return entry

    def sleep(self, lease_id: str, now: float) -> Entry:
        """The engine has given memory back: from now on the lease keeps what it was last seen to hold.

        Raises:
            KeyError: no such lease.
            RefusedError: it is not ACTIVE.
        """
        entry = self.entries[lease_id]
        if entry.state not in {LeaseState.ACTIVE, LeaseState.SLEEPING}:
            raise RefusedError(
                Refusal(reason=Reason.CONFLICT, error=f"lease {lease_id} is {entry.state}; only ACTIVE ones can sleep")
            )
        if entry.state is LeaseState.ACTIVE:
            self._move(entry, LeaseState.SLEEPING, now)
            entry.residual = {device: entry.used.get(device, entry.bytes) for device in entry.devices}
        return entry

    def wake(self, lease_id: str) -> Entry:
        """Queue a sleeping lease for its whole budget: bytes first, then the engine (vllm PR 34600: an engine that
        wakes into too little memory can't go back).

        Raises:
            KeyError: no such lease.
            RefusedError: it is leaving, or the queue is full.
        """
        entry = self.entries[lease_id]
        if entry.state in LEAVING:
            raise RefusedError(Refusal(reason=Reason.CONFLICT, error=f"lease {lease_id} is {entry.state}"))
        if entry.state is LeaseState.SLEEPING and entry.id not in self.queue:
            self._enqueue(entry)
            entry.told = False
        return entry

    def drain(self, lease_id: str, now: float) -> None:
        """The holder gives the lease back. Its bytes stay charged until `observe` sees them gone.

        Raises:
            KeyError: no such lease.
        """
        entry = self.entries[lease_id]
        if entry.state is LeaseState.PENDING:
            self._remove(entry)
        elif entry.state not in LEAVING:
            self._move(entry, LeaseState.DRAINING, now)

    def give_up(self, lease_id: str, now: float) -> None:
        """Nobody waits any more for the answer to a request. What was granted meanwhile is undone: the holder never
        heard of it."""
        entry = self.entries.get(lease_id)
        if entry is None or entry.told:
            return
        if entry.state is LeaseState.SLEEPING:
            self._leave_queue(entry)
        elif entry.state is LeaseState.STARTING and entry.residual:
            self._move(entry, LeaseState.SLEEPING, now)
        elif entry.state in {LeaseState.PENDING, LeaseState.STARTING}:
            self._remove(entry)

    # -- what time brings ----------------------------------------------------------------------------------------

    def promote(self, now: float) -> list[Entry]:
        """Move every waiter whose turn has come to STARTING: in order of arrival, one start a device.

        A waiter never overtakes an earlier one that waits for the same device, so none starves. What has nothing left
        to wait for is taken out by `hopeless`.
        """
        if now < self.held_until:
            return []
        blocked = {device for e in self.entries.values() if e.state is LeaseState.STARTING for device in e.devices}
        promoted = []
        for entry in self._waiting():
            if entry.observed and all(
                device not in blocked
                and self.trouble(device, now) is None
                and self.allocatable(device, entry) - self.charged(device, entry) >= entry.need(device)
                for device in entry.devices
            ):
                self.queue.remove(entry.id)
                self._move(entry, LeaseState.STARTING, now)
                promoted.append(entry)
            blocked.update(entry.devices)
        return promoted

    def demote(self, promoted: Iterable[Entry]) -> None:
        """Undo a promotion that nobody has heard of yet."""
        for entry in promoted:
            entry.state = LeaseState.SLEEPING if entry.residual else LeaseState.PENDING
            self.queue.insert(0, entry.id)

    def hopeless(self, now: float) -> dict[str, Refusal]:
        """Waiters that would not fit even when every leaving lease has left and every earlier waiter got its bytes, or
        whose device can't be trusted. They leave the queue; the reasons are returned by lease id.

        One that would have fitted when it came is not sent away by memory that has grown meanwhile, as long as it has
        to wait anyway: for a start, for a leaving lease, or for an earlier waiter."""
        refused: dict[str, Refusal] = {}
        promised: dict[str, int] = dict.fromkeys(self.devices, 0)
        for entry in self._waiting():
            refusal = self._hopeless(entry, promised, now)
            if refusal is not None:
                refused[entry.id] = refusal
                if entry.state is LeaseState.PENDING:
                    self._remove(entry)
                else:
                    self._leave_queue(entry)
                continue
            # One that finds no room is about to leave; who comes after it is not judged by what it asked for.
            for device in entry.devices if entry.unfit_since is None else ():
                promised[device] += entry.need(device) - (entry.charge(device) if entry.state in LIVE else 0)
        return refused

    def observe(
        self,
        samples: Mapping[str, Sample],
        descendants: Callable[[set[Process]], set[Process]],
        among: Collection[str],
        now: float,
    ) -> list[Entry]:
        """Take in one round: processes that were listed, and then samples that were taken.

        Args:
            samples: by device id; devices that could not be sampled in time are missing.
            descendants: the live ones of the given processes, and all that descend from them.
            among: ids of the leases that existed when the processes were listed; nothing is known of newer ones.
            now: seconds.

        Returns:
            Leases that ended: no process left, and no byte of theirs on any of their devices.
        """
        self.samples |= samples
        ended = []
        for entry in [self.entries[lease_id] for lease_id in among if lease_id in self.entries]:
            before = entry.processes
            entry.processes = descendants(before)
            if entry.holder not in entry.processes and entry.state is not LeaseState.ORPHANED:
                if entry.state is LeaseState.PENDING:
                    self._remove(entry)
                    continue
                self._move(entry, LeaseState.ORPHANED, now)
            entry.departed |= {process.pid: now for process in before - entry.processes}
            readings = {
                device: sample.by_pid
                for device in entry.devices
                if (sample := samples.get(device)) is not None and sample.error is None
            }
            pids = entry.pids
            entry.used |= {d: sum(by_pid.get(pid, 0) for pid in pids) for d, by_pid in readings.items()}
            self._learn(entry)
            if any(device not in readings and not self.devices[device].lost for device in entry.devices):
                continue  # a device that was not read says nothing, so nothing is released on it
            entry.observed = True
            shown = {pid for by_pid in readings.values() for pid, size in by_pid.items() if size}
            last_shown = {pid: now if pid in shown else then for pid, then in entry.departed.items()}
            entry.departed = {pid: then for pid, then in last_shown.items() if now - then < self.clear_after}
            if not entry.processes and not entry.departed:
                self._remove(entry)
                ended.append(entry)
        return ended

    # -- inside ------------------------------------------------------------------------------------------------

    def _live(self, device: str) -> list[Entry]:
        return [entry for entry in self.entries.values() if entry.state in LIVE and device in entry.devices]

    def _waiting(self) -> list[Entry]:
        return [self.entries[lease_id] for lease_id in self.queue]

    def _entry(self, request: LeaseRequest, holder: Process, now: float) -> Entry:
        for device in request.devices:
            if device not in self.devices:
                error = f"device {device} is not on this node; it has {', '.join(self.devices)}"
                raise RefusedError(Refusal(reason=Reason.DEVICE, error=error, device=device))
        return Entry(
            id=request.request_id,
            model=request.model,
            bytes=request.bytes,
            devices=tuple(sorted(set(request.devices))),
            holder=holder,
            since=now,
            planned=request.planned,
            fingerprint=request.fingerprint,
            processes={holder},
        )

    def _check_same(self, known: Entry, request: LeaseRequest, holder: Process) -> None:
        if known.holder != holder:
            error = f"request {known.id} belongs to process {known.holder.pid}, not to {holder.pid}"
        elif known.state in LEAVING:
            error = f"the lease of request {known.id} is {known.state}; a new one needs a new request id"
        elif (known.model, known.bytes, set(known.devices)) != (request.model, request.bytes, set(request.devices)):
            error = (
                f"request {known.id} already stands for {known.bytes} bytes of {', '.join(known.devices)} "
                f"for {known.model}; another lease needs another request id"
            )
        else:
            return
        raise RefusedError(Refusal(reason=Reason.CONFLICT, error=error))

    def _enqueue(self, entry: Entry) -> None:
        if len(self.queue) >= QUEUE_LIMIT:
            error = f"{len(self.queue)} requests wait already, and the queue takes no more"
            raise RefusedError(Refusal(reason=Reason.QUEUE_FULL, error=error))
        self.queue.append(entry.id)

    def _leave_queue(self, entry: Entry) -> None:
        if entry.id in self.queue:
            self.queue.remove(entry.id)

    def _remove(self, entry: Entry) -> None:
        self._leave_queue(entry)
        del self.entries[entry.id]

    def _move(self, entry: Entry, state: LeaseState, now: float) -> None:
        if state is LeaseState.ACTIVE or (entry.state is LeaseState.STARTING and state in LEAVING):
            entry.residual = {}  # also what dies while it wakes may hold, and take, all of its budget
        if state in LEAVING:
            self._leave_queue(entry)
        entry.state = state
        entry.since = now

    def _learn(self, entry: Entry) -> None:
        """Remember how much more than `planned` an active engine holds. Not on `host`, where memory that was allocated
        counts only once it is written to."""
        if entry.state is not LeaseState.ACTIVE or entry.fingerprint is None or not entry.used:
            return
        if any(self.devices[device].kind == "host" for device in entry.devices):
            return
        overhead = max(entry.used.values()) - entry.planned
        if overhead > self.overheads.get(entry.fingerprint, 0):
            self.overheads[entry.fingerprint] = overhead
            while len(self.overheads) > OVERHEADS_LIMIT:
                del self.overheads[next(iter(self.overheads))]

    def _hopeless(self, entry: Entry, promised: Mapping[str, int], now: float) -> Refusal | None:
        for device in entry.devices:
            if reason := self.trouble(device, now):
                error = f"device {device} grants nothing: {reason}"
                return Refusal(reason=Reason.DEVICE, error=error, device=device)
        if not entry.observed:
            return None
        for device in entry.devices:
            others = [other for other in self._live(device) if other is not entry]
            leaving = [o for o in others if o.state in LEAVING and now - o.since < LEAVING_PATIENCE]
            staying = sum(other.charge(device) for other in others if other not in leaving)
            possible = self.allocatable(device, entry) - staying - promised[device]
            moving = leaving or promised[device] or any(other.state is LeaseState.STARTING for other in others)
            if entry.need(device) > possible and not (entry.admitted and moving):
                entry.unfit_since = now if entry.unfit_since is None else entry.unfit_since
                return self._no_room(entry, device, possible) if now - entry.unfit_since >= self.patience else None
        entry.admitted, entry.unfit_since = True, None
        return None

    def _no_room(self, entry: Entry, device: str, possible: int) -> Refusal:
        holders = self.holders(device, entry)
        held = entry.used.get(device, 0)
        more = f" and holds {human(held)} already" if held > entry.bytes else ""
        error = (
            f"{entry.model} asked for {human(entry.bytes)} ({entry.bytes} bytes) of {device}{more}; "
            f"{human(possible)} ({possible} bytes) can be had of {human(self.samples[device].total)}; "
            f"held by: {', '.join(holders) or 'nobody'}"
        )
        return Refusal(
            reason=Reason.NO_ROOM, error=error, device=device, asked=entry.bytes, free=possible, holders=holders
        )
