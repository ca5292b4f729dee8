"""What the terminal shows. Everything here turns data into rich renderables."""

from collections.abc import Sequence
from datetime import datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hive.changes import Change, Effect
from hive.serve_api import Application
from vram_agent.api import Enforcement, EventKind, Lease, State, human

COLOURS = {"RUNNING": "green", "DEPLOYING": "yellow", "DEPLOY_FAILED": "red", "UNHEALTHY": "red"}
EVENTS_SHOWN = 8
LIMITS = {
    Enforcement.DRIVER: "limits by the driver",
    Enforcement.TORCH: "limits by PyTorch",
    Enforcement.NONE: "measured, not limited",
}
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
    for column in ("model", "state", "replica", "lease", "node", "device", "pid"):
        table.add_column(column)
    for app in found:
        status = Text(app.status, style=COLOURS.get(app.status, ""))
        listed = {replica.pid for replica in app.replicas}
        others = [lease for lease in state.leases if lease.model == app.name and lease.pid not in listed]
        rows = []
        for replica in app.replicas:
            # Serve tells the PID of a replica only when it runs.
            lease = leases.get(replica.pid) if replica.pid else others.pop(0) if others else None
            rows.append((f"{replica.id} {replica.state}", replica.node, lease))
        # Serve lists no replica while it builds a new version, or after that failed; the one before goes on serving.
        rows += [("not listed", state.node, lease) for lease in others]
        for number, (name, node, lease) in enumerate(rows or [("-", "-", None)]):
            first = (app.name, status) if number == 0 else ("", "")
            held = (lease.state, node, ", ".join(lease.devices), str(lease.pid)) if lease else ("-", node, "-", "-")
            table.add_row(*first, name, *held)
        if app.reason and app.status != "RUNNING":
            table.add_row("", Text(app.reason.splitlines()[-1], style="dim", overflow="fold"))
    return table


def vram(state: State) -> Table:
    """Devices: total, leased by model, what else holds memory, free, and who keeps engines inside their leases."""
    table = Table(title="VRAM", title_justify="left")
    table.add_column("device")
    for column in ("total", "leased", "in use"):
        table.add_column(column, justify="right")
    table.add_column("by")
    table.add_column("free", justify="right")
    for device in state.devices:
        free = Text(human(device.free), style="red" if device.over else "")
        name = f"{device.name} ({LIMITS[device.enforcement]})"
        table.add_row(device.id, human(device.total), human(device.leased), "", name, free)
        for lease in state.leases:
            if device.id in lease.devices:
                used, charged = human(lease.used[device.id]), human(lease.charged[device.id])
                table.add_row("", "", charged, used, f"{lease.model} ({_standing(lease)}, pid {lease.pid})")
        table.add_row("", "", "", human(device.foreign), f"without a lease ({human(device.headroom)} kept for it)")
        if device.over:
            table.add_row("", "", "", "", Text("over: grants nothing until memory comes back", style="red"))
        if device.error:
            table.add_row("", "", "", "", Text(device.error, style="red"))
    return table


def events(state: State) -> RenderableType:
    """What the agent noticed lately, latest last."""
    if not state.events:
        return Text("")
    lines = [
        Text.assemble(
            (datetime.fromtimestamp(event.time).strftime("%H:%M:%S"), "dim"),
            " ",
            (event.kind.value, "green" if event.kind is EventKind.CLEARED else "yellow"),
            "  ",
            event.text,
        )
        for event in state.events[-EVENTS_SHOWN:]
    ]
    return Group(Text("Events", style="italic"), *lines)


def _standing(lease: Lease) -> str:
    """A lease's state, and its place where it waits."""
    return lease.state if lease.place is None else f"{lease.state}, number {lease.place} in line"


def addresses(found: Sequence[Application], gateway_url: str, serve_url: str) -> Group:
    """Where to point an OpenAI client."""
    names = ", ".join(app.name for app in found) or "none yet"
    return Group(
        Text("OpenAI API, all models", style="bold"),
        Text(f"  {gateway_url}/v1   models: {names}"),
        Text(f"  or one model alone: {serve_url}/models/NAME/v1", style="dim"),
    )
