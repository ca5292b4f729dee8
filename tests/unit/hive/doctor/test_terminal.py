"""Findings as people see them."""

import io

from rich.console import Console

from hive.doctor import terminal
from hive.doctor.finding import Finding, ForbiddenError, Verdict, checked, count, failed, ok, warning
from hive.errors import HiveError


def test_each_finding_has_its_mend_below_it() -> None:
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(terminal.show(checked("Part", lambda: [ok("good"), warning("odd", "look"), failed("bad", "mend")])))
    assert [line.strip() for line in console.export_text().splitlines()] == [
        "Part",
        "ok       good",
        "warning  odd",
        "FIX: look",
        "failed   bad",
        "FIX: mend",
    ]


def test_the_summary_counts_and_is_as_red_as_the_worst() -> None:
    groups = [checked("a", lambda: [ok("good"), warning("odd", "look")]), checked("b", lambda: [failed("bad", "mend")])]
    said = terminal.summary(groups)
    assert said.plain == "1 ok, 1 warning, 1 failed"
    assert "red" in str(said.style)
    assert "yellow" in str(terminal.summary(groups[:1]).style)
    assert terminal.summary([]).style == "green"
    assert count(groups, Verdict.OK) == 1


def test_what_can_not_be_read_is_a_finding_and_the_rest_is_still_checked() -> None:
    def down() -> list[Finding]:
        raise HiveError("no answer", "start it")

    def forbidden() -> list[Finding]:
        raise ForbiddenError("may not list nodes", "ask for it")

    found = checked("Part", down, forbidden, lambda: [ok("good")])
    assert [finding.verdict for finding in found.findings] == [Verdict.FAILED, Verdict.WARNING, Verdict.OK]
