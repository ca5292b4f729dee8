"""VRAM as it is used from moment to moment, for `hive vram --live`. Turns data into rich renderables."""

from collections import deque
from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hive import bars
from hive.bars import Part, Segment
from vram_agent.api import Device, Lease, State, human

REMEMBERED = 600  # samples of each device
LEAST_BAR_CELLS = 20
TALL, FEW = 4, 4  # lines of a history, where there are so few devices; else one
LEGEND = "█ leased  ▒ in use without a lease  ░ kept for that, for the driver and for safety  · free"


class History:
    """What was in use of each device, as a share of it, latest last."""

    def __init__(self) -> None:
        self._shares: dict[tuple[str, str], deque[float]] = {}

    def add(self, states: Mapping[str, State]) -> None:
        for node, state in states.items():
            for device in state.devices:
                known = self._shares.setdefault((node, device.id), deque(maxlen=REMEMBERED))
                known.append(in_use(device, state.leases) / device.total if device.total else 0.0)

    def of(self, node: str, device: str) -> list[float]:
        return list(self._shares.get((node, device), ()))


def in_use(device: Device, leases: Sequence[Lease]) -> int:
    """Bytes that are in use now, with a lease or without."""
    return device.foreign + sum(lease.used.get(device.id, 0) for lease in leases)


def segments(device: Device, leases: Sequence[Lease]) -> list[Segment]:
    """What is promised of a device, from left to right; they add up to its total, unless that is more than there is."""
    held = [
        Segment(Part.REPLICA, lease.model, lease.charged[device.id])
        for lease in sorted(leases, key=lambda lease: lease.model)
        if device.id in lease.charged
    ]
    kept = device.reserved + device.safety + max(0, device.headroom - device.foreign)
    rest = [
        Segment(Part.FOREIGN, "without a lease", device.foreign),
        Segment(Part.KEPT, "kept", kept),
        Segment(Part.FREE, "free", max(0, device.free)),
    ]
    return [segment for segment in (*held, *rest) if segment.bytes]


def show(states: Mapping[str, State], history: History, width: int, trouble: str = "") -> RenderableType:
    """All devices, on a terminal of so many columns.

    Args:
        trouble: why these states are not of this moment, if so.
    """
    found = [(node, device, state.leases) for node, state in sorted(states.items()) for device in state.devices]
    models = sorted({lease.model for state in states.values() for lease in state.leases})
    largest = max((device.total for _, device, _ in found), default=0) or 1
    table = Table.grid(padding=(0, 1))
    for _ in range(3):
        table.add_column(no_wrap=True)
    widest = max((len(_name(node, device, states)) for node, device, _ in found), default=0)
    cells = max(LEAST_BAR_CELLS, width - widest - 32)
    for node, device, leases in found:
        free = Text(f"free {human(device.free)} of {human(device.total)}", style="red" if device.over else "")
        bar = bars.bar(segments(device, leases), max(1, round(cells * device.total / largest)), models)
        table.add_row(Text(_name(node, device, states), style="bold"), bar, free)
        rows = bars.history(history.of(node, device.id), cells, TALL if len(found) <= FEW else 1)
        for number, row in enumerate(rows):
            said = f"in use {human(in_use(device, leases))}" if number == len(rows) - 1 else ""
            table.add_row("", Text(row, style="dim"), said)
        if device.error:
            table.add_row("", Text(device.error, style="red"), "")
    legend = Text().append(LEGEND, "dim")
    for model in models:
        legend.append("  ").append(model, bars.colour(model, models))
    return Group(table, legend, Text(trouble, style="red") if trouble else Text("Ctrl-C ends it", style="dim"))


def _name(node: str, device: Device, states: Mapping[str, State]) -> str:
    return device.id if len(states) == 1 else f"{node} {device.id}"
