"""One storm's figures, from its records. What fails a storm is listed by name."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.vram_storm import judge
from benchmarks.vram_storm.judge import Refusal, Rule
from benchmarks.vram_storm.records import Facts
from benchmarks.vram_storm.script import MIB, Script
from benchmarks.vram_storm.storm import Outcome, Sizes

AGENT = 64 * MIB  # more than the agent itself takes
BYTES_LEFT = 64 * MIB  # the agent's own growth and the kernel's caches are no leak


@dataclass(frozen=True)
class Verdict:
    """Figures by name, in the order to show them, and the names of those that fail the rule. A storm is void when its
    own processes broke the script's promise: on a machine that is too busy, waiting Pythons alone fill the headroom."""

    figures: dict[str, Any]
    failed: tuple[str, ...]
    examples: dict[str, list[str]]
    void: bool


def verdict(script: Script, outcome: Outcome, sizes: Sizes, headroom: int) -> Verdict:
    """Judge a storm.

    Args:
        script: that was played.
        outcome: of it.
        sizes: of the device.
        headroom: that the rule promises to keep, bytes.
    """
    records = outcome.records
    rule = Rule(sizes.pool - sizes.safety, headroom)
    known = judge.lives(records.events, records.facts, {engine.id: engine.budget for engine in script.engines})
    over = judge.overcommits(known, records.facts, rule)
    shown = judge.shown_overcommits(records.seen, rule)
    worth = judge.refusals(known, records.facts, rule)
    refused = Counter(worth.values())
    doubles = judge.double_starts(known)
    lost = judge.lost(known, records)
    twice = judge.duplicated(records.seen)
    odd = judge.odd_answers(records.events)
    waits = sorted(judge.waits(known))
    words = Counter(event.event for event in records.events)
    figures = {
        "engines that asked": len(known),
        "starts granted": sum(life.granted for life in known.values()),
        "starts that became ready": words["active"],
        "at once, at most": max(_at_once(known, sample.t) for sample in records.facts),
        "agent killed and restarted": outcome.restarts,
        "agent back after, at most (s)": round(max(outcome.restart_seconds, default=0.0), 2),
        "clients that hung up and asked again": words["hung_up"],
        "waiters that died": words["died_waiting"],
        "hogs": len(script.hogs),
        "foreign memory, most (MiB)": max(judge.foreign(known, sample) for sample in records.facts) // MIB,
        "real use, most (MiB)": outcome.peak_used // MIB,
        "OOM kills": outcome.oom_kills,
        "overcommitted instants": len(over),
        "overcommitted by, at most (MiB)": max((one.bytes for one in over), default=0) // MIB,
        "of instants looked at": len(records.facts),
        "overcommitted in the agent's own view": len(shown),
        "refused": sum(refused.values()),
        **{f"refused: {kind.value}": refused[kind] for kind in Refusal},
        "two starts at once": len(doubles) + judge.shown_double_starts(records.seen),
        "leases lost": len(lost),
        "leases duplicated": len(twice),
        "odd answers": len(odd),
        "leases left at the end": outcome.leases_left,
        "orphans left at the end": outcome.orphans_left,
        "bytes left at the end (MiB)": outcome.bytes_left // MIB,
        "errors in the agent's log": len(outcome.failures_logged),
        "wait for an answer, median (s)": round(_share(waits, 0.5), 3),
        "wait for an answer, longest (s)": round(_share(waits, 1.0), 2),
        "seconds": round(outcome.seconds, 1),
    }
    must_be_zero = [
        "OOM kills",
        "overcommitted instants",
        f"refused: {Refusal.FALSE.value}",
        f"refused: {Refusal.IMPATIENT.value}",
        "two starts at once",
        "leases lost",
        "leases duplicated",
        "odd answers",
        "leases left at the end",
        "orphans left at the end",
        "errors in the agent's log",
    ]
    failed = [name for name in must_be_zero if figures[name]]
    if outcome.bytes_left > BYTES_LEFT:
        failed.append("bytes left at the end (MiB)")
    examples = {
        "overcommitted": [f"t={one.t:.2f} by {one.bytes // MIB} MiB" for one in over[:5]],
        "refused wrongly": [f"{name}: {kind}" for name, kind in worth.items() if kind not in RIGHTLY],
        "two starts at once": [f"{first} and {second}" for first, second in doubles],
        "lost": sorted(lost),
        "duplicated": sorted(twice),
        "odd": [f"{event.id}: {event.event} {event.detail}" for event in odd],
        "log": list(outcome.failures_logged[:5]),
    }
    waiting = max(_waiting(known, sample) for sample in records.facts)
    void = waiting + AGENT > headroom > 0
    return Verdict(figures, tuple(failed), {name: found for name, found in examples.items() if found}, void)


RIGHTLY = {Refusal.RIGHT, Refusal.HEADROOM, Refusal.STALE}


def _at_once(known: dict[str, judge.Life], t: float) -> int:
    return sum(life.answered <= t < life.gone for life in known.values() if life.granted)


def _waiting(known: dict[str, judge.Life], sample: Facts) -> int:
    """Bytes of engines that have no lease yet."""
    pids = set().union(*(life.pids for life in known.values() if life.answered > sample.t))
    return sum(size for pid, size in sample.processes.items() if pid in pids)


def _share(ordered: Sequence[float], share: float) -> float:
    """A quantile; 0 when there is nothing."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
