"""Judges a storm from its records. Pure functions; the model of what was live when is made here, from what engines
said of themselves and what the kernel showed, and not from the agent's ledger.

A lease is live from the answer that granted it until the last of its processes is gone. It is leaving once its holder
has given it back or is gone. A request occupies its bytes from its question on: the queue is first come, first served.
"""

import bisect
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from benchmarks.vram_storm.records import Event, Facts, Records, Seen

NEVER = float("inf")
ORDER = 0.05  # seconds; two questions closer than this may have arrived in either order
KNOWLEDGE = 0.75  # seconds; a sampling period and the round itself: the agent can't know anything younger


@dataclass(frozen=True)
class Rule:
    """What is promised: live budgets + max(foreign, headroom) stay within capacity (total - safety), bytes."""

    capacity: int
    headroom: int


@dataclass(frozen=True)
class Life:
    """One engine's, as it was. Times that never came are infinite."""

    id: str
    budget: int
    pids: frozenset[int]
    asked: float  # first
    asked_last: float
    answered: float  # with a grant or a refusal
    granted: bool
    refused: bool
    ready: float  # told the agent
    leaving: float
    gone: float


class Refusal(StrEnum):
    """What a refusal was worth."""

    RIGHT = "right"  # it did not fit
    HEADROOM = "headroom's price"  # it fitted beside what was there, not beside the headroom
    STALE = "on a stale view"  # it fitted for less than a sampling period
    IMPATIENT = "impatient"  # it fitted as soon as what was leaving had left
    FALSE = "false"  # it fitted, and had fitted for a whole period


@dataclass(frozen=True)
class Over:
    """An instant at which the promise was broken."""

    t: float
    bytes: int  # above the capacity


def lives(events: Iterable[Event], facts: Sequence[Facts], budgets: Mapping[str, int]) -> dict[str, Life]:
    """The engines that asked, by id."""
    by_id: dict[str, list[Event]] = {}
    for event in events:
        by_id.setdefault(event.id, []).append(event)
    last_seen, times = _last_seen(facts), [one.t for one in facts]
    return {name: _life(name, mine, last_seen, times, budgets[name]) for name, mine in by_id.items()}


def _life(name: str, mine: list[Event], last_seen: Mapping[int, int], times: list[float], budget: int) -> Life:
    def first(*names: str) -> float:
        return min((event.t for event in mine if event.event in names), default=NEVER)

    def absent(pids: Iterable[int], after: float) -> tuple[float, float]:
        """(the last sample with one of these processes, the first without any): they ended between the two."""
        if after == NEVER:
            return NEVER, NEVER
        index = max([bisect.bisect_left(times, after) - 1, *(last_seen.get(pid, -1) for pid in pids)]) + 1
        return (max(after, times[index - 1]), times[index]) if index < len(times) else (NEVER, NEVER)

    holder = mine[0].pid
    children = {event.child for event in mine if event.child is not None}
    granted, refused = first("granted"), first("refused")
    said = first("draining", "dying", "refused", "odd", "died_waiting", "stuck")
    return Life(
        id=name,
        budget=budget,
        pids=frozenset({holder} | children),
        asked=first("asked"),
        asked_last=max(event.t for event in mine if event.event in {"asked", "asked_again", "hung_up"}),
        answered=min(granted, refused),
        granted=granted < NEVER,
        refused=refused < NEVER,
        ready=first("activating"),
        leaving=said if said < NEVER else absent({holder}, first("asked"))[0],
        gone=absent({holder} | children, granted)[1],
    )


def _last_seen(facts: Sequence[Facts]) -> dict[int, int]:
    """The index of the last sample with each process."""
    return {pid: index for index, sample in enumerate(facts) for pid in sample.processes}


def overcommits(known: Mapping[str, Life], facts: Iterable[Facts], rule: Rule) -> list[Over]:
    """Instants at which live budgets and real foreign memory exceeded the capacity.

    A lease counts when it was granted before the sample and a process of it lives in the sample, so that no order of
    events can make a lease that just left and its successor count both.
    """
    found = []
    for sample in facts:
        live, foreign = _live(known, sample)
        excess = sum(life.budget for life in live) + max(foreign, rule.headroom) - rule.capacity
        if excess > 0:
            found.append(Over(sample.t, excess))
    return found


def foreign(known: Mapping[str, Life], sample: Facts) -> int:
    """Bytes of processes without a lease at that moment."""
    return _live(known, sample)[1]


def _live(known: Mapping[str, Life], sample: Facts) -> tuple[list[Life], int]:
    granted = [life for life in known.values() if life.granted and life.answered <= sample.t]
    live = [life for life in granted if not life.pids.isdisjoint(sample.processes)]
    ours = frozenset().union(*(life.pids for life in live))
    return live, sum(size for pid, size in sample.processes.items() if pid not in ours)


def shown_overcommits(seen: Iterable[Seen], rule: Rule) -> list[Over]:
    """The same by the agent's own figures."""
    found = []
    for state in seen:
        leased = sum(lease.bytes for lease in state.leases if lease.state != "PENDING")
        excess = leased + max(state.foreign, rule.headroom) - rule.capacity
        if excess > 0:
            found.append(Over(state.asked, excess))
    return found


def refusals(known: Mapping[str, Life], facts: Sequence[Facts], rule: Rule) -> dict[str, Refusal]:
    """Every refusal's worth, by engine."""
    times = [sample.t for sample in facts]
    foreigns = [foreign(known, sample) for sample in facts]
    return {life.id: _worth(life, known, times, foreigns, rule) for life in known.values() if life.refused}


def _worth(life: Life, known: Mapping[str, Life], times: list[float], foreigns: list[int], rule: Rule) -> Refusal:
    now, before = life.answered, life.answered - KNOWLEDGE
    others = [other for other in known.values() if other.id != life.id and _counts(other, life)]

    def room(since: float, headroom: int, leaving_too: bool) -> int:
        """Bytes for this request if all counts that was there at any moment since then."""
        there = sum(o.budget for o in others if o.asked <= now and (o.gone if leaving_too else o.leaving) > since)
        low, high = bisect.bisect_right(times, since) - 1, bisect.bisect_right(times, now)
        most = max(foreigns[max(low, 0) : max(high, 1)], default=0)
        return rule.capacity - there - max(most, headroom)

    if life.budget <= room(before, rule.headroom, leaving_too=True):
        return Refusal.FALSE
    if life.budget <= room(before, rule.headroom, leaving_too=False):
        return Refusal.IMPATIENT
    if life.budget <= room(now, rule.headroom, leaving_too=False):
        return Refusal.STALE
    if life.budget <= room(now, 0, leaving_too=False):
        return Refusal.HEADROOM
    return Refusal.RIGHT


def _counts(other: Life, life: Life) -> bool:
    """Whether `other` can have had bytes, or a place ahead in the queue, when `life` was refused."""
    if other.granted and other.answered <= life.answered:
        return True
    return other.asked_last <= life.asked_last + ORDER


def double_starts(known: Mapping[str, Life]) -> list[tuple[str, str]]:
    """Pairs of engines of which the second was let start before the first was ready or leaving."""
    starts = sorted((life for life in known.values() if life.granted), key=lambda life: life.answered)
    return [
        (first.id, second.id)
        for first, second in itertools.combinations(starts, 2)
        if second.answered < min(first.ready, first.leaving)
    ]


def shown_double_starts(seen: Iterable[Seen]) -> int:
    """Answers of the agent with more than one STARTING lease."""
    return sum(sum(lease.state == "STARTING" for lease in state.leases) > 1 for state in seen)


def lost(known: Mapping[str, Life], records: Records) -> set[str]:
    """Granted leases that the agent once did not show although a process of theirs lived before and after."""
    times = [sample.t for sample in records.facts]
    missing: set[str] = set()
    for state in records.seen:
        index = bisect.bisect_left(times, state.answered)
        if index == len(times):
            continue
        live, _ = _live(known, records.facts[index])
        shown = {lease.id for lease in state.leases}
        missing |= {life.id for life in live if life.answered < state.asked and life.id not in shown}
    return missing


def duplicated(seen: Iterable[Seen]) -> set[str]:
    """Leases shown twice, or beside another one of the same holder."""
    found: set[str] = set()
    for state in seen:
        ids = Counter(lease.id for lease in state.leases)
        holders = Counter(lease.pid for lease in state.leases)
        found |= {lease.id for lease in state.leases if ids[lease.id] > 1 or holders[lease.pid] > 1}
    return found


def waits(known: Mapping[str, Life]) -> Iterator[float]:
    """Seconds from the first question to the answer, for all that got one."""
    return (life.answered - life.asked for life in known.values() if life.answered < NEVER)


def odd_answers(events: Iterable[Event]) -> list[Event]:
    """Answers that no engine should get, and engines that waited for ever."""
    return [event for event in events if event.event in {"odd", "stuck"}]
