"""Devices as bars: what a segment is, and how many cells of a line it takes. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from rich.text import Text

COLOURS = ("cyan", "green", "magenta", "yellow", "blue", "bright_cyan", "bright_green", "bright_magenta")
EIGHTHS = " ▁▂▃▄▅▆▇█"


class Part(StrEnum):
    """What a segment of a bar is."""

    REPLICA = "replica"
    RUNS = "runs"  # of a plan: a replica that goes on as it is
    FOREIGN = "foreign"
    KEPT = "kept"  # by the driver, for safety and for others
    FREE = "free"


FILL = {Part.REPLICA: "█", Part.RUNS: "▓", Part.FOREIGN: "▒", Part.KEPT: "░", Part.FREE: "·"}


@dataclass(frozen=True)
class Segment:
    """A stretch of a device."""

    part: Part
    label: str
    bytes: int


def cells(sizes: Sequence[int], width: int) -> list[int]:
    """`width` cells shared out in proportion to these sizes, with no error that adds up."""
    total, done, edge = sum(sizes), 0, 0
    found = []
    for size in sizes:
        done += size
        next_edge = round(done * width / total) if total else 0
        found.append(next_edge - edge)
        edge = next_edge
    return found


def bar(segments: Sequence[Segment], width: int, models: Sequence[str]) -> Text:
    """A device from left to right. Each of `models` has its own colour, by its place among them."""
    line = Text()
    for segment, count in zip(segments, cells([one.bytes for one in segments], width), strict=True):
        held = segment.part in (Part.REPLICA, Part.RUNS)
        label = segment.label if held else ""
        line.append(
            f"▏{label}"[:count].ljust(count, FILL[segment.part]), colour(segment.label, models) if held else "dim"
        )
    return line


def colour(model: str, models: Sequence[str]) -> str:
    return COLOURS[models.index(model) % len(COLOURS)]


def history(values: Sequence[float], width: int, height: int) -> list[str]:
    """The latest `width` of these shares (0 to 1) as columns, the latest rightmost; lines from the top down."""
    eighths = [round(min(max(value, 0.0), 1.0) * height * 8) for value in values[-width:]]
    rows = []
    for floor in range((height - 1) * 8, -1, -8):
        rows.append("".join(EIGHTHS[min(max(level - floor, 0), 8)] for level in eighths).rjust(width))
    return rows
