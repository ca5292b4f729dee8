"""The command: `python -m benchmarks.agent_cost --help`."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks import agent_cost, machine
from benchmarks.agent_cost.node import ROOT, Load, Node
from tests import fake_nvml

RESULTS = Path(__file__).parents[1] / "results"
LOADS = ("8x64", "16x256")
SAMPLING_ROUNDS = 100
MIB = 1024 * 1024


def main(
    *,
    loads: Annotated[list[str], typer.Option("--load", help="GPUs x leases; may be given more than once.")] = LOADS,  # type: ignore[assignment]
    seconds: Annotated[float, typer.Option(help="How long the CPU share is measured.")] = 30.0,
    rounds: Annotated[int, typer.Option(help="Engines that come and go.")] = 400,
    reads: Annotated[int, typer.Option(help="Times that state and metrics are read.")] = 300,
    profile: Annotated[bool, typer.Option(help="Also say where the CPU time goes.")] = False,
    results: Annotated[Path, typer.Option(help="Folder for agent_cost.json and agent_cost.md.")] = RESULTS,
) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was started is ended
    if shutil.which("cc") is None:
        raise SystemExit("ERROR: there is no `cc` on PATH\nFIX: install a C compiler (Debian: gcc)")
    facts = {"date": datetime.now(UTC).isoformat(timespec="seconds"), **machine.describe()}
    console = Console()
    figures: dict[str, dict[str, Any]] = {}
    profiles: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="hive-cost-") as scratch:
        library = fake_nvml.build(Path(scratch))
        for load in (Load(*map(int, one.split("x"))) for one in loads):
            folder = Path(scratch) / str(load.leases)
            folder.mkdir()
            with console.status(f"{load.name}: starting"), Node(load, library, folder, ["vram_agent"]) as node:
                figures[load.name] = measure(node, seconds, rounds, reads)
            if profile:
                with console.status(f"{load.name}: profiling"):
                    profiles[load.name] = profile_of(load, library, folder, seconds)
    console.print(table(figures))
    for name, found in profiles.items():
        console.print(profile_table(name, found))
    results.mkdir(parents=True, exist_ok=True)
    whole = {**facts, "loads": figures, "profiles": profiles}
    (results / "agent_cost.json").write_text(json.dumps(whole, indent=2) + "\n")
    (results / "agent_cost.md").write_text(markdown(facts, figures))
    console.print(f"Written to {results}")


def measure(node: Node, seconds: float, rounds: int, reads: int) -> dict[str, Any]:
    """One load's figures, in the order to show them."""
    cpu, began = node.cpu_seconds(), time.monotonic()
    time.sleep(seconds)
    share = (node.cpu_seconds() - cpu) / (time.monotonic() - began)
    steps = node.passers_by(rounds)
    state, state_size = timed(node.state, reads)
    metrics, metrics_size = timed(node.metrics, reads)
    return {
        "CPU, nothing asked (% of one core)": round(100 * share, 1),
        "of which the fake NVML (% of one core)": round(100 * sampling(node) / 0.5, 1),
        "resident memory (MiB)": node.resident() // MIB,
        **{
            f"{step}, {name} (ms)": milliseconds([one[step] for one in steps], share)
            for step in ("grant", "activate", "drain")
            for name, share in QUANTILES.items()
        },
        **{f"GET /v1/state, {name} (ms)": milliseconds(state, share) for name, share in QUANTILES.items()},
        "size of the state (KiB)": state_size // 1024,
        **{f"GET /metrics, {name} (ms)": milliseconds(metrics, share) for name, share in QUANTILES.items()},
        "size of the metrics (KiB)": metrics_size // 1024,
        "processes on the machine": sum(name.isdigit() for name in os.listdir("/proc")),
    }


QUANTILES = {"p50": 0.5, "p99": 0.99}


def timed(read: Callable[[], bytes], times: int) -> tuple[list[float], int]:
    """Seconds of each read, and the size of the last one in bytes."""
    found = []
    body = b""
    for _ in range(times):
        began = time.perf_counter()
        body = read()
        found.append(time.perf_counter() - began)
        time.sleep(0.01)  # so that reads meet sampling rounds as they come, not the gap behind the last one
    return found, len(body)


def milliseconds(values: list[float], share: float) -> float:
    """A quantile of seconds."""
    ordered = sorted(values)
    return round(1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 1)


def sampling(node: Node) -> float:
    """CPU seconds of one reading of all GPUs, nearly all of it in the fake library."""
    program = [sys.executable, "-m", "benchmarks.agent_cost.sampling", str(SAMPLING_ROUNDS)]
    env = {"PATH": os.environ["PATH"], **node.nvml.env}
    return float(subprocess.run(program, cwd=ROOT, env=env, check=True, capture_output=True, text=True).stdout)


def profile_of(load: Load, library: Path, folder: Path, seconds: float) -> Any:
    """What profiled.py wrote, of the rounds alone: nothing is asked meanwhile."""
    folder = folder / "profile"  # a ledger of its own
    folder.mkdir()
    written = folder / "profile.json"
    with Node(load, library, folder, ["benchmarks.agent_cost.profiled", str(written)]) as node:
        os.kill(node.pid, signal.SIGUSR1)
        time.sleep(seconds)
        os.kill(node.pid, signal.SIGUSR2)
        while not written.exists():
            time.sleep(0.05)
    return json.loads(written.read_text())


def table(figures: dict[str, dict[str, Any]]) -> Table:
    shown = Table(title="The agent's cost", title_justify="left")
    shown.add_column("")
    for load in figures:
        shown.add_column(load, justify="right")
    for name in next(iter(figures.values())):
        shown.add_row(name, *(str(one[name]) for one in figures.values()))
    return shown


def profile_table(load: str, found: Any) -> Table:
    shown = Table(title=f"Where the CPU time goes: {load} ({found['samples']} samples)", title_justify="left")
    shown.add_column("in, callees included")
    shown.add_column("share", justify="right")
    shown.add_column("at")
    shown.add_column("share", justify="right")
    for (within, first), (at, second) in zip(found["within"].items(), found["at"].items(), strict=False):
        shown.add_row(within, f"{first:.1%}", at, f"{second:.1%}")
    return shown


def markdown(facts: dict[str, Any], figures: dict[str, dict[str, Any]]) -> str:
    lines = [
        "# The agent's cost",
        "",
        "Written by `python -m benchmarks.agent_cost`; what is measured stands in `benchmarks/agent_cost`.",
        "",
        *(f"- {name}: {value}" for name, value in facts.items()),
        "",
        f"| | {' | '.join(figures)} |",
        f"|---|{'---:|' * len(figures)}",
        *(
            f"| {name} | {' | '.join(str(one[name]) for one in figures.values())} |"
            for name in next(iter(figures.values()))
        ),
        "",
    ]
    return "\n".join(lines)


main.__doc__ = agent_cost.__doc__

if __name__ == "__main__":
    typer.run(main)
