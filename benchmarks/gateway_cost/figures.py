"""From latencies to what the gateway adds, and whether that is little enough. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.serving_speed.figures import Aim, Spread, spread_text
from hive.bench.figures import quantile

MOST_MS = 1.5
GROWTH_MS = 0.1  # what counts as none
FEW, MANY = 5, 50

Rounds = Sequence[Sequence[float]]  # seconds of each request, by round


@dataclass(frozen=True)
class Found:
    """What was measured."""

    direct: Rounds
    through: Mapping[int, Rounds]  # by the number of models
    idle_bytes: Mapping[int, int]  # Envoy's resident size, by the number of models
    streams: int
    bytes_before: int
    bytes_with_streams: int


def median_ms(seconds: Sequence[float]) -> float:
    return 1000 * quantile(seconds, 0.5)


def more(one: Rounds, base: Rounds) -> Spread:
    """Milliseconds that the median request takes more, within each round."""
    return Spread.of([median_ms(a) - median_ms(b) for a, b in zip(one, base, strict=True)])


def aims(found: Found) -> list[Aim]:
    """What the gateway adds to a request, and that it does not depend on how many models there are."""
    added = more(found.through[MANY], found.direct)
    growth = more(found.through[MANY], found.through[FEW])
    return [
        Aim(
            f"gateway alone, p50 with {MANY} models",
            f"<= {MOST_MS} ms more",
            spread_text(added, "ms"),
            added.median <= MOST_MS,
        ),
        Aim(
            f"gateway alone, {MANY} models instead of {FEW}",
            f"<= {GROWTH_MS} ms more",
            spread_text(growth, "ms"),
            growth.median <= GROWTH_MS,
        ),
    ]


def markdown(found: Found) -> str:
    """The part of a report."""
    lines = [
        "## The gateway alone",
        "",
        "Envoy with the chart's configuration before an upstream that answers at once; one request after the other "
        "over one connection; the model that is asked for stands last in the routes.",
        "",
        "| | p50, ms | p99, ms | more than direct (p50), ms | Envoy idle, MiB |",
        "|---|---:|---:|---:|---:|",
        f"| the upstream itself | {_quantiles(found.direct)} | - | - |",
    ]
    for models, rounds in found.through.items():
        added, idle = spread_text(more(rounds, found.direct)), mib(found.idle_bytes[models])
        lines.append(f"| through the gateway, {models} models | {_quantiles(rounds)} | {added} | {idle} |")
    each = (found.bytes_with_streams - found.bytes_before) / max(1, found.streams) / 1024
    lines += [
        "",
        f"With {found.streams} open streams that are idle Envoy holds {mib(found.bytes_with_streams)} MiB, "
        f"{each:.0f} KiB more for each ({mib(found.bytes_before)} MiB before, with {MANY} models).",
    ]
    return "\n".join(lines)


def mib(size: int) -> str:
    return f"{size / 1024 / 1024:.1f}"


def _quantiles(rounds: Rounds) -> str:
    pooled = [1000 * value for one in rounds for value in one]
    return f"{quantile(pooled, 0.5):.3f} | {quantile(pooled, 0.99):.3f}"
