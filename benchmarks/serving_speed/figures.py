"""From measurements to what is reported: quantiles, ratios of one round, and whether each aim is met. Pure."""

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from benchmarks.serving_speed.cases import SHORT, Case
from hive.bench.figures import quantile

BARE, STOCK, DIRECT, GATEWAY = "bare", "stock", "direct", "gateway"
TARGETS = (BARE, STOCK, DIRECT, GATEWAY)


@dataclass(frozen=True)
class Measured:
    """One case, one target, one round. Times in seconds."""

    case: Case
    target: str
    round: int
    duration: float
    ttft: Sequence[float]  # of each request; empty where nothing is streamed
    latency: Sequence[float]  # of each request, from the first byte sent to the last token received
    tokens: int  # of all answers
    failed: int
    errors: Sequence[str] = ()

    @property
    def requests_per_s(self) -> float:
        return len(self.latency) / self.duration

    @property
    def tokens_per_s(self) -> float:
        return self.tokens / self.duration

    @property
    def ttft_p50(self) -> float:
        return quantile(self.ttft, 0.5)

    @property
    def latency_p50(self) -> float:
        return quantile(self.latency, 0.5)


@dataclass(frozen=True)
class Row:
    """One case on one target: all rounds together. Milliseconds; throughput is the median round's."""

    case: Case
    target: str
    requests: int
    failed: int
    ttft_p50: float
    ttft_p99: float
    latency_p50: float
    latency_p99: float
    requests_per_s: float
    tokens_per_s: float


@dataclass(frozen=True)
class Spread:
    """The median of what each round gave, with the least and the most."""

    median: float
    least: float
    most: float
    rounds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        if not values:
            return cls(math.nan, math.nan, math.nan, 0)
        return cls(statistics.median(values), min(values), max(values), len(values))


@dataclass(frozen=True)
class Aim:
    """What Hive is held to, and what came out."""

    name: str
    wanted: str
    found: str
    met: bool | None  # None: not measured


def rows(measured: Iterable[Measured]) -> list[Row]:
    """One for each case and target, cases in the order in which they were first measured."""
    groups: dict[tuple[Case, str], list[Measured]] = {}
    for one in measured:
        groups.setdefault((one.case, one.target), []).append(one)
    cases = list(dict.fromkeys(case for case, _ in groups))
    ordered = sorted(groups.items(), key=lambda item: (cases.index(item[0][0]), TARGETS.index(item[0][1])))
    return [_row(case, target, found) for (case, target), found in ordered]


def paired(
    measured: Sequence[Measured],
    case: Case,
    target: str,
    base: str,
    compare: Callable[[Measured, Measured], float],
) -> Spread:
    """A comparison of two targets within each round that has both."""
    of_target = {one.round: one for one in measured if one.case == case and one.target == target}
    of_base = {one.round: one for one in measured if one.case == case and one.target == base}
    return Spread.of([compare(of_target[number], of_base[number]) for number in sorted(of_target.keys() & of_base)])


def throughput_ratio(one: Measured, base: Measured) -> float:
    return one.tokens_per_s / base.tokens_per_s


def latency_ratio(one: Measured, base: Measured) -> float:
    return one.latency_p50 / base.latency_p50


def ttft_more(one: Measured, base: Measured) -> float:
    """Milliseconds more until the first token, of the median request."""
    return 1000 * (one.ttft_p50 - base.ttft_p50)


def aims(measured: Sequence[Measured]) -> list[Aim]:
    """Judged on short streamed prompts, each model by itself; a failed request fails the aim."""
    cases = [
        case
        for case in dict.fromkeys(one.case for one in measured)
        if case.streamed and case.prompt == SHORT and case.beside is None
    ]
    found = []
    for case in cases:
        failed = any(one.failed for one in measured if one.case == case)
        if case.at_once == 1:
            spread = paired(measured, case, GATEWAY, BARE, ttft_more)
            found.append(
                _aim(f"TTFT, gateway - bare: {case.name}", "<= 5 ms", spread, spread.median <= 5, failed, "ms")
            )
        if case.at_once == 32:
            spread = paired(measured, case, GATEWAY, BARE, throughput_ratio)
            met = spread.median >= 0.97
            found.append(_aim(f"tokens/s, gateway / bare: {case.name}", ">= 0.97", spread, met, failed))
            spread = paired(measured, case, GATEWAY, STOCK, throughput_ratio)
            met = spread.median >= 1.5
            found.append(_aim(f"tokens/s, gateway / stock: {case.name}", ">= 1.5", spread, met, failed))
    return found


def spread_text(spread: Spread, unit: str = "") -> str:
    if spread.rounds == 0:
        return "-"
    return f"{spread.median:.2f} ({spread.least:.2f} to {spread.most:.2f}) {unit}".rstrip()


def _aim(name: str, wanted: str, spread: Spread, met: bool, failed: bool, unit: str = "") -> Aim:
    if spread.rounds == 0:
        return Aim(name, wanted, "not measured", None)
    text = spread_text(spread, unit)
    return Aim(name, wanted, f"{text}; requests failed" if failed else text, met and not failed)


def _row(case: Case, target: str, found: Sequence[Measured]) -> Row:
    ttft = [1000 * value for one in found for value in one.ttft]
    latency = [1000 * value for one in found for value in one.latency]
    return Row(
        case=case,
        target=target,
        requests=len(latency),
        failed=sum(one.failed for one in found),
        ttft_p50=quantile(ttft, 0.5),
        ttft_p99=quantile(ttft, 0.99),
        latency_p50=quantile(latency, 0.5),
        latency_p99=quantile(latency, 0.99),
        requests_per_s=statistics.median(one.requests_per_s for one in found),
        tokens_per_s=statistics.median(one.tokens_per_s for one in found),
    )
