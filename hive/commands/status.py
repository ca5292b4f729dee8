"""`hive status`."""

import typer
from pydantic import BaseModel

from hive import views
from hive.commands.shared import AsJson, chosen, has_page, out
from hive.serve_api import Application
from vram_agent.api import State


class Status(BaseModel):
    """`hive status --json`."""

    name: str
    addresses: list[str]
    applications: list[Application]
    vram: dict[str, State]  # by node


def status(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Models, replicas and VRAM."""
    hive = chosen(ctx).target()
    found, states = hive.applications(), hive.states()
    if as_json:
        said = Status(name=hive.name, addresses=hive.addresses(), applications=found, vram=states)
        print(said.model_dump_json(indent=2))
        return
    out.print(views.applications(found, states), views.vram(states), views.events(states))
    out.print(views.addresses(found, hive.addresses(), has_page(hive)))
