"""Findings in the terminal. Turns data into rich renderables."""

from collections.abc import Sequence

from rich.console import Group as Lines
from rich.console import RenderableType
from rich.text import Text

from hive.doctor.finding import Finding, Group, Verdict, count

STYLES = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.FAILED: "bold red"}
WIDTH = max(map(len, Verdict))


def show(group: Group) -> RenderableType:
    """A group, each finding with its mend."""
    return Lines(Text(group.name, style="italic"), *(_line(finding) for finding in group.findings))


def summary(groups: Sequence[Group]) -> Text:
    """One line over all of it."""
    counts = {verdict: count(groups, verdict) for verdict in Verdict}
    worst = next(
        verdict for verdict in (Verdict.FAILED, Verdict.WARNING, Verdict.OK) if counts[verdict] or verdict is Verdict.OK
    )
    return Text(", ".join(f"{number} {verdict}" for verdict, number in counts.items()), style=STYLES[worst])


def _line(finding: Finding) -> Text:
    line = Text(f"  {finding.verdict:<{WIDTH}}  ", style=STYLES[finding.verdict]).append(finding.what, style="default")
    if finding.fix:
        line.append(f"\n  {'':<{WIDTH}}  FIX: {finding.fix}", style="dim")
    return line
