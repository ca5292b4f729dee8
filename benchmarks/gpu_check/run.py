"""One run: all checks in their order, whatever happens in between, and an end of everything that was started."""

import signal
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.gpu_check import needs, nvml, report, running, starting
from benchmarks.gpu_check.context import Context, Finding
from benchmarks.gpu_check.processes import BrokenError, adopt_orphans, end_descendants

Check = Callable[[Context], Finding]
CHECKS: dict[str, Check] = {
    "system": starting.system,
    "identity": starting.identity,
    "agent": starting.agent,
    "pin": starting.pinned,
    "pids": starting.pids,
    "lease": starting.leased,
    "context": starting.context,
    "two starts": starting.two_starts,
    "cap": running.cap,
    "budgets": running.budgets,
    "refusal": running.refusal,
    "foreign": running.foreign,
    "cost": running.cost,
    "restart": running.restart,
    "orphan": running.orphan,
    "end": running.ended,
}
STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
SECONDS = 150  # for all checks together


class OutOfTimeError(BaseException):
    """Not an Exception: no check may take it for its own failure."""


def main(results: Path) -> bool:
    """Whether every check is ok."""
    for number in STOPS:
        signal.signal(number, _stop)
    adopt_orphans()
    try:
        gpu = needs.gpu()
        facts: dict[str, Any] = {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "gpu": gpu.name,
            "gpu_memory": f"{gpu.v2().total} bytes",
            "driver": nvml.driver(),
            **needs.torch(),
            **_describe(),
        }
        del facts["available"]
        print("\n".join(f"{name}: {value}" for name, value in facts.items()), flush=True)
        with tempfile.TemporaryDirectory(prefix="hive-gpu-", dir="/tmp") as folder:  # a socket's path must be short
            found = check_all(Context(gpu, Path(folder)))
    finally:
        signal.alarm(0)
        end_descendants()
    report.save(results, facts, found)
    wrong = [name for name, finding in found.items() if not finding.ok]
    print(f"{len(found) - len(wrong)} of {len(found)} ok{'; FAILED: ' if wrong else ''}{', '.join(wrong)}")
    print(f"Written to {results}")
    return not wrong


def check_all(ctx: Context) -> dict[str, Finding]:
    """Every check's finding, printed as it comes."""
    found: dict[str, Finding] = {}
    signal.signal(signal.SIGALRM, _time_is_over)
    signal.alarm(SECONDS)
    try:
        for name, check in CHECKS.items():
            found[name] = attempt(check, ctx)
            print(report.line(name, found[name]), flush=True)
    except OutOfTimeError:
        for name in CHECKS.keys() - found.keys():
            found[name] = Finding(False, f"not made: {SECONDS} s were over")
            print(report.line(name, found[name]), flush=True)
    finally:
        signal.alarm(0)
        ctx.end()
    return found


def attempt(check: Check, ctx: Context) -> Finding:
    """What the check found, or why it could not be made."""
    try:
        return check(ctx)
    except BrokenError as error:
        return Finding(False, str(error))
    except Exception as error:
        return Finding(False, f"{type(error).__name__}: {error}")


def _describe() -> dict[str, str]:
    try:
        return machine.describe()
    except (OSError, ValueError) as error:  # a sandbox without all of /proc
        return {"machine": f"it does not say: {error}"}


def _stop(number: int, _: object) -> None:
    for other in STOPS:
        signal.signal(other, signal.SIG_IGN)  # the end must not be ended
    raise SystemExit(128 + number)


def _time_is_over(*_: object) -> None:
    raise OutOfTimeError
