"""One Hive to talk to and to change: the one of this machine, or a Helm release of a cluster. Commands and the Python
client know this interface alone."""

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from hive.serve_api import Application
from vram_agent.api import State

if TYPE_CHECKING:
    from hive.rendering import Rendered

Json = dict[str, Any]
Report = Callable[[str], None]  # called with a line for people whenever a step begins
Watch = Callable[[Sequence[Application], Mapping[str, State]], None]  # called with every look while something waits


class Remove:
    """The type of REMOVE."""

    def __repr__(self) -> str:
        return "REMOVE"


REMOVE: Final = Remove()
LONGEST = 120  # characters that are shown of one edit


@dataclass(frozen=True)
class Edit:
    """One key of the values, by its path from the top: ("models", "qwen3-8b", "replicas"). REMOVE takes it away."""

    path: tuple[str, ...]
    value: Any

    def __str__(self) -> str:
        path = ".".join(self.path)
        return f"{path} removed" if self.value is REMOVE else f"{path}: {self.value}"


def told(edits: Sequence[Edit]) -> str:
    """The edits on one line, for people and Helm's history."""
    return ", ".join(textwrap.shorten(str(edit), LONGEST) for edit in edits)


class Target(Protocol):
    """One Hive. Every method raises HiveError where it does not answer, and none waits without an end."""

    @property
    def name(self) -> str:
        """For people: `this machine`, or `release hive in namespace llm`."""

    def gateway_url(self) -> str:
        """The one OpenAI address, without /v1. On a cluster a port-forward, open as long as this process lives."""

    def addresses(self) -> list[str]:
        """Where clients find the gateway, without /v1: nearest first; the first of a cluster is good inside it."""

    def api_key(self) -> str | None:
        """A key that may ask every model, or None where none is asked for."""

    def applications(self) -> list[Application]:
        """The models. A replica's `node` is a key of `states`."""

    def states(self) -> dict[str, State]:
        """What the VRAM agent of each node says, by the node's name."""

    def values(self) -> Json:
        """The values in force: what a person wrote, without the chart's defaults."""

    def change(self, edits: Sequence[Edit], report: Report, watch: Watch) -> None:
        """Edit the values, make them so, and wait until every model serves.

        Raises:
            HiveError: the edited values are refused or do not fit, and nothing was changed; or a model can't serve, and
                the edit stays.
        """

    def logs(self, model: str, follow: bool) -> Iterator[str]:
        """Lines of the logs of a model's replicas; with several, each line begins with its replica.

        Args:
            follow: go on with what is written from now on, until the iterator is closed.
        """

    def dashboard(self) -> tuple[str, dict[str, str]]:
        """URL of Ray's dashboard and REST API, and the headers that it asks for."""

    def deployed(self) -> Json:
        """The Serve config that runs, in the shape of a rendered one."""

    def render(self, values: Json) -> "Rendered":
        """What the chart makes of these values here.

        Raises:
            HiveError: the chart refuses them; with the mend.
        """

    def restarts_all(self, rendered: "Rendered") -> str | None:
        """Why what was rendered would start all of Ray anew, or None where it would not."""

    def worker_cpus(self) -> int | None:
        """CPUs of each Ray worker, whatever the values say; None: what its pod is given."""
