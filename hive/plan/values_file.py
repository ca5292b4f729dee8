"""Budgets written into a values file, with every other byte of it kept. Text in, text out.

YAML's own parser says where an entry's keys stand; the new line goes below `source`, as deep as that.
"""

from collections.abc import Mapping
from typing import Any

import yaml

from hive.errors import HiveError


def fill(text: str, budgets: Mapping[str, int]) -> str:
    """The file with `vram` for these models.

    Args:
        budgets: MiB by model; each one has an entry with a source and no vram.

    Raises:
        HiveError: an entry is written so that a line can't be added to it, like one that two models share.
    """
    before = yaml.safe_load(text)
    edits = [edit for name, mib in budgets.items() if (edit := _edit(text, name, mib))]
    result = text
    for at, new in sorted(edits, reverse=True):
        result = result[:at] + new + result[at:]
    for name, mib in budgets.items():
        before["models"][name] = before["models"][name] | {"vram": f"{mib}Mi"}
    if _parsed(result) != before:
        lines = ", ".join(f"models.{name}.vram: {mib}Mi" for name, mib in budgets.items())
        raise HiveError("the models' entries are written so that vram can't be added by itself", f"write {lines}")
    return result


def _edit(text: str, name: str, mib: int) -> tuple[int, str] | None:
    """Where to insert what; None where the entry has no `source` of its own."""
    entry = _value(_value(yaml.compose(text, Loader=yaml.SafeLoader), "models"), name)
    if not isinstance(entry, yaml.MappingNode):
        return None
    found = next(((key, value) for key, value in entry.value if key.value == "source"), None)
    if found is None:
        return None
    key, value = found
    end = value.end_mark.index
    if entry.flow_style:  # {source: ./m, ...}
        return end, f", vram: {mib}Mi"
    newline = "\r\n" if "\r\n" in text else "\n"
    line = f"{' ' * key.start_mark.column}vram: {mib}Mi"
    line_end = text.find("\n", end)
    return (len(text), f"{newline}{line}{newline}") if line_end < 0 else (line_end + 1, f"{line}{newline}")


def _value(node: yaml.Node | None, name: str) -> yaml.Node | None:
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return next((value for key, value in pairs if key.value == name), None)


def _parsed(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return None
