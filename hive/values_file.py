"""Edits of a values file that leave every other byte of it as it is, comments and all.

YAML's own parser says where a key and its value stand. Each edit is tried in the ways that a person would write it, and
the first one is taken after which the file says exactly what it said, with that edit.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hive.errors import HiveError
from hive.target import REMOVE, Edit

STEP = 2  # columns that what is new is indented by
# What some parser of YAML takes for a number or a time, and Helm's for true or false where Python's does not.
AMBIGUOUS = re.compile(r"[-+.0-9][-+.0-9a-fA-FxXoO_:eE]*|[yYnN]")


@dataclass(frozen=True)
class Splice:
    """Characters from `start` to `end` give way to `new`."""

    start: int
    end: int
    new: str


def read(file: Path) -> str:
    """The file with the ends of its lines as they are.

    Raises:
        HiveError: it can't be read.
    """
    try:
        return file.read_bytes().decode()
    except OSError as error:
        raise HiveError(f"{file}: {error.strerror}", "name a values file: hive up -f values/local.yaml") from error
    except UnicodeDecodeError as error:
        raise HiveError(f"{file} is no valid YAML: {error}", "write it in UTF-8") from error


def write(file: Path, text: str) -> None:
    """Replace the file whole, so that it is never half of one.

    Raises:
        HiveError: it can't be written; it is as it was.
    """
    file = file.resolve()
    try:
        with tempfile.NamedTemporaryFile(dir=file.parent, prefix=f".{file.name}.", delete=False) as fresh:
            fresh.write(text.encode())
        shutil.copymode(file, fresh.name)
        os.replace(fresh.name, file)
    except OSError as error:
        raise HiveError(f"{file}: {error.strerror}", "make the file and its folder writable") from error


def edit(text: str, edits: Sequence[Edit]) -> str:
    """The file with these edits, made one after the other.

    Raises:
        HiveError: a key is written so that it can't be edited by itself, like one that two models share.
    """
    for one in edits:
        text = _edited(text, one)
    return text


def edited(values: dict[str, Any], edits: Sequence[Edit]) -> dict[str, Any]:
    """The same for values that are not in a file."""
    result: dict[str, Any] = _unshared(values)
    for one in edits:
        node = result
        for key in one.path[:-1]:
            if not isinstance(node.get(key), dict):
                if one.value is REMOVE:
                    break
                node[key] = {}
            node = node[key]
        else:
            if one.value is REMOVE:
                node.pop(one.path[-1], None)
            else:
                node[one.path[-1]] = one.value
    return result


def _unshared(value: Any) -> Any:
    """A copy in which nothing is in two places, as it is after an alias."""
    if isinstance(value, dict):
        return {key: _unshared(inner) for key, inner in value.items()}
    return [_unshared(inner) for inner in value] if isinstance(value, list) else value


def _edited(text: str, one: Edit) -> str:
    before = yaml.safe_load(text) or {}
    wanted = edited(before, [one])
    if _same(before, wanted):
        return text
    for splices in _ways(text, one):
        result = text
        for splice in sorted(splices, key=lambda splice: splice.start, reverse=True):
            result = result[: splice.start] + splice.new + result[splice.end :]
        if _same(_parsed(result), wanted):
            return result
    key = ".".join(one.path)
    fix = f"take {key} away by hand" if one.value is REMOVE else f"write {one} by hand"
    raise HiveError(f"{key} is written so that it can't be edited by itself", fix)


def _ways(text: str, one: Edit) -> Iterator[list[Splice]]:
    """Ways to make one edit, the nicest first; not all of them may come out right."""
    node: yaml.Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
    path = one.path
    if not isinstance(node, yaml.MappingNode):
        yield [Splice(len(text), len(text), ("\n" if text and not text.endswith("\n") else "") + _block(path, one, 0))]
        return
    for depth, key in enumerate(path):
        pair = _pair(node, key)
        rest = path[depth + 1 :]
        if pair is None:
            yield from _insertions(text, node, path[depth:], one)
            return
        if not rest and one.value is REMOVE:
            yield from _removals(text, node, pair)
            return
        if not rest or not isinstance(pair[1], yaml.MappingNode) or not pair[1].value:
            yield from _replacements(text, node, pair, rest, one)
            return
        node = pair[1]


Pair = tuple[yaml.Node, yaml.Node]


def _pair(node: yaml.MappingNode, name: str) -> Pair | None:
    return next((pair for pair in node.value if pair[0].value == name), None)


def _insertions(text: str, node: yaml.MappingNode, path: tuple[str, ...], one: Edit) -> Iterator[list[Splice]]:
    """A new key at the end of a mapping, else at its beginning."""
    if not node.value:  # {}
        yield [Splice(node.start_mark.index + 1, node.start_mark.index + 1, _flow(path, one))]
        return
    first, last = node.value[0], node.value[-1]
    if node.flow_style:
        new = _flow(path, one)
        end = _end(text, last)
        yield [Splice(end, end, f", {new}")]
        start = node.start_mark.index + 1
        yield [Splice(start, start, f"{new}, ")]
        return
    lines = _lines(text, path, one, first[0].start_mark.column)
    for end in (_end(text, last), last[1].end_mark.index):
        yield [_after_line(text, end, lines)]
    start = _line_start(text, first[0].start_mark.index)
    yield [Splice(start, start, lines)]


def _replacements(
    text: str, node: yaml.MappingNode, pair: Pair, rest: tuple[str, ...], one: Edit
) -> Iterator[list[Splice]]:
    """Another value for a key that is there."""
    key, value = pair
    colon = key.end_mark.index + text[key.end_mark.index :].index(":") + 1
    end = max(colon, _end(text, pair))
    nested = bool(rest) or (isinstance(one.value, dict) and one.value) or "\n" in str(one.value)
    inline = " " + (f"{{{_flow(rest, one)}}}" if rest else _dump(one.value))
    if not nested and isinstance(value, yaml.ScalarNode | yaml.CollectionNode) and _inline(value) and value.value != "":
        yield [Splice(value.start_mark.index, end, inline[1:])]
    if nested and not node.flow_style:
        head, lines = _lines(text, ("k", *rest), one, key.start_mark.column).split("\n", 1)
        yield [Splice(colon, end, head.strip()[2:]), _after_line(text, end, lines)]
    yield [Splice(colon, end, inline)]
    if not node.flow_style:  # a block of lines with a newline of its own
        yield [Splice(colon, end, f"{inline}{_newline(text)}")]


def _removals(text: str, node: yaml.MappingNode, pair: Pair) -> Iterator[list[Splice]]:
    start, end = pair[0].start_mark.index, _end(text, pair)
    if len(node.value) == 1:
        if node.flow_style:
            yield [Splice(node.start_mark.index + 1, end, "")]
        else:  # nothing at all would be null
            yield [Splice(start, end, "{}")]
        return
    if node.flow_style:
        place = node.value.index(pair)
        if place + 1 < len(node.value):
            yield [Splice(start, node.value[place + 1][0].start_mark.index, "")]
        else:
            yield [Splice(_end(text, node.value[place - 1]), end, "")]
        return
    for stop in (end, pair[1].end_mark.index):
        yield [Splice(_line_start(text, start), _line_end(text, stop), "")]


def _end(text: str, pair: Pair) -> int:
    """Where a pair's value ends, without what stands behind it."""
    key, value = pair
    if value.start_mark.index < key.end_mark.index:  # an alias: its node stands where its anchor is
        alias = re.compile(r"\s*:\s*\*[^\s,\]}]+").match(text, key.end_mark.index)
        return alias.end() if alias else key.end_mark.index
    while isinstance(value, yaml.CollectionNode) and not value.flow_style and value.value:
        last = value.value[-1]
        if isinstance(value, yaml.MappingNode):
            return _end(text, last)
        if last.start_mark.index < value.start_mark.index:
            break
        value = last
    end = value.end_mark.index
    return end if _inline(value) else len(text[:end].rstrip())


def _inline(value: yaml.Node) -> bool:
    """Whether it is written on its key's line, or begins there."""
    if isinstance(value, yaml.CollectionNode):
        return bool(value.flow_style)
    return not (isinstance(value, yaml.ScalarNode) and value.style in ("|", ">"))


def _after_line(text: str, end: int, lines: str) -> Splice:
    """Lines below the one that this place is on."""
    at = _line_end(text, end)
    missing = at > 0 and text[at - 1] != "\n"
    return Splice(at, at, (_newline(text) if missing else "") + lines)


def _line_start(text: str, index: int) -> int:
    return text.rfind("\n", 0, index) + 1


def _line_end(text: str, index: int) -> int:
    """Behind the line's own newline; a place right behind a newline is on the line that it ends."""
    if index > 0 and text[index - 1] == "\n":
        return index
    found = text.find("\n", index)
    return len(text) if found < 0 else found + 1


def _newline(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _lines(text: str, path: tuple[str, ...], one: Edit, column: int) -> str:
    return _block(path, one, column).replace("\n", _newline(text))


def _block(path: tuple[str, ...], one: Edit, column: int) -> str:
    """Lines of a key and what is below it, from this column."""
    lines = _dump(_nested(path, one), flow=False).splitlines()
    return "".join(f"{' ' * column}{line}\n" if line else "\n" for line in lines)


def _flow(path: tuple[str, ...], one: Edit) -> str:
    """The same for a flow mapping: a: {b: 1}."""
    return _dump(_nested(path, one))[1:-1]


def _nested(path: tuple[str, ...], one: Edit) -> Any:
    value = one.value
    for key in reversed(path):
        value = {key: value}
    return value


class _Dumper(yaml.SafeDumper):
    """Text of several lines as a block, and no string that Helm could take for a number."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


def _string(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else "'" if AMBIGUOUS.fullmatch(value) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _string)


def _dump(value: Any, flow: bool = True) -> str:
    """YAML of a value; on one line, as it stands inside a flow collection, or as a block."""
    options: dict[str, Any] = {"sort_keys": False, "allow_unicode": True, "width": float("inf"), "indent": STEP}
    if not flow:
        return str(yaml.dump(value, Dumper=_Dumper, default_flow_style=False, **options))
    return str(yaml.dump([value], Dumper=_Dumper, default_flow_style=True, **options)).strip()[1:-1]


def _parsed(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return None


def _same(one: Any, other: Any) -> bool:
    """Equal, and of the same types: true is not 1."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return type(one) is type(other) and one == other
