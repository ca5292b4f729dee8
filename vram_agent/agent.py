"""The agent itself: samples the devices, keeps the ledger honest about processes, wakes those who wait for a lease."""

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import Iterator

from vram_agent import processes, store
from vram_agent.api import Lease, LeaseRequest, LeaseState, Refusal, State, human
from vram_agent.devices import Source
from vram_agent.ledger import Entry, Ledger, Process, RefusedError
from vram_agent.settings import Settings

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
        self.ledger = Ledger(
            source.devices(),
            safety=settings.safety,
            headroom=settings.headroom,
            stale_after=STALE_PERIODS * settings.period,
        )
        self.changed = asyncio.Condition()
        self.refusals: dict[str, Refusal] = {}
        self.refused_total = 0
        self.orphans_ended_total = 0
        self._orphans_signalled: set[Process] = set()
        self._tasks: set[asyncio.Task[None]] = set()  # keeps references, so that tasks are not collected
        self._watched: set[Process] = set()

    # -- life ------------------------------------------------------------------------------------------------------

    def restore(self) -> None:
        """Take back the leases of a former run whose processes still live. A file that can't be trusted is set aside:
        its memory then counts as foreign, which refuses too much rather than too little."""
        try:
            entries = store.load(self.settings.ledger_file)
        except store.CorruptError as error:
            aside = self.settings.ledger_file.with_suffix(".corrupt")
            os.replace(self.settings.ledger_file, aside)
            log.error("the ledger's file is corrupt and was moved to %s: %s", aside, error)
            return
        known = set(self.ledger.devices)
        for entry in entries:
            if not known.issuperset(entry.devices):
                log.error("lease %s of %s names a device that is gone; it is dropped", entry.id, entry.model)
            elif entry.state is not LeaseState.PENDING:
                self.ledger.entries[entry.id] = entry
                self._watch(entry.holder)
                log.info("lease %s of %s (%s) is back", entry.id, entry.model, entry.state)

    async def run(self) -> None:
        """Sample for ever, one period apart. A round that fails is logged; its samples grow stale, and stale ones grant
        nothing."""
        while True:
            try:
                await self.tick()
            except Exception:
                log.exception("a sampling round failed")
            await asyncio.sleep(self.settings.period)

    async def tick(self) -> None:
        """One round: sample, look at the processes, end what has ended, grant what can be granted."""
        async with self._changing():
            now = time.time()
            pids = {process.pid for entry in self.ledger.entries.values() for process in entry.processes}
            samples = await asyncio.to_thread(self.source.sample, pids, now)
            for entry in self.ledger.observe(samples, processes.with_descendants, now):
                log.info("lease %s of %s ended: %s came back", entry.id, entry.model, human(entry.bytes))
            self._end_orphans(now)

    # -- what holders ask ------------------------------------------------------------------------------------------

    async def acquire(self, request: LeaseRequest, pid: int) -> Lease:
        """Grant a lease to process `pid` and wait until its engine may start.

        Raises:
            RefusedError: there are not that many bytes, and nothing that is leaving would free them.
            NotHolderError: the caller is gone, or the request id is another process's.
        """
        holder = processes.find(pid)
        if holder is None:
            raise NotHolderError(f"process {pid} is gone")
        try:
            async with self._changing():
                entry = self.ledger.request(request, holder, time.time())
                if entry.holder != holder:
                    raise NotHolderError(f"request {request.request_id} belongs to process {entry.holder.pid}")
            self._watch(holder)
            async with self.changed:
                await self.changed.wait_for(lambda: self._settled(request.request_id))
        except RefusedError as error:
            self.refused_total += 1
            log.warning("refused: %s", error)
            raise
        except asyncio.CancelledError:
            await self._give_up(request.request_id)
            raise
        if (refusal := self.refusals.pop(request.request_id, None)) is not None:
            self.refused_total += 1
            log.warning("refused: %s", refusal.error)
            raise RefusedError(refusal)
        granted = self.ledger.entries.get(request.request_id)
        if granted is None:
            raise NotHolderError(f"process {pid} died while it waited")
        log.info("lease %s: %s gets %s of %s", granted.id, granted.model, human(granted.bytes), granted.devices)
        return self.ledger.lease_view(granted)

    async def activate(self, lease_id: str, pid: int) -> Lease:
        """Measure a started engine on a fresh sample and let the next one start.

        Raises:
            KeyError: no such lease.
            NotHolderError: the caller is not its holder.
        """
        self._check_holder(lease_id, pid)
        await self.tick()
        async with self._changing():
            entry = self.ledger.activate(lease_id, time.time())
        used = ", ".join(f"{human(size)} on {device}" for device, size in entry.used.items())
        log.info("lease %s of %s is active and uses %s", entry.id, entry.model, used)
        return self.ledger.lease_view(entry)

    async def drain(self, lease_id: str, pid: int) -> None:
        """Give a lease back.

        Raises:
            KeyError: no such lease.
            NotHolderError: the caller is not its holder.
        """
        self._check_holder(lease_id, pid)
        async with self._changing():
            self.ledger.drain(lease_id, time.time())

    def state(self) -> State:
        """Everything, as of the last round."""
        listed = {pid for sample in self.ledger.samples.values() for pid in sample.by_pid}
        names = {pid: processes.name(pid) for pid in listed}
        return State(
            node=self.settings.node,
            devices=self.ledger.device_views(time.time(), names),
            leases=tuple(self.ledger.lease_view(entry) for entry in self.ledger.entries.values()),
        )

    # -- inside ----------------------------------------------------------------------------------------------------

    def _changing(self) -> "_Change":
        return _Change(self)

    def _settle(self) -> None:
        """After any change: refuse what has become hopeless, grant what has become possible, save."""
        now = time.time()
        self.ledger.promote(now)
        self.refusals.update(self.ledger.hopeless(now))
        store.save(self.settings.ledger_file, list(self.ledger.entries.values()))

    def _settled(self, lease_id: str) -> bool:
        entry = self.ledger.entries.get(lease_id)
        return entry is None or entry.state is not LeaseState.PENDING

    async def _give_up(self, lease_id: str) -> None:
        """The connection broke while the request waited. A refusal that it missed must not reach a later request."""
        self.refusals.pop(lease_id, None)
        entry = self.ledger.entries.get(lease_id)
        if entry is not None and entry.state is LeaseState.PENDING:
            async with self._changing():
                self.ledger.drain(lease_id, time.time())

    def _check_holder(self, lease_id: str, pid: int) -> None:
        holder = self.ledger.entries[lease_id].holder
        if holder.pid != pid:
            raise NotHolderError(f"lease {lease_id} belongs to process {holder.pid}, not to {pid}")

    def _watch(self, holder: Process) -> None:
        """Look again the moment the holder dies, not at the next sample. Once for each holder."""
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
            log.info("process %s, holder of a lease, ended", holder.pid)
            task = loop.create_task(self.tick())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        loop.add_reader(fd, died)

    def _end_orphans(self, now: float) -> None:
        """Ask the processes that a dead holder left behind to end after the grace time, and make them after two."""
        for entry in self.ledger.entries.values():
            if entry.state is not LeaseState.ORPHANED or now - entry.since < self.settings.orphan_grace:
                continue
            last = now - entry.since >= 2 * self.settings.orphan_grace
            for process in self._orphans(entry):
                if last or process not in self._orphans_signalled:
                    log.warning(
                        "pid %s (%s) outlived pid %s, the holder of its lease of %s: %s",
                        process.pid,
                        processes.name(process.pid),
                        entry.holder.pid,
                        entry.model,
                        "killed" if last else "asked to end",
                    )
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(process.pid, signal.SIGKILL if last else signal.SIGTERM)
                    if process not in self._orphans_signalled:
                        self.orphans_ended_total += 1
                    self._orphans_signalled.add(process)

    def _orphans(self, entry: Entry) -> Iterator[Process]:
        return (
            process
            for process in sorted(entry.processes, key=lambda p: p.pid)
            if processes.find(process.pid) == process
        )


class _Change:
    """`async with`: hold the lock, change the ledger, settle it, wake everyone who waits."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent

    async def __aenter__(self) -> None:
        await self.agent.changed.acquire()

    async def __aexit__(self, *_: object) -> None:
        try:
            self.agent._settle()
            self.agent.changed.notify_all()
        finally:
            self.agent.changed.release()
