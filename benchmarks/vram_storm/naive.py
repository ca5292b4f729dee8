"""The agent under the naive rule, for contrast: `python -m benchmarks.vram_storm.naive`.

Admits when `free - pending` is enough: free is what the system reports at that moment, pending are the leases that
were granted and have not said yet that they are ready. A reservation is forgotten at ready and at its holder's death.
Everything else (queue, one start at a time, file, orphans) is the real agent's.
"""

from unittest import mock

from vram_agent import host_memory
from vram_agent.__main__ import main
from vram_agent.api import LeaseState
from vram_agent.ledger import Ledger


class NaiveLedger(Ledger):
    """For the `host` device alone. What else the ledger takes into account (who asks, what is leaving) is ignored."""

    def allocatable(self, *_: object, **__: object) -> int:
        memory = host_memory.read()
        return memory.total - memory.used - self.safety

    def charged(self, *_: object, **__: object) -> int:
        return sum(entry.bytes for entry in self.entries.values() if entry.state is LeaseState.STARTING)


if __name__ == "__main__":
    with mock.patch("vram_agent.agent.Ledger", NaiveLedger):
        main()
