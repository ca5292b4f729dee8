"""Processes that outlive the holder of their lease: whose they are, and their end."""

import contextlib
import logging
import os
import signal
from collections.abc import Collection

from vram_agent import processes
from vram_agent.api import EventKind, LeaseState
from vram_agent.journal import Journal
from vram_agent.ledger import LIVE
from vram_agent.processes import Families
from vram_agent.records import Entry, Process

log = logging.getLogger("vram_agent")


class Orphans:
    """One agent's.

    Args:
        journal: hears of each one that is ended.
        grace: seconds from a holder's death until what it left is asked to end; after twice as many it is made to.
    """

    def __init__(self, journal: Journal, grace: float) -> None:
        self.journal = journal
        self.grace = grace
        self.looked = processes.now()  # every process from before this moment was seen
        self._signalled: dict[Process, signal.Signals] = {}

    def list_families(self, entries: Collection[Entry]) -> Families:
        """All processes as they are now; a lease gets those that lost their parent before anybody saw them below it.

        Such a child was born after the last listing, and its parent died before this one. It is known by its process
        group (Ray gives each worker its own), its age, and its lost parent.
        """
        looked = processes.now()
        families = Families(processes.listing())
        bereaved = [e for e in entries if e.state in LIVE and not e.processes <= families.of(e.processes)]
        if bereaved:
            known = {process for entry in entries for process in families.of(entry.processes)}
            for stray, group in families.strays(self.looked).items():
                parents = [e for e in bereaved if e.group == group and e.holder.start <= stray.start]
                if stray not in known and parents:
                    # Where two died in one round, the one that was starting its engine.
                    parent = min(parents, key=lambda entry: (entry.state is not LeaseState.STARTING, -entry.since))
                    parent.processes |= families.of({stray})
                    log.warning(
                        "a child outlived its parent unseen", extra={"fields": {"pid": stray.pid, "lease": parent.id}}
                    )
        self.looked = looked
        return families

    def end(self, entries: Collection[Entry], now: float) -> None:
        """Ask the processes that a dead holder left behind to end after the grace time, and make them after two."""
        orphaned = [
            entry for entry in entries if entry.state is LeaseState.ORPHANED and now - entry.since >= self.grace
        ]
        left = {process for entry in orphaned for process in entry.processes}
        self._signalled = {process: sent for process, sent in self._signalled.items() if process in left}
        for entry in orphaned:
            wanted = signal.SIGKILL if now - entry.since >= 2 * self.grace else signal.SIGTERM
            for process in sorted(entry.processes, key=lambda p: p.pid):
                if self._signalled.get(process) is not wanted and processes.find(process.pid) == process:
                    self._signal(entry, process, wanted)

    def _signal(self, entry: Entry, process: Process, wanted: signal.Signals) -> None:
        name = processes.name(process.pid)
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, wanted)
        if process not in self._signalled:
            self.journal.metrics.orphan_ended()
        self._signalled[process] = wanted
        self.journal.note(
            EventKind.ORPHAN,
            f"pid {process.pid} ({name}) outlived pid {entry.holder.pid}, the holder of its lease of {entry.model}: "
            f"{'killed' if wanted is signal.SIGKILL else 'asked to end'}",
            model=entry.model,
        )
