"""The command: `python -m benchmarks.vram_storm --help`."""

import signal
import sys
import tempfile
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from benchmarks import machine, vram_storm
from benchmarks.vram_storm import report, script
from benchmarks.vram_storm.cgroup import NoCgroupError
from benchmarks.vram_storm.script import MIB, Script
from benchmarks.vram_storm.storm import Sizes, Storm
from benchmarks.vram_storm.verdict import Verdict, verdict

RESULTS = Path(__file__).parents[1] / "results"
AROUND = 200 * MIB  # of the headroom: the agent itself, waiters and the kernel's own share of the cgroup
BEYOND = 500 * MIB  # above the headroom
JUDGED = "hive"


class Scenario(StrEnum):
    """See the package."""

    HIVE = "hive"
    NAIVE = "naive"
    BEYOND = "beyond"


ALL = tuple(Scenario)


def main(
    *,
    scenario: Annotated[list[Scenario], typer.Option(help="Which to run; may be given more than once.")] = ALL,  # type: ignore[assignment]
    engines: Annotated[int, typer.Option(help="Engines that ask for a lease.")] = 360,
    rate: Annotated[float, typer.Option(help="Of them a second.")] = 2.0,
    seed: Annotated[int, typer.Option(help="Fixes the whole script.")] = 1,
    spared: Annotated[
        float, typer.Option(help="Seconds after its fork in which no holder is killed; 0 for the whole truth.")
    ] = 0.0,
    pool_mib: Annotated[int, typer.Option(help="The cgroup's limit.")] = 3072,
    headroom_mib: Annotated[int, typer.Option(help="Kept for memory without a lease.")] = 512,
    safety_mib: Annotated[int, typer.Option(help="Never granted.")] = 64,
    results: Annotated[Path, typer.Option(help="Folder for vram_storm.json and vram_storm.md.")] = RESULTS,
    keep: Annotated[Path | None, typer.Option(help="Keep the agent's log and the engines' lines here.")] = None,
) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was started is ended
    sizes = Sizes(pool_mib * MIB, safety_mib * MIB, headroom_mib * MIB)
    facts = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        **machine.describe(),
        "seed": seed,
        "engines": engines,
        "rate": f"{rate} a second",
        "spared": f"{spared} s",
        "pool": f"{pool_mib} MiB, of which headroom {headroom_mib} MiB and safety {safety_mib} MiB",
    }

    def script_of(one: Scenario) -> Script:
        hog_limit = sizes.headroom + BEYOND if one is Scenario.BEYOND else sizes.headroom - AROUND
        return script.write(seed, engines, rate, hog_limit, spared)

    console = Console()
    verdicts: dict[str, Verdict] = {}
    for one in scenario:
        with tempfile.TemporaryDirectory(prefix="hive-storm-") as scratch:
            folder = Path(scratch)
            if keep is not None:
                folder = keep / one.value
                folder.mkdir(parents=True)
            try:
                verdicts[one.value] = play(one, script_of(one), sizes, folder, console)
            except NoCgroupError as error:
                raise SystemExit(f"ERROR: {error}") from error
    console.print(report.table(verdicts))
    for name, found in verdicts.items():
        for kind, examples in found.examples.items():
            console.print(f"{name}, {kind}: {'; '.join(examples)}", highlight=False)
    for name in (name for name, one in verdicts.items() if one.void):
        console.print(f"[yellow]{name} is void: waiting engines filled the headroom; use a lower --rate[/yellow]")
    report.save(results, facts, verdicts)
    console.print(f"Written to {results}")
    if JUDGED in verdicts and verdicts[JUDGED].failed:
        raise SystemExit(1)


def play(scenario: Scenario, written: Script, sizes: Sizes, folder: Path, console: Console) -> Verdict:
    """One storm, with a progress bar."""
    module = "benchmarks.vram_storm.naive" if scenario is Scenario.NAIVE else "vram_agent"
    with Progress(console=console) as progress:
        task = progress.add_task(f"storm {scenario.value}", total=len(written.engines))
        outcome = Storm(written, sizes, module, folder, lambda count: progress.update(task, completed=count)).run()
    promised = 0 if scenario is Scenario.NAIVE else sizes.headroom
    return verdict(written, outcome, sizes, promised)


main.__doc__ = vram_storm.__doc__

if __name__ == "__main__":
    typer.run(main)
