"""A plan in the terminal. Turns data into rich renderables."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hive import bars, views
from hive.plan import picture
from hive.plan.planning import Plan
from vram_agent.api import human

LEAST_BAR_CELLS = 20


def show(found: Plan, width: int) -> RenderableType:
    """All of it, on a terminal of so many columns."""
    parts: list[RenderableType] = [_models(found)]
    parts += [Text(note, style="dim") for note in picture.notes(found)]
    if found.devices:
        parts += [Text("GPUs after it", style="italic"), *_bars(found, width)]
    if found.unplaced:
        parts.append(Text(f"without a place: {picture.unplaced(found)}", style="red"))
    if found.changes is not None:
        parts += [Text("What changes", style="italic"), views.changes(found.changes)]
    parts.append(Text(picture.verdict(found), style="bold green" if found.fits else "bold red"))
    if found.advice:
        parts.append(Text("Any one of these would make it fit:", style="italic"))
        parts += [Text(f"  - {'; '.join(changes)}") for changes in found.advice]
    return Group(*parts)


def _models(found: Plan) -> Table:
    table = Table(title="Models: each replica, on each of its GPUs", title_justify="left")
    for name in picture.COLUMNS:
        table.add_column(name, justify="left" if name == "model" else "right", overflow="fold")
    for model in found.models:
        table.add_row(*picture.row(model))
    return table


def _bars(found: Plan, columns: int) -> list[Text]:
    """A line for each device; the widest bar is the largest device."""
    names = [model.name for model in found.models]
    largest = max(device.total for device in found.devices)
    widest = max(len(device.id) for device in found.devices)
    suffixes = [f"  free {picture.free(device)}" for device in found.devices]
    bar = max(LEAST_BAR_CELLS, columns - widest - 12 - max(map(len, suffixes)))
    lines = []
    for device, suffix in zip(found.devices, suffixes, strict=True):
        width = max(1, round(bar * device.total / largest))
        line = Text(f"{device.id:<{widest}} {human(device.total):>10} ")
        lines.append(line.append_text(bars.bar(picture.segments(device), width, names)).append(suffix))
    return lines
