"""What is known of a storm afterwards: what engines said, what the kernel showed, what the agent showed. Plain data.

Times are seconds of the machine's monotonic clock, the same in every process; sizes are bytes.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Event:
    """One line of an engine."""

    t: float
    id: str
    event: str
    pid: int
    child: int | None = None  # of `forked`
    detail: str = ""  # of `refused` and `odd`


@dataclass(frozen=True)
class Facts:
    """What the kernel showed: the cgroup's use, and the resident bytes of each live process in it."""

    t: float  # before the first process was read
    used: int
    processes: Mapping[int, int]


@dataclass(frozen=True)
class SeenLease:
    """One lease, as the agent showed it."""

    id: str
    state: str
    bytes: int
    pid: int


@dataclass(frozen=True)
class Seen:
    """One answer of GET /v1/state."""

    asked: float
    answered: float
    foreign: int
    leases: tuple[SeenLease, ...]


@dataclass(frozen=True)
class Records:
    """A whole storm's."""

    events: tuple[Event, ...]
    facts: tuple[Facts, ...]
    seen: tuple[Seen, ...]
    agents: frozenset[int]  # PIDs of the agents, one after the other
