"""`hive shutdown`: models off, entries kept."""

from typing import Annotated

import typer

from hive import deploying
from hive.commands.shared import Kept, chosen, complete_model, out, report, watching


def shutdown(
    ctx: typer.Context,
    models: Annotated[
        list[str] | None, typer.Argument(help="Names of models; none: all of them.", autocompletion=complete_model)
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    values: Kept = None,
) -> None:
    """Turn models off (replicas: 0). Their entries stay in the values; `deploy` or `scale` brings them back."""
    hive = chosen(ctx).target(values)
    names = models or list(hive.values().get("models") or {})
    if not models and not yes:
        typer.confirm(f"Turn off all models of {hive.name} ({', '.join(names)})?", abort=True)
    with watching("They go on ending: hive status") as watch:
        deploying.shutdown(hive, names, report, watch)
    out.print(f"Off: {', '.join(names) or 'nothing'}.", markup=False)
