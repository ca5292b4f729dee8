"""`hive doctor`: what is wrong, and what mends it."""

import contextlib
from collections.abc import Iterator
from typing import Annotated

import typer
from pydantic import TypeAdapter

from hive.commands.shared import AsJson, Chosen, chosen, out
from hive.doctor import here, terminal
from hive.doctor.finding import Group, Verdict, count
from hive.local.run import folders


def doctor(
    ctx: typer.Context,
    deep: Annotated[
        bool,
        typer.Option(
            "--deep",
            help="Also try: a job that computes for 2 s on all CPUs that Ray counts, and a question to every model.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """What is wrong and what mends it: of this machine, or with --release of a cluster, before an install and after it.

    Exit code 1: something failed.
    """
    found: list[Group] = []
    with contextlib.nullcontext() if as_json else out.status("Looking"):
        for group in _groups(chosen(ctx), deep):
            found.append(group)
            if not as_json:
                out.print(terminal.show(group), soft_wrap=True)
    if as_json:
        print(TypeAdapter(list[Group]).dump_json(found, indent=2).decode())
    else:
        out.print(terminal.summary(found))
    if count(found, Verdict.FAILED):
        raise typer.Exit(1)


def _groups(which: Chosen, deep: bool) -> Iterator[Group]:
    if which.release is None:
        return here.groups(folders(), tries=deep)
    from hive.cluster.target import ClusterHive
    from hive.doctor import cluster

    return cluster.groups(ClusterHive.open(which.release, which.namespace, which.context), tries=deep)
