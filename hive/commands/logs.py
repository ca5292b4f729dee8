"""`hive logs`: what a model's replicas write."""

from typing import Annotated

import typer

from hive.commands.shared import Model, chosen


def logs(
    ctx: typer.Context,
    model: Model,
    follow: Annotated[bool, typer.Option("--follow", help="Go on with what is written from now on.")] = False,
) -> None:
    """The logs of a model's replicas, or of those that died last where none lives."""
    for line in chosen(ctx).target().logs(model, follow):
        print(line, flush=follow)
