"""What the terminal shows. Everything here turns data into rich renderables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hive.changes import Change, Effect
from hive.serve_api import Application, Replica
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


def applications(found: Sequence[Application], states: Mapping[str, State]) -> Table:
    """Models and replicas, with the lease, node and device of each."""
    table = Table(title="Models", title_justify="left")
    for column in ("model", "state", "replica", "lease", "node", "device", "pid"):
        table.add_column(column)
    for app in found:
        status = Text(app.status, style=COLOURS.get(app.status, ""))
        for number, (replica, lease) in enumerate(leases_of(app, states) or [(None, None)]):
            first = (app.name, status) if number == 0 else ("", "")
            name = "-" if replica is None and lease is None else "not listed"
            node, held = "", ("-", "-", "-")
            if replica is not None:
                name, node = f"{replica.id} {replica.state}", replica.node
            if lease is not None:
                node, held = lease.node, (lease.lease.state, ", ".join(lease.lease.devices), str(lease.lease.pid))
            table.add_row(*first, name, held[0], node, *held[1:])
        if app.reason and app.status != "RUNNING":
            table.add_row("", Text(app.reason.splitlines()[-1], style="dim", overflow="fold"))
    return table


@dataclass(frozen=True)
class NodeLease:
    """A lease and the node that granted it."""

    node: str
    lease: Lease


def leases_of(app: Application, states: Mapping[str, State]) -> list[tuple[Replica | None, NodeLease | None]]:
    """The replicas of a model with their leases. By PID where it is the same on both sides, else by node.

    Serve tells the PID of a replica only when it runs; in a pod it is another one than the agent's. Serve lists no
    replica while it builds a new version, or after that failed; the one before goes on serving, and has none here.
    """
    left = [
        NodeLease(node, lease) for node, state in states.items() for lease in state.leases if lease.model == app.name
    ]
    by_pid = {(one.node, one.lease.pid): one for one in left}
    found: list[tuple[Replica | None, NodeLease | None]] = []
    exact = {replica.id: by_pid.get((replica.node, replica.pid)) for replica in app.replicas if replica.pid}
    left = [one for one in left if one not in exact.values()]
    for replica in app.replicas:
        lease = exact.get(replica.id)
        if lease is None and replica.pid is None:
            lease = next((one for one in left if one.node == replica.node or not replica.node), None)
            left = [one for one in left if one is not lease]
        found.append((replica, lease))
    return found + [(None, one) for one in left]


def vram(states: Mapping[str, State]) -> Group:
    """For each node its devices: total, leased by model, what else holds memory, free, and who keeps engines inside
    their leases."""
    several = len(states) > 1
    return Group(*(_vram(state, f"VRAM of {node}" if several else "VRAM") for node, state in sorted(states.items())))


def _vram(state: State, title: str) -> Table:
    table = Table(title=title, title_justify="left")
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


def events(states: Mapping[str, State]) -> RenderableType:
    """What the agents noticed lately, latest last."""
    several = len(states) > 1
    found = [(event, node) for node, state in states.items() for event in state.events]
    if not found:
        return Text("")
    lines = [
        Text.assemble(
            (datetime.fromtimestamp(event.time).strftime("%H:%M:%S"), "dim"),
            f" {node} " if several else " ",
            (event.kind.value, "green" if event.kind is EventKind.CLEARED else "yellow"),
            "  ",
            event.text,
        )
        for event, node in sorted(found, key=lambda one: one[0].time)[-EVENTS_SHOWN:]
    ]
    return Group(Text("Events", style="italic"), *lines)


def addresses(found: Sequence[Application], urls: Sequence[str], page: bool) -> Group:
    """Where to point an OpenAI client, and a browser.

    Args:
        urls: nearest first.
        page: whether there is one for people.
    """
    names = ", ".join(app.name for app in found) or "none yet"
    return Group(
        Text("OpenAI API, all models", style="bold"),
        *(Text(f"  {url}/v1   models: {names}") for url in urls),
        Text(f"  or one model alone: {urls[0]}/models/NAME/v1", style="dim"),
        *([Text(f"  and for people: {urls[-1]}/", style="dim")] if page else []),
    )


def _standing(lease: Lease) -> str:
    """A lease's state, and its place where it waits."""
    return lease.state if lease.place is None else f"{lease.state}, number {lease.place} in line"
