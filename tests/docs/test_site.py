"""The site builds with every link and anchor good, and what the docs name exists. External links are not followed."""

import re
import shlex
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from mkdocs.commands.build import build
from mkdocs.config import load_config

from hive import rendering
from hive.cli import app
from hive.rendering import ROOT

PAGES = [ROOT / "README.md", ROOT / "examples" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
# What a browser fetches by itself; a link waits for a click.
FETCHED = {"link": "href", "script": "src", "img": "src", "iframe": "src", "source": "src"}

by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site. A dead link, a dead anchor or a page without a place in the navigation would end the build."""
    folder = tmp_path_factory.mktemp("site")
    build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder)))
    return folder


class Fetches(HTMLParser):
    """Addresses that a page makes a browser fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        value = dict(attrs).get(FETCHED.get(tag, ""))
        if value and dict(attrs).get("rel") != "canonical":
            self.found.append(value)


def test_the_site_has_every_page_and_asks_no_other_host_for_anything(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > len(PAGES)
    for page in pages:
        fetches = Fetches()
        fetches.feed(page.read_text())
        assert [address for address in fetches.found if "//" in address] == [], page


def test_every_command_stands_in_the_reference(site: Path) -> None:
    text = (site / "command" / "index.html").read_text()
    for name in group().commands:
        assert f'id="hive-{name}"' in text


@cache
def group() -> Any:
    return typer.main.get_command(app)


@cache
def targets() -> set[str]:
    return set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def blocks(page: Path, language: str) -> Iterator[str]:
    for found, text in FENCE.findall(page.read_text()):
        if found == language:
            yield text


def commands(page: Path) -> Iterator[list[str]]:
    """The words of each command of `make` or `hive` that a console block shows."""
    for block in blocks(page, "console"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.shlex(line[2:] if line.startswith("$ ") else "", posix=True, punctuation_chars=True)
            words.whitespace_split = True
            for operator, own in groupby(words, key=lambda word: set(word) <= set("();<>|&")):
                program, *rest = own
                if not operator and Path(program).name in ("make", "hive"):
                    yield [Path(program).name, *rest]


@by_page
def test_every_command_that_a_page_shows_exists(page: Path) -> None:
    for program, *words in commands(page):
        if program == "make":
            wanted = {word for word in words if not word.startswith("-") and "=" not in word}
            assert wanted <= targets(), words
        else:
            check(words)


def check(words: list[str]) -> None:
    """Command and options are those of `hive`."""
    command, options = group(), list(words)
    known = {option for parameter in command.params for option in parameter.opts}
    while options and options[0].startswith("-"):
        option = options.pop(0)
        assert option.partition("=")[0] in known, words
        if option not in ("--help", "--install-completion", "--show-completion") and "=" not in option:
            options.pop(0)
    if not options:
        return
    assert options[0] in command.commands, words
    known = {name for one in command.commands[options[0]].params for name in (*one.opts, *one.secondary_opts)} | {
        "--help"
    }
    given = {word.partition("=")[0] for word in options[1:] if re.match(r"--?[a-z]", word)}
    assert given <= known, words


@cache
def schema() -> Any:
    return yaml.safe_load((ROOT / "chart" / "values.schema.json").read_text())


def at(node: Any, keys: list[str]) -> bool:
    """Whether the chart's values have this path; `*` and `<name>` stand for any name."""
    if "$ref" in node:
        node = schema()["$defs"][node["$ref"].rpartition("/")[2]]
    if not keys:
        return True
    own, others = node.get("properties", {}), node.get("additionalProperties")
    if own and keys == ["*"]:
        return True
    if keys[0] in own:
        return at(own[keys[0]], keys[1:])
    if isinstance(others, dict):
        return at(others, keys[1:])
    return "properties" not in node and others is not False  # Kubernetes' own, or an engine's


@by_page
def test_every_key_of_the_values_that_a_page_names_exists(page: Path) -> None:
    top = "|".join(schema()["properties"])
    for key in re.findall(rf"`((?:{top})(?:\.[\w*<>-]+)+)(?::[^`]*)?`", page.read_text()):
        assert at(schema(), key.split(".")), key


@by_page
def test_values_that_a_page_shows_have_keys_of_the_chart(page: Path) -> None:
    for block in blocks(page, "yaml"):
        values = yaml.safe_load(block)
        if isinstance(values, dict) and values.keys() <= schema()["properties"].keys():
            for path in paths(values):
                assert at(schema(), path), path


@pytest.mark.parametrize("name", ["start-k3s.md", "start-cluster.md"])
def test_the_chart_takes_the_values_that_a_start_page_writes(name: str, tmp_path: Path) -> None:
    page, file = (ROOT / "docs" / name).read_text(), tmp_path / "my.yaml"
    for copied, write, text in re.findall(
        r"^\$ (?:cp (\S+) my\.yaml|cat (>+) my\.yaml <<'END'\n(.*?)^END)$", page, re.MULTILINE | re.DOTALL
    ):
        before = file.read_text() if write == ">>" else (ROOT / copied).read_text() if copied else ""
        file.write_text(before + text)
    assert rendering.render(file).serve_config["applications"]


def paths(node: Any, before: tuple[str, ...] = ()) -> Iterator[list[str]]:
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from paths(value, (*before, key))
    else:
        yield list(before)
