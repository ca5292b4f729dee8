"""`hive plan`: what a values file takes and where it will run, before anything is installed."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from hive import rendering
from hive.commands.shared import ValuesFile, chosen, err, out
from hive.errors import HiveError
from hive.plan import documents, planning, reading, terminal
from hive.plan.advice import advise, told


def plan(
    ctx: typer.Context,
    *,
    values: ValuesFile,
    gpus: Annotated[str | None, typer.Option(help="Totals of the GPUs that there are: 24GiB,24GiB,12GiB.")] = None,
    from_cluster: Annotated[
        bool, typer.Option("--from-cluster", help="The GPUs of the Hive that runs, and what the file changes there.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For machines: every figure, in bytes.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="For a pull request.")] = False,
    svg: Annotated[Path | None, typer.Option(help="Draw the GPUs into this file.")] = None,
    write: Annotated[bool, typer.Option("--write", help="Put `vram` into the file where a model has none.")] = False,
) -> None:
    """What the models take, where each replica goes and what is left. Exit code 1: it does not fit."""
    if gpus and from_cluster:
        raise HiveError("--gpus and --from-cluster both say which GPUs there are", "keep one of them")
    if svg and not (gpus or from_cluster):
        raise HiveError("--svg draws GPUs, and none are named", "add --gpus 24GiB,24GiB,12GiB or --from-cluster")
    if as_json and markdown:
        raise HiveError("--json and --markdown both say how to print", "keep one of them")
    hive = chosen(ctx).target() if from_cluster else None
    asked, changes = reading.read(rendering.read_values(values), gpus, hive), None
    if hive:
        asked, changes = reading.upgrade(asked, hive)
    advice = tuple(told(asked, one) for one in advise(asked))
    found = replace(planning.plan(asked), changes=None if changes is None else tuple(changes), advice=advice)
    if svg:
        _write(svg, documents.svg(found))
    if write:
        reading.write(values, found)
    if as_json:
        print(documents.json(found))
    elif markdown:
        print(documents.markdown(found), end="")
    else:
        out.print(terminal.show(found, out.width))
    for problem in found.problems if not markdown else ():
        err.print(Text(str(problem), style="red"), soft_wrap=True)
    if not found.fits:
        raise typer.Exit(1)


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text)
    except OSError as error:
        raise HiveError(f"{file}: {error.strerror}", "name a file that can be written") from error
