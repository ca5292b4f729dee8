"""An edit of a values file does what it says, and leaves everything else as it is."""

import copy
import re
from pathlib import Path
from typing import Any

import helm_python
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from hive import values_file
from hive.errors import HiveError
from hive.target import REMOVE, Edit

FILE = """\
# What we serve.
models:
  # For people.
  chat:               # the first
    source: ./m       # of last week
    replicas: 2
    chatTemplate: |
      {{ a }}

      # no comment
    env: {A: "1", B: "2"}   # both
  search: {source: ./m, vram: 4Gi}

  # Off for now.
  # code: {source: ./c}
workerGroups:
  gpu:
    replicas: 2
    tolerations:
    - {key: a}
    - key: b
# The end.
"""


def set_(key: str, value: Any) -> Edit:
    return Edit(tuple(key.split("/")), value)


@pytest.mark.parametrize(
    ("before", "edit", "after"),
    [
        ("a: 1 # x\nb: 2\n", set_("a", 3), "a: 3 # x\nb: 2\n"),
        ("a: 'x' # y\n", set_("a", "22Gi"), "a: 22Gi # y\n"),
        ("a:\n  b: 1\n# end\nc: 2\n", set_("a/d", 3), "a:\n  b: 1\n  d: 3\n# end\nc: 2\n"),
        ("a: {b: 1}   # x\n", set_("a/c", 2), "a: {b: 1, c: 2}   # x\n"),
        ("a: {b: 1, c: 2}\n", set_("a/b", REMOVE), "a: {c: 2}\n"),
        ("a: {b: 1, c: 2}\n", set_("a/c", REMOVE), "a: {b: 1}\n"),
        ("a: {b: 1}\n", set_("a/b", REMOVE), "a: {}\n"),
        ("a:\n  b: 1   # x\n  c: 2\n", set_("a/b", REMOVE), "a:\n  c: 2\n"),
        ("a:\n  b: 1\nc: 2\n", set_("a/b", REMOVE), "a:\n  {}\nc: 2\n"),
        ("a:\n  b:\n    - 1\n\n  # of c\n  c: 2\n", set_("a/b", REMOVE), "a:\n\n  # of c\n  c: 2\n"),
        ("models: {}   # none\nb: 1\n", set_("models/m/vram", "1Gi"), "models:   # none\n  m:\n    vram: 1Gi\nb: 1\n"),
        ("models:\nb: 1\n", set_("models/m", {"a": 1}), "models:\n  m:\n    a: 1\nb: 1\n"),
        ("models:\n  a: {b: 1}", set_("models/c", {"d": 1}), "models:\n  a: {b: 1}\n  c:\n    d: 1\n"),
        ("a: |\n  x\n\nb: 1\n", set_("a", "y"), "a: y\n\nb: 1\n"),
        ("a: x\n", set_("a", "y\nz\n"), "a: |\n  y\n  z\n"),
        ("a:\r\n  b: 1\r\nc: 2\r\n", set_("a/d", 3), "a:\r\n  b: 1\r\n  d: 3\r\nc: 2\r\n"),
        ("", set_("models/a", {"vram": "1Gi"}), "models:\n  a:\n    vram: 1Gi\n"),
        ("# nothing yet\n", set_("a", 1), "# nothing yet\na: 1\n"),
        ("base: &b {x: 1}\na: *b   # same\nc: 2\n", set_("d", 3), "base: &b {x: 1}\na: *b   # same\nc: 2\nd: 3\n"),
        ("base: &b {x: 1}\na: *b\n", set_("d", 3), "base: &b {x: 1}\na: *b\nd: 3\n"),
        ("a: {<<: {x: 1}}\n", set_("a/x", 2), "a: {<<: {x: 1}, x: 2}\n"),
        ("a: 1\n", set_("b", REMOVE), "a: 1\n"),
        ("a: 1\n", set_("a", 1), "a: 1\n"),
        ("a: 1\n", set_("a", True), "a: true\n"),
    ],
)
def test_edits_are_written_as_a_person_would(before: str, edit: Edit, after: str) -> None:
    assert values_file.edit(before, [edit]) == after


def test_a_model_comes_changes_and_goes_and_the_file_is_what_it_was() -> None:
    entry = {
        "source": "./n",
        "vram": "5Gi",
        "chatTemplate": "{{ x }}\n\n {{ y }}\n",
        "engine": {"kv_cache_dtype": "1e3"},
    }
    more = values_file.edit(FILE, [set_("models/new", entry)])
    assert helm_python.values_from_yaml(more)["models"]["new"] == entry
    assert lines_of(FILE) <= lines_of(more)
    assert values_file.edit(more, [set_("models/new", REMOVE)]) == FILE
    assert values_file.edit(FILE, [set_("models/chat/replicas", 3), set_("models/chat/replicas", 2)]) == FILE


def lines_of(text: str) -> set[str]:
    return set(text.splitlines())


@pytest.mark.parametrize(
    ("text", "edit", "fix"),
    [
        (
            "models:\n  a: &a\n    vram: 1Gi\n  b: *a\n",
            set_("models/b/vram", "2Gi"),
            "write models.b.vram: 2Gi by hand",
        ),
        ("models:\n  a: &a {vram: 1Gi}\n  b: *a\n", set_("models/a", REMOVE), "take models.a away by hand"),
    ],
)
def test_what_two_share_is_refused_with_what_to_write(text: str, edit: Edit, fix: str) -> None:
    with pytest.raises(HiveError, match="can't be edited by itself") as refused:
        values_file.edit(text, [edit])
    assert refused.value.fix == fix


def test_a_file_is_replaced_whole_and_keeps_its_rights(tmp_path: Path) -> None:
    file, link = tmp_path / "values.yaml", tmp_path / "link.yaml"
    file.write_bytes(b"a: 1\r\n")
    file.chmod(0o640)
    link.symlink_to(file)
    values_file.write(link, values_file.read(link) + "b: 2\r\n")
    assert file.read_bytes() == b"a: 1\r\nb: 2\r\n"
    assert file.stat().st_mode & 0o777 == 0o640
    assert link.is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.yaml", "values.yaml"]


# -- any file, any edit ----------------------------------------------------------------------------------------------

names = st.sampled_from(["a", "b", "c", "models", "x-1"])
texts = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Co", "Cn"]) | st.sampled_from("\n #:'{},"),
    max_size=12,
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-9, 99)
    | st.sampled_from(["22Gi", "1e3", "yes", "0x1", "", "on", "~"])
    | texts
)
trees = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(names, inner, max_size=4), max_leaves=12
)
files = st.dictionaries(names, trees, max_size=4)


@st.composite
def written(draw: st.DrawFn) -> str:
    """A file as somebody may have written it: blocks and flows, comments, blank lines."""
    tree = draw(files)
    style = draw(st.sampled_from([False, None, True]))
    text = str(
        yaml.safe_dump(
            tree, default_flow_style=style, sort_keys=False, allow_unicode=True, indent=draw(st.sampled_from([2, 4]))
        )
    )
    lines = []
    for line in text.splitlines(keepends=True):
        commented = f"{line[:-1]}   # of it\n" if draw(st.booleans()) and line.endswith("\n") else line
        lines += [line if changes_meaning(line, commented, text) else commented]
        if draw(st.integers(0, 4)) == 0:
            lines.append(draw(st.sampled_from(["# alone\n", "\n", "    # deep\n"])))
    text = "".join(lines)
    return text if safe(text) == tree else str(yaml.safe_dump(tree, default_flow_style=style, sort_keys=False))


def changes_meaning(line: str, commented: str, text: str) -> bool:
    return safe(text.replace(line, commented, 1)) != safe(text)


def safe(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return None


@st.composite
def edits(draw: st.DrawFn) -> Edit:
    value = REMOVE if draw(st.booleans()) else draw(trees)
    return Edit(tuple(draw(st.lists(names, min_size=1, max_size=3))), value)


def by_hand(tree: Any, path: tuple[str, ...], value: Any) -> Any:
    """What the edit means, on its own."""
    tree = copy.deepcopy(tree) if isinstance(tree, dict) else {}
    if len(path) > 1:
        if value is REMOVE and not isinstance(tree.get(path[0]), dict):
            return tree
        tree[path[0]] = by_hand(tree.get(path[0]), path[1:], value)
    elif value is REMOVE:
        tree.pop(path[0], None)
    else:
        tree[path[0]] = value
    return tree


@settings(deadline=None, max_examples=400)
@given(written(), edits())
def test_after_any_edit_the_file_says_what_it_said_with_that_edit_and_keeps_its_comments(text: str, edit: Edit) -> None:
    before = yaml.safe_load(text) or {}
    after = values_file.edit(text, [edit])
    assert yaml.safe_load(after) == by_hand(before, edit.path, edit.value)
    if edit.value is not REMOVE:
        assert reached(helm_python.values_from_yaml(after), edit.path) == edit.value, "Helm reads what was meant"
    if edit.value is not REMOVE and not isinstance(reached(before, edit.path[:1]), dict | list | str):
        assert comments(text) <= comments(after)


def reached(tree: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree


def comments(text: str) -> list[str]:
    return re.findall(r"# of it|# alone|# deep", text)
