"""What the terminal shows. Everything here turns data into rich renderables."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hive.changes import Change, Effect
from hive.serve_api import Application
from vram_agent.api import State, human

COLOURS = {"RUNNING": "green", "DEPLOYING": "yellow", "DEPLOY_FAILED": "red", "UNHEALTHY": "red"}
EFFECTS = {Effect.ADD: "green", Effect.REMOVE: "red", Effect.RESTART: "yellow", Effect.IN_PLACE: "cyan"}


def changes(found: Sequence[Change]) -> RenderableType:
    """What an edit does."""
    if not found:
        return Text("Nothing to change: what runs is what the values ask for.")
    lines = [
        Text.assemble(
            (change.model, "bold"), " ", (change.effect, EFFECTS[change.effect]), "  ", (change.details, "dim")
        )
        for change in found
    ]
    return Group(*lines)


def applications(found: Sequence[Application], state: State) -> Table:
    """Models and replicas, with the device and PID of each."""
    leases = {pid: lease for lease in state.leases for pid in lease.pids}
    table = Table(title="Models", title_justify="left")
    for column in ("model", "state", "replica", "node", "device", "pid"):
        table.add_column(column)
    for app in found:
        status = Text(app.status, style=COLOURS.get(app.status, ""))
        listed = {replica.pid for replica in app.replicas}
        rows = [(f"{r.id} {r.state}", r.node, leases.get(r.pid or 0), r.pid) for r in app.replicas]
        # Serve lists no replica while it builds a new version, or after that failed; the one before goes on serving.
        others = [lease for lease in state.leases if lease.model == app.name and lease.pid not in listed]
        rows += [(f"not listed, lease {lease.state}", state.node, lease, lease.pid) for lease in others]
        for number, (replica, node, lease, pid) in enumerate(rows or [("-", "-", None, None)]):
            device = ", ".join(lease.devices) if lease else "-"
            first = (app.name, status) if number == 0 else ("", "")
            table.add_row(*first, replica, node, device, str(pid or "-"))
        if app.reason and app.status != "RUNNING":
            table.add_row("", Text(app.reason.splitlines()[-1], style="dim", overflow="fold"))
    return table


def vram(state: State) -> Table:
    """Devices: total, leased by model, what else holds memory, free."""
    table = Table(title="VRAM", title_justify="left")
    table.add_column("device")
    for column in ("total", "leased", "in use"):
        table.add_column(column, justify="right")
    table.add_column("by")
    table.add_column("free", justify="right")
    for device in state.devices:
        table.add_row(device.id, human(device.total), human(device.leased), "", device.name, human(device.free))
        for lease in state.leases:
            if device.id in lease.devices:
                used = human(lease.used[device.id])
                table.add_row("", "", human(lease.bytes), used, f"{lease.model} ({lease.state}, pid {lease.pid})", "")
        table.add_row("", "", "", human(device.foreign), f"without a lease ({human(device.headroom)} kept for it)", "")
        if device.error:
            table.add_row("", "", "", "", Text(device.error, style="red"), "")
    return table


def addresses(found: Sequence[Application], serve_url: str) -> Group:
    """Where to point an OpenAI client."""
    width = max((len(app.name) for app in found), default=0)
    lines = [Text(f"  {app.name:<{width}}  {serve_url}/models/{app.name}/v1") for app in found]
    return Group(Text("Addresses (OpenAI API)", style="bold"), *lines)
