"""`hive scale`: more replicas of a model, or fewer."""

from typing import Annotated

import typer

from hive import deploying
from hive.commands.shared import Kept, Model, chosen, out, report, watching


def scale(
    ctx: typer.Context,
    model: Model,
    replicas: Annotated[int, typer.Argument(min=0, help="How many.")],
    values: Kept = None,
) -> None:
    """Change the number of a model's replicas; those that stay are not touched."""
    hive = chosen(ctx).target(values)
    with watching(f"{model} goes on to {replicas} replicas: hive status") as watch:
        deploying.scale(hive, model, replicas, report, watch)
    out.print(f"{model}: {replicas} {'replica' if replicas == 1 else 'replicas'}.", markup=False)
