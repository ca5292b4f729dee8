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
    columns: dict[str, list[str | Text]] = {
        "model": [one.name for one in found],
        "state": [Text(one.state, style=views.COLOURS.get(one.state, "")) for one in found],
        "replicas": [f"{one.running} of {one.wanted}" for one in found],
        "vram": [one.vram or "" for one in found],
        "length": ["" if one.max_model_len is None else str(one.max_model_len) for one in found],
        "source": [one.source for one in found],
        "aliases": [", ".join(one.aliases) for one in found],
        "adapters": [", ".join(one.adapters) for one in found],
    }
    told = {name: cells for name, cells in columns.items() if any(map(str, cells))}
    for name in told:
        table.add_column(name, justify="right" if name in ("replicas", "vram", "length") else "left", overflow="fold")
    for row in zip(*told.values(), strict=True):
        table.add_row(*row)
    return table
