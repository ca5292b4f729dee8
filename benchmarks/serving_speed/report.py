"""What a run gives: a table to read, all figures to compute with, and a picture."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.serving_speed import figures, plot
from benchmarks.serving_speed.figures import BARE, STOCK, Aim, Measured, Row

NAME = "serving_speed"
HEAD = (
    "case",
    "target",
    "TTFT p50",
    "TTFT p99",
    "end to end p50",
    "end to end p99",
    "requests/s",
    "tokens/s",
    "failed",
)
RATIO_HEAD = ("case", "target", "TTFT - bare, ms", "end to end / bare", "tokens/s / bare", "tokens/s / stock")
MARKS = {True: "yes", False: "**no**", None: "not measured"}


@dataclass(frozen=True)
class Report:
    """One run: where it ran, everything it measured, and what others measured in the same run."""

    facts: Mapping[str, str]
    measured: Sequence[Measured]
    more_aims: Sequence[Aim] = ()
    more_tables: str = ""
    more_figures: Mapping[str, Any] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{NAME}.md").write_text(self.markdown() + f"\n![The same as a picture]({NAME}.png)\n")
        (folder / f"{NAME}.json").write_text(self.json())
        plot.draw(figures.rows(self.measured), folder / f"{NAME}.png")

    def aims(self) -> list[Aim]:
        return [*figures.aims(self.measured), *self.more_aims]

    def markdown(self) -> str:
        parts = [
            "# Serving speed",
            "Written by `python -m benchmarks.serving_speed`; what is measured, and how, stands in "
            "`benchmarks/serving_speed`.",
            "\n".join(f"- {name}: {value}" for name, value in self.facts.items()),
            "## Aims",
            table(
                ("aim", "wanted", "found", "met"),
                ((aim.name, aim.wanted, aim.found, MARKS[aim.met]) for aim in self.aims()),
            ),
            "Found: the median of all rounds, with the least and the most.",
            "## All cases",
            table(HEAD, (_cells(row) for row in figures.rows(self.measured))),
            "Milliseconds. p50 and p99 are over the requests of all rounds, requests/s and tokens/s are the median "
            "round's; tokens are those of the answers.",
            "## Beside bare vLLM and stock Ray Serve LLM",
            table(RATIO_HEAD, ratio_rows(self.measured)),
            "Each figure compares two targets within one round; the median of the rounds, with the least and the most.",
        ]
        if self.more_tables:
            parts.append(self.more_tables)
        return "\n\n".join(parts) + "\n"

    def json(self) -> str:
        """Everything, one measurement a line; seconds."""
        head = {"facts": dict(self.facts), "aims": [asdict(aim) for aim in self.aims()]}
        more = "".join(f',\n "{name}": {json.dumps(value)}' for name, value in self.more_figures.items())
        lines = ",\n".join(f"  {json.dumps(_record(one))}" for one in self.measured)
        return f'{json.dumps(head, indent=1)[:-2]}{more},\n "measured": [\n{lines}\n ]\n}}\n'


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown; columns after the second stand right."""
    marks = ["---" if place < 2 else "---:" for place in range(len(head))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, marks, *rows])


def ratio_rows(measured: Sequence[Measured]) -> Sequence[Sequence[str]]:
    """Every case and target that is not the base, against both bases."""
    found = []
    for row in figures.rows(measured):
        if row.target == BARE:
            continue

        def spread(base: str, compare: Any, row: Row = row) -> str:
            if base == row.target:
                return "-"
            return figures.spread_text(figures.paired(measured, row.case, row.target, base, compare))

        found.append(
            (
                row.case.name,
                row.target,
                spread(BARE, figures.ttft_more) if row.case.streamed else "-",
                spread(BARE, figures.latency_ratio),
                spread(BARE, figures.throughput_ratio),
                spread(STOCK, figures.throughput_ratio),
            )
        )
    return found


def _cells(row: Row) -> Sequence[str]:
    ttft = (f"{row.ttft_p50:.1f}", f"{row.ttft_p99:.1f}") if row.case.streamed else ("-", "-")
    return (
        row.case.name,
        row.target,
        *ttft,
        f"{row.latency_p50:.1f}",
        f"{row.latency_p99:.1f}",
        f"{row.requests_per_s:.2f}",
        f"{row.tokens_per_s:.1f}",
        str(row.failed),
    )


def _record(one: Measured) -> dict[str, Any]:
    """A ten-thousandth of a second is finer than what is measured."""
    case = {name: value for name, value in asdict(one.case).items() if name != "beside"}
    return {
        "case": one.case.name,
        **case,
        "target": one.target,
        "round": one.round,
        "duration": round(one.duration, 4),
        "tokens": one.tokens,
        "failed": one.failed,
        "errors": list(one.errors),
        "ttft": [round(value, 4) for value in one.ttft],
        "latency": [round(value, 4) for value in one.latency],
    }
