"""A plan as Markdown for a pull request, as SVG, and as JSON. Pure."""

from collections.abc import Iterable
from xml.sax.saxutils import escape

from pydantic import TypeAdapter

from hive.bars import Part
from hive.plan import picture
from hive.plan.planning import Plan
from vram_agent.api import human

# Of colours that people tell apart with any kind of sight (Okabe and Ito).
COLOURS = ("#56b4e9", "#009e73", "#e69f00", "#cc79a7", "#f0e442", "#0072b2", "#d55e00")
GREYS = {Part.KEPT: "#999999", Part.FREE: "#eeeeee"}
BAR, HEIGHT, STEP, RIGHT = 720, 28, 44, 230  # pixels
LETTER = 7  # pixels of width


def json(found: Plan) -> str:
    """Every figure, in bytes; `fits` is the verdict."""
    content = TypeAdapter(Plan).dump_python(found, mode="json")
    return TypeAdapter(dict).dump_json({"fits": found.fits, **content}, indent=2).decode()


def markdown(found: Plan) -> str:
    """GitHub's flavour."""
    lines = [f"**hive plan: {picture.verdict(found)}**", ""]
    lines += _table(picture.COLUMNS, (picture.row(model) for model in found.models))
    lines += [f"\n{_cell(note)}" for note in picture.notes(found)]
    if found.devices:
        devices = (
            (
                device.id,
                device.group or "",
                human(device.total),
                human(device.kept),
                ", ".join(f"{one.model} {human(one.bytes)}" for one in device.replicas),
                picture.free(device),
            )
            for device in found.devices
        )
        lines += ["", *_table(("GPU", "workers", "total", "kept", "replicas", "free"), devices)]
    if found.unplaced:
        lines += ["", f"Without a place: {_cell(picture.unplaced(found))}"]
    if found.changes is not None:
        changes = ((change.model, change.effect.value, change.details) for change in found.changes)
        lines += ["", *(_table(("model", "upgrade", "details"), changes) if found.changes else ["Nothing changes."])]
    for problem in found.problems:
        lines += ["", f"- **ERROR:** {_cell(problem.what)}", f"  **FIX:** {_cell(problem.fix)}"]
    if found.advice:
        lines += ["", "Any one of these would make it fit:", ""]
        lines += [f"- {_cell('; '.join(changes))}" for changes in found.advice]
    return "\n".join(lines) + "\n"


def svg(found: Plan) -> str:
    """The devices as bars to one scale."""
    names = [model.name for model in found.models]
    largest = max((device.total for device in found.devices), default=1)
    titles = [f"{device.id}  {human(device.total)}" for device in found.devices]
    margin = 20 + LETTER * max(map(len, titles), default=0)
    shapes = []
    for number, (device, title) in enumerate(zip(found.devices, titles, strict=True)):
        top = number * STEP + 10
        shapes.append(_text(10, top + 18, title, "start"))
        left = float(margin)
        for segment in picture.segments(device):
            width = BAR * segment.bytes / largest
            held = segment.part in (Part.REPLICA, Part.RUNS)
            colour = COLOURS[names.index(segment.label) % len(COLOURS)] if held else GREYS[segment.part]
            said = f"{segment.label} {human(segment.bytes)}{' (runs)' if segment.part is Part.RUNS else ''}"
            shapes.append(
                f'<rect x="{left:.1f}" y="{top}" width="{width:.1f}" height="{HEIGHT}" fill="{colour}" '
                f'stroke="#ffffff"><title>{escape(said)}</title></rect>'
            )
            label = said if len(said) * LETTER < width else segment.label if len(segment.label) * LETTER < width else ""
            if label and segment.part is not Part.FREE:  # said behind the bar
                shapes.append(_text(left + width / 2, top + 18, label, "middle"))
            left += width
        shapes.append(_text(left + 8, top + 18, f"free {picture.free(device)}", "start"))
    height = len(found.devices) * STEP + 36
    last = picture.verdict(found) + (f" Without a place: {picture.unplaced(found)}" if found.unplaced else "")
    shapes.append(_text(10, height - 12, last, "start"))
    width = margin + BAR + RIGHT
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'font-family="sans-serif" font-size="12">\n<rect width="100%" height="100%" fill="#ffffff"/>\n'
        + "\n".join(shapes)
        + "\n</svg>\n"
    )


def _table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    columns = tuple(columns)
    return [_line(columns), _line("---" for _ in columns), *(_line(row) for row in rows)]


def _line(row: Iterable[str]) -> str:
    return f"| {' | '.join(_cell(cell) for cell in row)} |"


def _cell(text: str) -> str:
    """A new line or a bar would end the cell; an asterisk or a tag would not be shown."""
    for sign in "\\|*_<`":
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y}" text-anchor="{anchor}" fill="#000000">{escape(text)}</text>'
