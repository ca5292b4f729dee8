"""The command: `python -m benchmarks.gateway_cost --help`. `make bench` measures the same and keeps it."""

import signal
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks import gateway_cost
from benchmarks.gateway_cost import figures, run


def main(
    *,
    rounds: Annotated[int, typer.Option(help="Times that every gateway is asked.")] = 8,
    requests: Annotated[int, typer.Option(help="Requests of each time.")] = 250,
) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was started is ended
    console = Console(highlight=False)
    with tempfile.TemporaryDirectory(prefix="hive-gateway-") as name:
        found = run.measure(Path(name), lambda line: console.print(f"[dim]{line}[/dim]"), rounds, requests)
    console.print(figures.markdown(found), soft_wrap=True)
    for aim in figures.aims(found):
        console.print(f"{aim.name}: {aim.wanted}: {aim.found}: {'met' if aim.met else 'NOT met'}", soft_wrap=True)


main.__doc__ = gateway_cost.__doc__

if __name__ == "__main__":
    typer.run(main)
