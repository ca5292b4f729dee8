"""mkdocs' hook: what the site takes from elsewhere in the repository, so that no fact stands in two places.

A file of the repository that a page links to, or that the navigation names under repository/, is part of the site:
Markdown as a page, a picture as it is, and anything else as a page that shows it. What is not there ends the build.
"""

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import typer.main
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from typer.cli import get_docs_for_click

from hive.cli import app

ROOT = Path(__file__).resolve().parents[1]
DOCS, COPIES = "docs", "repository"
LINK = re.compile(r"(?<=\]\()[^)\s#]+")
COMMANDS = "<!-- the commands of hive -->"
AS_IT_IS = (".md", ".png", ".svg")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what the pages, the navigation and the added pages link to."""
    waiting = [f"{DOCS}/{file.src_uri}" for file in files.documentation_pages()] + list(_named(config.nav))
    known = set(waiting)
    while waiting:
        path = waiting.pop()
        if not path.startswith(f"{DOCS}/") and (ROOT / path).is_file():
            files.append(_copy(path, config))
        new = set(_linked(path)) - known
        known |= new
        waiting += sorted(new)
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Lead links to their copies in the site, and write the commands where the page asks for them."""
    if COMMANDS in markdown:
        markdown = markdown.replace(COMMANDS, commands())
    uri = page.file.src_uri
    source = uri.removeprefix(f"{COPIES}/") if uri.startswith(f"{COPIES}/") else f"{DOCS}/{uri}"
    if not (ROOT / source).is_file():  # a page that shows a file which is no Markdown
        return markdown

    def lead(match: re.Match[str]) -> str:
        target = _target(source, match[0])
        return posixpath.relpath(_uri(target), posixpath.dirname(uri)) if target else match[0]

    return LINK.sub(lead, markdown)


def commands() -> str:
    """Every command of `hive`, as typer describes it."""
    group = typer.main.get_command(app)
    text = get_docs_for_click(obj=group, ctx=typer.Context(group), name="hive")
    return text.partition("\n")[2]  # the page has a title of its own


def _named(nav: object) -> Iterator[str]:
    """Files of the repository that the navigation names."""
    if isinstance(nav, str) and nav.startswith(f"{COPIES}/"):
        yield nav.removeprefix(f"{COPIES}/")
    elif isinstance(nav, list | dict):
        for one in nav.values() if isinstance(nav, dict) else nav:
            yield from _named(one)


def _linked(path: str) -> Iterator[str]:
    """Files of the repository that this one links to, if it is Markdown."""
    if path.endswith(".md") and (ROOT / path).is_file():
        text = (ROOT / path).read_text()
        yield from filter(None, (_target(path, link) for link in LINK.findall(text)))


def _target(source: str, link: str) -> str | None:
    """What a link of a file means, from the repository's root; None: it leads out, or from one of docs/ to another."""
    if "://" in link or link.startswith(("/", "mailto:")):
        return None
    target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
    both_are_pages = source.startswith(f"{DOCS}/") and target.startswith(f"{DOCS}/")
    return None if both_are_pages or target.startswith("..") else target


def _uri(path: str) -> str:
    """Where a file of the repository is in the site's sources."""
    if path.startswith(f"{DOCS}/"):
        return path.removeprefix(f"{DOCS}/")
    return f"{COPIES}/{path}" if path.endswith(AS_IT_IS) else f"{COPIES}/{path}.md"


def _copy(path: str, config: MkDocsConfig) -> File:
    if path.endswith(AS_IT_IS):
        return File.generated(config, _uri(path), abs_src_path=str(ROOT / path))
    text = (ROOT / path).read_text()
    language = PurePosixPath(path).suffix.removeprefix(".") or "text"
    return File.generated(config, _uri(path), content=f"# {path}\n\n````{language}\n{text}\n````\n")
