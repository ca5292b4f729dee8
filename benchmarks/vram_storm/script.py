"""What happens in a storm, written in advance from a seed: the same script meets each rule. Seconds and bytes."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

MIB = 1024 * 1024


class Ending(StrEnum):
    """How an engine's life ends."""

    DRAIN = "drain"  # gives the lease back, ends its child, exits
    KILL_HOLDER = "kill_holder"  # kill -9 of the holder: the child lives on
    KILL_CHILD = "kill_child"  # kill -9 of the child: the holder notices and exits
    VANISH = "vanish"  # ends its child and exits without a word to the agent


@dataclass(frozen=True)
class Engine:
    """One start."""

    id: str
    at: float
    budget: int
    peak: float  # share of the budget that it uses in the end
    ready: float  # share of the peak that it has reached when it says that it is ready; the rest comes with use
    ramp: float  # seconds from nothing to ready
    hold: float  # seconds from ready to the end
    ending: Ending
    ends_in_ramp: float | None  # the ending comes after this share of the ramp instead
    spared: float  # seconds after its fork in which the holder is not killed
    stubborn: bool  # the child ignores SIGTERM
    hang_ups: tuple[float, ...]  # closes the connection after these many seconds and asks again with the same id
    patience: float | None  # dies after as many seconds without an answer


@dataclass(frozen=True)
class Hog:
    """Memory without a lease."""

    at: float
    size: int
    lasts: float


@dataclass(frozen=True)
class Restart:
    """kill -9 of the agent; another one starts `down` seconds later."""

    at: float
    down: float


@dataclass(frozen=True)
class Script:
    """A whole storm."""

    seed: int
    engines: tuple[Engine, ...]
    hogs: tuple[Hog, ...]
    restarts: tuple[Restart, ...]


SMALLEST, LARGEST = 40 * MIB, 600 * MIB
HOG_SMALLEST, HOG_LARGEST = 20 * MIB, 250 * MIB
HOG_GUARD = 1.0  # seconds after its end in which a hog still counts, as it takes time to die
RESTART_EVERY = 10.0


def write(seed: int, engines: int, rate: float, hog_limit: int, spared: float = 0.0) -> Script:
    """A storm of so many engines.

    Args:
        seed: the same one gives the same script.
        engines: that ask for a lease.
        rate: of them a second.
        hog_limit: bytes that all hogs hold together at most.
        spared: seconds after its fork in which no holder is killed.
    """
    chance = random.Random(seed)
    starts = tuple(_engines(chance, engines, rate, spared))
    end = starts[-1].at
    hogs = tuple(_hogs(random.Random(seed + 1), end, hog_limit))
    return Script(seed, starts, hogs, tuple(_restarts(random.Random(seed + 2), end)))


def _engines(chance: random.Random, count: int, rate: float, spared: float) -> Iterator[Engine]:
    at = 0.0
    for number in range(count):
        at += chance.expovariate(rate)
        ending = chance.choices(list(Ending), [5, 2, 2, 2])[0]
        may_break_off = ending is not Ending.DRAIN
        yield Engine(
            id=f"engine-{number:04d}",
            at=at,
            budget=int(SMALLEST * (LARGEST / SMALLEST) ** chance.random()),
            peak=chance.uniform(0.93, 1.0),
            ready=chance.uniform(0.8, 1.0),
            ramp=chance.uniform(0.05, 0.6),
            hold=chance.uniform(1.0, 8.0),
            ending=ending,
            ends_in_ramp=chance.random() if may_break_off and chance.random() < 0.35 else None,
            spared=spared,
            stubborn=chance.random() < 0.2,
            hang_ups=tuple(chance.uniform(0.01, 0.4) for _ in range(chance.choices([0, 1, 3], [8, 1, 1])[0])),
            patience=chance.uniform(0.2, 2.0) if chance.random() < 0.08 else None,
        )


def _hogs(chance: random.Random, end: float, limit: int) -> Iterator[Hog]:
    at = 0.0
    live: list[Hog] = []
    while (at := at + chance.uniform(0.5, 2.0)) < end:
        live = [hog for hog in live if hog.at + hog.lasts + HOG_GUARD > at]
        size = min(chance.randint(HOG_SMALLEST, HOG_LARGEST), limit - sum(hog.size for hog in live))
        if size >= HOG_SMALLEST:
            live.append(Hog(at, size, chance.uniform(0.5, 6.0)))
            yield live[-1]


def _restarts(chance: random.Random, end: float) -> Iterator[Restart]:
    at = 0.0
    while (at := at + chance.uniform(0.5, 1.5) * RESTART_EVERY) < end:
        yield Restart(at, chance.uniform(0.05, 1.5))
