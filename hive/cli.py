"""The `hive` command."""

import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.live import Live
from rich.text import Text

from hive import chat as chatting
from hive import views
from hive.errors import HiveError
from hive.local import driver, gateway
from hive.local.run import folders
from hive.plan import documents, planning, reading, terminal
from hive.plan.advice import advise, told
from hive.rendering import Rendered
from hive.serve_api import Application
from vram_agent.api import State

app = typer.Typer(
    no_args_is_help=True, pretty_exceptions_short=True, help="Many LLMs on the GPUs you own, every byte accounted for."
)
out = Console()
err = Console(stderr=True)

Values = Annotated[Path, typer.Option("--values", "-f", help="The values file.")]


class Status(BaseModel):
    """`hive status --json`."""

    applications: list[Application]
    vram: State


@app.command()
def up(
    values: Values,
    ask: Annotated[
        str | None, typer.Option(help="MODEL: QUESTION. Asked when all serve, if there is that model.")
    ] = None,
) -> None:
    """Make the values file so on this machine: start Hive, or change what runs. Asked again, it changes nothing."""
    where = folders()
    model, colon, question = (ask or "").partition(": ")
    try:
        if ask and not colon:
            raise HiveError(f"--ask {ask!r} names no model", "write --ask 'MODEL: QUESTION'")
        rendered = driver.prepare(values, where)
        hive = driver.start(rendered, values, where, _report)
        out.print(views.changes(driver.apply(hive, rendered, _report)))
        _wait(hive, rendered)
        found = hive.applications()
        if ask and model in {application.name for application in found}:
            _stream(hive, model, question)
        out.print(views.addresses(found, hive.run.gateway_url, hive.run.serve_url), views.vram(hive.state()))
        _say_next(found, hive)
    except HiveError as error:
        _fail(error)


@app.command()
def down() -> None:
    """Stop the Hive of this machine: no process and no lease stays."""
    where = folders()
    driver.stop(where, _report)
    out.print("Hive is down: no process and no lease is left.")


@app.command()
def status(as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False) -> None:
    """Models, replicas and VRAM."""
    try:
        hive = driver.find(folders())
        found, state = hive.applications(), hive.state()
    except HiveError as error:
        _fail(error)
    if as_json:
        print(Status(applications=found, vram=state).model_dump_json(indent=2))
        return
    out.print(views.applications(found, state), views.vram(state), views.events(state))
    out.print(views.addresses(found, hive.run.gateway_url, hive.run.serve_url))


@app.command()
def plan(
    *,
    values: Values,
    gpus: Annotated[str | None, typer.Option(help="Totals of the GPUs that there are: 24GiB,24GiB,12GiB.")] = None,
    from_state: Annotated[
        bool, typer.Option("--from-state", help="The GPUs of the Hive that runs here, and what changes there.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For machines: every figure, in bytes.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="For a pull request.")] = False,
    svg: Annotated[Path | None, typer.Option(help="Draw the GPUs into this file.")] = None,
    write: Annotated[bool, typer.Option("--write", help="Put `vram` into the file where a model has none.")] = False,
) -> None:
    """What the models take, where each replica goes and what is left. Exit code 1: it does not fit."""
    where = folders()
    try:
        if gpus and from_state:
            raise HiveError("--gpus and --from-state both say which GPUs there are", "keep one of them")
        if svg and not (gpus or from_state):
            raise HiveError("--svg draws GPUs, and none are named", "add --gpus 24GiB,24GiB,12GiB or --from-state")
        if as_json and markdown:
            raise HiveError("--json and --markdown both say how to print", "keep one of them")
        hive = driver.find(where) if from_state else None
        asked, changes = reading.read(values, where.models, gpus, hive), None
        if hive:
            asked, changes = reading.upgrade(asked, hive)
        advice = tuple(told(asked, one) for one in advise(asked))
        found = replace(planning.plan(asked), changes=None if changes is None else tuple(changes), advice=advice)
        if svg:
            _write(svg, documents.svg(found))
        if write:
            reading.write(values, found)
    except HiveError as error:
        _fail(error)
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


@app.command()
def chat(
    model: Annotated[str, typer.Argument(help="Name of the model.")],
    question: Annotated[str, typer.Argument(help="What to ask.")],
    max_tokens: Annotated[int | None, typer.Option(help="At most so many tokens.")] = None,
) -> None:
    """Ask a model one question and see the answer as it comes."""
    try:
        hive = driver.find(folders())
        names = [application.name for application in hive.applications()]
        if model not in names:
            raise HiveError(f"there is no model {model!r}", f"the models are: {', '.join(names) or 'none'}")
        _stream(hive, model, question, max_tokens)
    except HiveError as error:
        _fail(error)


def _report(line: str) -> None:
    out.print(f"[dim]{line}[/dim]")


def _wait(hive: driver.LocalHive, rendered: Rendered) -> None:
    """Live on a terminal; elsewhere a line whenever something changes."""
    if out.is_terminal:
        with Live(console=out, transient=True, refresh_per_second=4) as live:
            driver.wait(hive, rendered, lambda found, state: live.update(views.applications(found, state)))
        return
    last: list[str] = []

    def say(found: list[Application], _: State) -> None:
        nonlocal last
        lines = [_line(application) for application in found]
        if lines != last:
            out.print("; ".join(lines), highlight=False)
            last = lines

    driver.wait(hive, rendered, say)


def _line(application: Application) -> str:
    states = [replica.state for replica in application.replicas]
    reason = "" if application.ready or not application.reason else f": {application.reason}"
    return f"{application.name} {application.status} {states}{reason}"


def _stream(hive: driver.LocalHive, model: str, question: str, max_tokens: int | None = None) -> None:
    out.print(Text(question, style="bold"))
    key = gateway.api_key(hive.where)
    for piece in chatting.ask(f"{hive.run.gateway_url}/v1", key, model, question, max_tokens):
        out.print(piece, end="", highlight=False, markup=False, soft_wrap=True)
    out.print()


def _say_next(found: list[Application], hive: driver.LocalHive) -> None:
    """Three commands to try."""
    if not found:
        out.print("No models yet: add entries to `models` in the values file, and run this again.")
        return
    name = found[0].name
    key = (
        f'-H "Authorization: Bearer $(head -qn1 {hive.where.keys}/* | head -n1)" '
        if gateway.api_key(hive.where)
        else ""
    )
    curl = (
        f"curl {hive.run.gateway_url}/v1/chat/completions {key}-H 'Content-Type: application/json' "
        f'-d \'{{"model": "{name}", "messages": [{{"role": "user", "content": "Hello"}}]}}\''
    )
    command = "hive" if shutil.which("hive") else os.path.relpath(sys.argv[0])
    out.print("[bold]Next[/bold]")
    for line in (f"{command} chat {name} 'What is the capital of Italy?'", f"{command} status", curl):
        out.print(Text(f"  {line}"), soft_wrap=True)  # to copy


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text)
    except OSError as error:
        raise HiveError(f"{file}: {error.strerror}", "name a file that can be written") from error


def _fail(error: HiveError) -> NoReturn:
    err.print(Text(str(error)), style="red", soft_wrap=True)
    raise typer.Exit(1)


if __name__ == "__main__":
    app()
