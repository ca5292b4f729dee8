"""`hive models`: every entry of the values, with what serves of it."""

import typer
from pydantic import TypeAdapter
from rich.table import Table
from rich.text import Text

from hive import catalog, views
from hive.catalog import Listed
from hive.commands.shared import AsJson, chosen, out


def models(ctx: typer.Context, as_json: AsJson = False) -> None:
    """The models that the values name, and what the gateway serves of each."""
    hive = chosen(ctx).target()
    found = catalog.join(hive.values(), hive.applications(), catalog.cards(hive.gateway_url(), hive.api_key()))
    if as_json:
        print(TypeAdapter(list[Listed]).dump_json(found, indent=2).decode())
    else:
        out.print(_table(found))


def _table(found: list[Listed]) -> Table:
    table = Table(title="Models", title_justify="left")
    for column in ("model", "state", "replicas", "vram", "length", "source", "also called", "adapters"):
        table.add_column(column, justify="right" if column in ("replicas", "vram", "length") else "left")
    for one in found:
        table.add_row(
            one.name,
            Text(one.state, style=views.COLOURS.get(one.state, "")),
            f"{one.running} of {one.wanted}",
            one.vram or "",
            "" if one.max_model_len is None else str(one.max_model_len),
            one.source,
            ", ".join(one.aliases),
            ", ".join(one.adapters),
        )
    return table
