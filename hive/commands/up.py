"""`hive up`: make a values file so."""

import os
import shlex
import shutil
import sys
from typing import Annotated

import typer
from rich.text import Text

from hive import rendering, views
from hive.commands.chat import answer
from hive.commands.shared import Chosen, ValuesFile, chosen, has_page, out, report, watching
from hive.errors import HiveError
from hive.local import checks, driver
from hive.local.run import folders
from hive.local.target import find
from hive.target import Target


def up(
    ctx: typer.Context,
    values: ValuesFile,
    ask: Annotated[
        str | None, typer.Option(help="MODEL: QUESTION. Asked when all serve, if there is that model.")
    ] = None,
) -> None:
    """Make the values file so: start Hive, or change what runs. Asked again, it changes nothing."""
    model, colon, question = (ask or "").partition(": ")
    if ask and not colon:
        raise HiveError(f"--ask {ask!r} names no model", "write --ask 'MODEL: QUESTION'")
    said = chosen(ctx)
    hive = _local(values) if said.release is None else _release(said, values)
    found = hive.applications()
    if ask and model in {application.name for application in found}:
        answer(hive, model, question)
    out.print(views.addresses(found, hive.addresses(), has_page(hive)), views.vram(hive.states()))
    _say_next([application.name for application in found], hive, said)


def _local(values: ValuesFile) -> Target:
    where = folders()
    rendered = checks.prepare(rendering.read_values(values), where)
    run = driver.start(rendered, values, where, report)
    out.print(views.changes(driver.apply(run, where, rendered, values, report)))
    with watching("The models go on starting: hive status") as watch:
        driver.wait(run, where, rendered, watch)
    return find(where)


def _release(said: Chosen, values: ValuesFile) -> Target:
    from hive.cluster.target import ClusterHive

    assert said.release is not None  # noqa: S101
    hive = ClusterHive.open(said.release, said.namespace, said.context)
    wanted = rendering.read_values(values)
    if not hive.kubernetes.has_namespace():
        name = hive.kubernetes.namespace
        raise HiveError(f"there is no namespace {name}", f"kubectl create namespace {name}; or name another")
    hive.check(wanted)
    hive.apply(wanted, f"hive up -f {values.name}", report)
    with watching(f"The release stays and goes on starting: hive --release {said.release} status") as watch:
        hive.wait(report, watch)
    return hive


def _say_next(names: list[str], hive: Target, said: Chosen) -> None:
    """Commands to try."""
    if not names:
        out.print("No models yet: add entries to `models` in the values file, and run this again.")
        return
    options = {"--release": said.release, "--namespace": said.namespace, "--context": said.context}
    named = [part for name, value in options.items() if value for part in (name, value)]
    command = shlex.join(["hive" if shutil.which("hive") else os.path.relpath(sys.argv[0]), *named])
    lines = [f"{command} chat {names[0]} 'What is the capital of Italy?'", f"{command} status"]
    if said.release is None:
        key = f'-H "Authorization: Bearer $(head -qn1 {folders().keys}/* | head -n1)" ' if hive.api_key() else ""
        lines.append(
            f"curl {hive.gateway_url()}/v1/chat/completions {key}-H 'Content-Type: application/json' "
            f'-d \'{{"model": "{names[0]}", "messages": [{{"role": "user", "content": "Hello"}}]}}\''
        )
    out.print("[bold]Next[/bold]")
    for line in lines:
        out.print(Text(f"  {line}"), soft_wrap=True)  # to copy
