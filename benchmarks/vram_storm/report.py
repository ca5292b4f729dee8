"""A benchmark's storms as a table, and as JSON and Markdown files."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks.vram_storm.verdict import Verdict


def table(verdicts: Mapping[str, Verdict]) -> Table:
    """One column a scenario; what failed is red where it is judged."""
    shown = Table(title="VRAM storm", title_justify="left")
    shown.add_column("")
    for scenario in verdicts:
        shown.add_column(scenario, justify="right")
    for name in _names(verdicts):
        cells = [
            f"[red]{one.figures[name]}[/red]" if name in one.failed else str(one.figures[name])
            for one in verdicts.values()
        ]
        shown.add_row(name, *cells)
    return shown


def save(folder: Path, facts: Mapping[str, Any], verdicts: Mapping[str, Verdict]) -> None:
    """vram_storm.json has everything, vram_storm.md what people read."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = dict(facts) | {
        "scenarios": {
            name: {"figures": one.figures, "failed": list(one.failed), "void": one.void, "examples": one.examples}
            for name, one in verdicts.items()
        }
    }
    (folder / "vram_storm.json").write_text(json.dumps(whole, indent=2) + "\n")
    lines = [
        "# VRAM storm",
        "",
        "Written by `python -m benchmarks.vram_storm`; what each scenario is stands in `benchmarks/vram_storm`.",
        "Bold: what the rule must not show.",
        "",
        *(f"- {name}: {value}" for name, value in facts.items()),
        "",
        f"| | {' | '.join(verdicts)} |",
        f"|---|{'---:|' * len(verdicts)}",
    ]
    for name in _names(verdicts):
        cells = [
            f"**{one.figures[name]}**" if name in one.failed else str(one.figures[name]) for one in verdicts.values()
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    (folder / "vram_storm.md").write_text("\n".join([*lines, ""]))


def _names(verdicts: Mapping[str, Verdict]) -> list[str]:
    return list(next(iter(verdicts.values())).figures)
