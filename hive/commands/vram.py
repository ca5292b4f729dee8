"""`hive vram`: who has which bytes of which device, now or as it goes on."""

import contextlib
import time
from typing import Annotated

import typer
from pydantic import TypeAdapter
from rich.live import Live

from hive import usage, views
from hive.commands.shared import AsJson, chosen, out
from hive.errors import HiveError
from hive.target import Target
from vram_agent.api import State

PERIOD = 0.5  # seconds; agents take samples as often


def vram(
    ctx: typer.Context,
    live: Annotated[bool, typer.Option("--live", help="Bars with their history, until Ctrl-C.")] = False,
    as_json: AsJson = False,
) -> None:
    """Bytes of each device: leased, in use, free. On something that is no terminal, --live prints them once."""
    hive = chosen(ctx).target()
    if as_json:
        print(TypeAdapter(dict[str, State]).dump_json(hive.states(), indent=2).decode())
    elif live and out.is_terminal:
        _watch(hive)
    else:
        out.print(views.vram(hive.states()))


def _watch(hive: Target) -> None:
    states, history = hive.states(), usage.History()
    with contextlib.suppress(KeyboardInterrupt), Live(console=out, auto_refresh=False) as shown:
        while True:
            trouble = ""
            try:
                states = hive.states()
                history.add(states)
            except HiveError as error:  # an agent may be starting again
                trouble = error.what
            shown.update(usage.show(states, history, out.width, trouble), refresh=True)
            time.sleep(PERIOD)
