"""What the commands have in common: the two consoles, which Hive is meant, progress, errors and Ctrl-C."""

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core
from rich.console import Console
from rich.live import Live
from rich.text import Text

from hive import views
from hive.connect import connect
from hive.errors import HiveError
from hive.serve_api import Application
from hive.target import Target, Watch
from vram_agent.api import State

COMPLETION_SECONDS = 3
INTERRUPTED = 130  # exit code after Ctrl-C, as shells have it

out = Console()
err = Console(stderr=True)

ValuesFile = Annotated[Path, typer.Option("--values", "-f", help="The values file.")]
Kept = Annotated[
    Path | None,
    typer.Option("--values", "-f", help="Where the release's values are kept: edited too, and upgraded from."),
]
AsJson = Annotated[bool, typer.Option("--json", help="For machines.")]


class Commands(typer.core.TyperGroup):
    """Ends every command alike: an error is said and ends with 1, Ctrl-C ends with 130."""

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]  # typer's own base class is private
        try:
            return super().invoke(ctx)
        except HiveError as error:
            err.print(Text(str(error)), style="red", soft_wrap=True)
            raise typer.Exit(1) from error
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None


@dataclass(frozen=True)
class Chosen:
    """Which Hive the options before the command name; release None: this machine's."""

    release: str | None
    namespace: str | None
    context: str | None

    def target(self, values_file: Path | None = None) -> Target:
        """It; see `hive.connect.connect`.

        Raises:
            HiveError: there is none.
        """
        return connect(self.release, self.namespace, self.context, values_file)


def chosen(ctx: typer.Context) -> Chosen:
    """What was said before the command."""
    found = ctx.find_object(Chosen)
    assert found is not None  # noqa: S101  (cli.main sets it)
    return found


def serving(hive: Target, model: str) -> Application:
    """What Ray Serve says of a model.

    Raises:
        HiveError: there is no such model.
    """
    found = {application.name: application for application in hive.applications()}
    if model not in found:
        raise HiveError(f"there is no model {model!r}", f"the models are: {', '.join(found) or 'none'}")
    return found[model]


def report(line: str) -> None:
    """A step begins."""
    out.print(Text(line, style="dim"), soft_wrap=True)


def has_page(hive: Target) -> bool:
    """Whether its gateway has the page for people; so it is where the values can't be read and do not say otherwise."""
    with contextlib.suppress(HiveError):
        return bool((hive.values().get("gateway") or {}).get("page", True))
    return True


@contextlib.contextmanager
def watching(goes_on: str) -> Iterator[Watch]:
    """What a wait shows: a live table on a terminal, elsewhere a line whenever something changes.

    Args:
        goes_on: what Ctrl-C says: what is not stopped by it.
    """
    try:
        if out.is_terminal:
            with Live(console=out, transient=True, refresh_per_second=4) as live:
                yield lambda found, states: live.update(views.applications(found, states))
        else:
            yield _Lines().say
    except KeyboardInterrupt:
        err.print(Text(goes_on), soft_wrap=True)
        raise


class _Lines:
    def __init__(self) -> None:
        self._last: list[str] = []

    def say(self, found: Sequence[Application], _: Mapping[str, State]) -> None:
        lines = [_line(application) for application in found]
        if lines and lines != self._last:
            out.print("; ".join(lines), highlight=False, markup=False, soft_wrap=True)
            self._last = lines


def _line(application: Application) -> str:
    states = [replica.state for replica in application.replicas]
    reason = "" if application.ready or not application.reason else f": {application.reason}"
    return f"{application.name} {application.status} {states}{reason}"


def complete_model(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of models for the shell; none where no Hive answers at once."""
    said, names = ctx.find_root().params, list[str]()

    def ask() -> None:
        with contextlib.suppress(Exception):  # a completion says nothing but names
            hive = connect(said.get("release"), said.get("namespace"), said.get("context"))
            names.extend(hive.values().get("models") or {})

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(COMPLETION_SECONDS)
    return [name for name in names if name.startswith(incomplete)]


Model = Annotated[str, typer.Argument(help="Name of the model.", autocompletion=complete_model)]
