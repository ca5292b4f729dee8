"""The agent itself: samples the devices, keeps the ledger honest about processes, wakes those who wait for a lease.

Everything runs on one event loop, and a change of the ledger is one step between two awaits: that is the only lock on
it. Threads do nothing but read devices, one thread each, so that a driver call that hangs stops one device alone.
"""

import asyncio
import contextlib
import logging
import os
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from vram_agent import processes, views
from vram_agent.api import Claim, Enforcement, EventKind, Lease, LeaseRequest, LeaseState, Refusal, State, human
from vram_agent.devices import LimitError, Source
from vram_agent.journal import Journal
from vram_agent.ledger import LIVE, Ledger
from vram_agent.metrics import Metrics
from vram_agent.orphans import Orphans
from vram_agent.records import DeviceInfo, Entry, Process, RefusedError, Sample
from vram_agent.settings import Settings
from vram_agent.store import CorruptError, Saved, Store

log = logging.getLogger("vram_agent")
STALE_PERIODS = 6  # samples older than this many periods grant nothing


class NotHolderError(Exception):
    """The caller is not the process that holds the lease."""


class Agent:
    """Joins the ledger with the clock, the devices and the processes. All methods run on one event loop.

    Args:
        settings: from the environment.
        source: the devices.
    """

    def __init__(self, settings: Settings, source: Source) -> None:
        self.settings = settings
        self.source = source
        infos = source.devices()
        self.ledger = Ledger(
            infos,
            safety=settings.safety,
            headroom=settings.headroom,
            stale_after=STALE_PERIODS * settings.period,
            patience=settings.patience,
            clear_after=settings.clear_after,
        )
        self.store = Store(settings.ledger_file)
        self.metrics = Metrics(settings.node, self.state)
        self.journal = Journal(self.metrics)
        self._epoch = time.time() - time.monotonic()  # once, so that a time does not move when the clock is corrected
        self._changed = asyncio.Event()
        self._looking = asyncio.Lock()
        self._pool = ThreadPoolExecutor(max_workers=len(infos), thread_name_prefix="device")
        self._in_flight: dict[str, asyncio.Future[Sample]] = {}
        self.orphans = Orphans(self.journal, settings.orphan_grace)
        self._refusals: dict[str, Refusal] = {}
        self._waiters: Counter[str] = Counter()
        self._limits: dict[tuple[str, str], int] = {}
        self._watched: set[Process] = set()
        self._tasks: set[asyncio.Task[None]] = set()  # keeps references, so that tasks are not collected

    # -- life ------------------------------------------------------------------------------------------------------

    def restore(self) -> None:
        """Take back the leases of a former run. Those whose processes are gone end in the first rounds, as any lease
        does. When the file can't be trusted, nothing is granted for a while in which the holders claim theirs."""
        try:
            saved = self.store.load()
        except CorruptError as error:
            self.ledger.held_until = time.monotonic() + self.settings.claim_window
            self.journal.note(
                EventKind.LEDGER,
                f"{error}; nothing is granted for {self.settings.claim_window:.0f} s, in which the holders of leases "
                "claim them again",
            )
            return
        self.ledger.overheads = saved.overheads
        self.orphans.looked = saved.looked or self.orphans.looked
        for entry in saved.entries:
            if entry.state is LeaseState.PENDING:
                continue  # who waited asks again, with the same request id
            entry.told = True
            for device in entry.devices:
                if device not in self.ledger.devices:
                    reason = "the driver does not show it any more. FIX: see `nvidia-smi`, then restart the agent"
                    self.ledger.devices[device] = DeviceInfo(id=device, kind="nvml", name="gone", lost=reason)
            self.ledger.entries[entry.id] = entry
            self._watch(entry.holder)
            _tell("a lease is back", entry)

    async def run(self) -> None:
        """Look for ever, one period apart. A round that fails is logged; its samples grow stale, and stale ones grant
        nothing."""
        while True:
            try:
                await self.look()
            except Exception:
                log.exception("a round failed")
            await asyncio.sleep(self.settings.period)

    async def look(self, devices: Collection[str] | None = None) -> None:
        """One round: list the processes, then sample (all devices, or these), end what has ended, grant what can be
        granted. In this order, so that bytes of a process that is not listed any more are bytes of a dead one."""
        async with self._looking:
            among = list(self.ledger.entries)
            families = self.orphans.list_families(self.ledger.entries.values())
            pids = {process.pid for entry in self.ledger.entries.values() for process in families.of(entry.processes)}
            samples = await self._sample(self.ledger.devices if devices is None else devices, pids)
            for entry in self.ledger.observe(samples, families.of, among, time.monotonic()):
                _tell("a lease ended and its memory came back", entry)
            self.orphans.end(self.ledger.entries.values(), time.monotonic())
            self._settle()
            self.journal.compare(self.ledger, time.monotonic())
            await self._enforce()

    # -- what holders ask ------------------------------------------------------------------------------------------

    async def acquire(self, request: LeaseRequest, pid: int) -> Lease:
        """Grant a lease to process `pid` and wait until its engine may start.

        Raises:
            RefusedError: there are not that many bytes, and nothing that is leaving would free them; or the request
                makes no sense here.
            NotHolderError: the caller is gone.
        """
        holder = _caller(pid)
        asked = time.monotonic()
        try:
            entry = self.ledger.request(request, holder, asked)
            self._know(entry)
            self._refusals.pop(entry.id, None)
            await self._turn(entry)
        except RefusedError as error:
            self.journal.refused(request.model, error.refusal)
            raise
        self.metrics.waited(time.monotonic() - asked)
        _tell("a lease is granted", entry)
        return self._view(entry)

    async def claim(self, claim: Claim, pid: int) -> Lease:
        """Take back a lease that an agent before this one granted, when its file was lost.

        Raises:
            RefusedError: the request makes no sense here.
            NotHolderError: the caller is gone.
        """
        holder = _caller(pid)
        known = claim.request_id in self.ledger.entries
        entry = self.ledger.claim(claim, holder, time.monotonic())
        if not known:
            self._know(entry)
            text = f"process {pid} claims {human(entry.bytes)} of {', '.join(entry.devices)} for {entry.model}"
            self.journal.note(EventKind.LEDGER, text, model=entry.model)
            await self.look(entry.devices)
            if claim.state is LeaseState.SLEEPING:
                self.ledger.sleep(entry.id, time.monotonic())
            self._settle()
        return self._view(entry)

    async def activate(self, lease_id: str, pid: int) -> Lease:
        """Measure a started engine on a fresh sample and let the next one start.

        Raises:
            KeyError: no such lease.
            NotHolderError: the caller is not its holder.
        """
        entry = self._own(lease_id, pid)
        await self.look(entry.devices)
        self.ledger.activate(lease_id, time.monotonic())
        self._settle()
        _tell("a lease is active", entry)
        return self._view(entry)

    async def sleep(self, lease_id: str, pid: int) -> Lease:
        """Measure an engine that has gone to sleep; from now on its lease takes that much.

        Raises:
            KeyError: no such lease.
            NotHolderError: the caller is not its holder.
            RefusedError: the lease is not ACTIVE.
        """
        entry = self._own(lease_id, pid)
        await self.look(entry.devices)
        self.ledger.sleep(lease_id, time.monotonic())
        self._settle()
        await self._enforce()
        _tell("a lease sleeps", entry)
        return self._view(entry)

    async def wake(self, lease_id: str, pid: int) -> Lease:
        """Give a sleeping lease its whole budget back and wait until its engine may wake. Refused, it sleeps on.

        Raises:
            KeyError: no such lease.
            NotHolderError: the caller is not its holder.
            RefusedError: the bytes are not there any more.
        """
        entry = self._own(lease_id, pid)
        try:
            self.ledger.wake(lease_id)
            self._refusals.pop(lease_id, None)
            await self._turn(entry)
        except RefusedError as error:
            self.journal.refused(entry.model, error.refusal)
            raise
        _tell("a lease wakes", entry)
        return self._view(entry)

    def drain(self, lease_id: str, pid: int) -> None:
        """Give a lease back.

        Raises:
            KeyError: no such lease.
            NotHolderError: the caller is not its holder.
        """
        entry = self._own(lease_id, pid)
        self.ledger.drain(lease_id, time.monotonic())
        self._settle()
        _tell("a lease is given back", entry)

    def state(self) -> State:
        """Everything, as of the last round."""
        now = time.monotonic()
        return State(
            node=self.settings.node,
            devices=views.devices(self.ledger, now, processes.name, epoch=self._epoch),
            leases=tuple(self._view(entry) for entry in self.ledger.entries.values()),
            events=tuple(self.journal.events),
            overheads=self.ledger.overheads,
        )

    # -- waiting ---------------------------------------------------------------------------------------------------

    async def _turn(self, entry: Entry) -> None:
        """Wait until the lease has left the queue.

        Raises:
            RefusedError: it had to leave without its bytes.
            NotHolderError: its holder died.
        """
        with self._waiting(entry.id):
            if not entry.observed or entry.id in self.ledger.queue:
                await self.look(entry.devices)  # what is granted is granted on a sample of this moment
            while entry.id in self.ledger.queue:
                await self._changed.wait()
            if (refusal := self._refusals.get(entry.id)) is not None:
                raise RefusedError(refusal)
            if entry.id not in self.ledger.entries:
                raise NotHolderError(f"process {entry.holder.pid} died while it waited")
            await self._enforce()
            entry.told = True

    @contextlib.contextmanager
    def _waiting(self, lease_id: str) -> Iterator[None]:
        """Somebody waits for an answer about this lease; when the last one has hung up, the request is undone."""
        self._waiters[lease_id] += 1
        try:
            yield
        except asyncio.CancelledError:
            if self._waiters[lease_id] == 1:
                self.ledger.give_up(lease_id, time.monotonic())
                self._settle()
            raise
        finally:
            self._waiters[lease_id] -= 1
            if not self._waiters[lease_id]:
                del self._waiters[lease_id]
                self._refusals.pop(lease_id, None)

    def _settle(self) -> None:
        """After any change: grant what has become possible, refuse what has become hopeless, save, and only then let
        anybody hear of it."""
        now = time.monotonic()
        promoted = self.ledger.promote(now)
        refused = self.ledger.hopeless(now)
        try:
            self.store.save(Saved(list(self.ledger.entries.values()), self.ledger.overheads, self.orphans.looked))
            self.ledger.broken = None
        except OSError as error:
            self.ledger.demote(promoted)
            self.ledger.broken = f"the ledger's file can't be written: {error}"
            refused |= self.ledger.hopeless(now)
        self._refusals |= {lease_id: refusal for lease_id, refusal in refused.items() if lease_id in self._waiters}
        self._changed.set()
        self._changed = asyncio.Event()

    # -- devices ---------------------------------------------------------------------------------------------------

    async def _sample(self, devices: Collection[str], pids: Collection[int]) -> Mapping[str, Sample]:
        """A fresh sample of every device that answers within a period. One that does not is asked again only when its
        call has come back; until then its last sample grows stale."""
        loop = asyncio.get_running_loop()
        now = time.monotonic()
        asked: dict[str, asyncio.Future[Sample]] = {}
        for device in devices:
            if self.ledger.devices[device].lost:
                continue
            if (before := self._in_flight.get(device)) is not None and not before.done():
                continue
            asked[device] = loop.run_in_executor(self._pool, self.source.sample, device, pids, now)
        self._in_flight |= asked
        if asked:
            await asyncio.wait(asked.values(), timeout=self.settings.period)
        return {device: _result(future, now) for device, future in asked.items() if future.done()}

    async def _enforce(self) -> None:
        """Tell the driver what each container may have: the sum of its leases. Only where the driver can."""
        able = {d.id for d in self.ledger.devices.values() if d.enforcement is Enforcement.DRIVER and not d.lost}
        if not able:
            return
        wanted = dict.fromkeys(self._limits, 0)
        for entry in self.ledger.entries.values():
            for device in able.intersection(entry.devices):
                if entry.cgroup is not None and entry.state in LIVE:
                    key = (device, entry.cgroup)
                    wanted[key] = wanted.get(key, 0) + entry.granted(device)
        for key, size in wanted.items():
            device, cgroup = key
            if self._limits.get(key) == size:
                continue
            try:
                await asyncio.get_running_loop().run_in_executor(None, self.source.limit, device, cgroup, size)
            except LimitError as error:
                if not size:
                    continue  # the container is gone, and its limit with it
                self.ledger.devices[device] = replace(self.ledger.devices[device], enforcement=Enforcement.TORCH)
                text = f"{device}: its driver's limits are not used: {error}"
                self.journal.note(EventKind.DEVICE, text, device=device)
            self._limits[key] = size
        self._limits = {key: size for key, size in self._limits.items() if size}

    # -- processes -------------------------------------------------------------------------------------------------

    def _own(self, lease_id: str, pid: int) -> Entry:
        """The lease, if `pid` holds it."""
        entry = self.ledger.entries[lease_id]
        if _caller(pid) != entry.holder:
            raise NotHolderError(f"lease {lease_id} belongs to process {entry.holder.pid}, not to {pid}")
        return entry

    def _view(self, entry: Entry) -> Lease:
        return views.lease(self.ledger, entry, epoch=self._epoch)

    def _know(self, entry: Entry) -> None:
        """What the kernel says of a lease's holder, while it lives."""
        entry.cgroup, entry.group = processes.cgroup(entry.holder.pid), processes.group(entry.holder.pid)
        self._watch(entry.holder)

    def _watch(self, holder: Process) -> None:
        """Look again the moment the holder dies, not at the next round. Once for each holder."""
        if holder in self._watched or processes.find(holder.pid) != holder:
            return
        try:
            fd = os.pidfd_open(holder.pid)
        except ProcessLookupError:
            return
        loop = asyncio.get_running_loop()
        self._watched.add(holder)

        def died() -> None:
            loop.remove_reader(fd)
            os.close(fd)
            self._watched.discard(holder)
            log.info("a holder ended", extra={"fields": {"pid": holder.pid}})
            task = loop.create_task(self.look())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        loop.add_reader(fd, died)


def _tell(message: str, entry: Entry) -> None:
    """One line of the log about a lease."""
    log.info(message, extra={"fields": views.fields(entry)})


def _caller(pid: int) -> Process:
    """The process that asks.

    Raises:
        NotHolderError: it is gone already, or in another PID namespace.
    """
    if pid == 0:
        raise NotHolderError("the kernel does not show the caller's PID here. FIX: run the agent with hostPID")
    caller = processes.find(pid)
    if caller is None:
        raise NotHolderError(f"process {pid} is gone")
    return caller


def _result(future: asyncio.Future[Sample], now: float) -> Sample:
    error = future.exception()
    if error is None:
        return future.result()
    log.error("a device could not be read", exc_info=error)
    return Sample(total=0, reserved=0, used=0, by_pid={}, taken=now, error=f"it could not be read: {error!r}")
