"""What a check says."""

from collections.abc import Callable, Iterable
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from hive.errors import HiveError


class Verdict(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"  # it serves, and something should be looked at
    FAILED = "failed"  # something does not work, or will not


class Finding(BaseModel):
    """One thing that was looked at."""

    model_config = ConfigDict(frozen=True)

    verdict: Verdict
    what: str  # what was seen
    fix: str = ""  # one line, a command where there is one; empty where nothing is wrong


class ForbiddenError(HiveError):
    """This user may not look, so what is there is not known."""


class Group(BaseModel):
    """Findings about one part."""

    name: str
    findings: list[Finding]


def ok(what: str) -> Finding:
    return Finding(verdict=Verdict.OK, what=what)


def warning(what: str, fix: str) -> Finding:
    return Finding(verdict=Verdict.WARNING, what=what, fix=fix)


def failed(what: str, fix: str) -> Finding:
    return Finding(verdict=Verdict.FAILED, what=what, fix=fix)


def count(groups: Iterable[Group], verdict: Verdict) -> int:
    """Findings of this verdict."""
    return sum(finding.verdict is verdict for group in groups for finding in group.findings)


def checked(name: str, *checks: Callable[[], Iterable[Finding]]) -> Group:
    """What these checks find; what can't be read is a finding too."""
    findings: list[Finding] = []
    for check in checks:
        try:
            findings += check()
        except ForbiddenError as error:
            findings.append(warning(error.what, error.fix))
        except HiveError as error:
            findings.append(failed(error.what, error.fix))
    return Group(name=name, findings=list(dict.fromkeys(findings)))  # two checks may miss the same thing
