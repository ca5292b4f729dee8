"""The settings, read from the environment in this one place. The chart's gateway Deployment sets them."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple


class Endpoint(NamedTuple):
    """A port at every address that a name stands for."""

    host: str
    port: int


@dataclass(frozen=True)
class Page:
    """Whom the page's figures come from."""

    agents: tuple[Endpoint, ...]  # VRAM agents, on every node
    gateways: tuple[Endpoint, ...]  # the metrics of every gateway


@dataclass(frozen=True)
class Settings:
    """Where things are. Paths are relative to the working directory, which Envoy shares."""

    dashboard: str  # of Ray, like http://hive-ray:8265
    token_file: Path | None  # of Ray; None: it asks for none
    keys: Path | None  # a file for each client; None: nobody is asked for a key
    page: Page | None = None  # None: there is none
    config: Path = Path("config")  # what the chart rendered
    run: Path = Path("run")  # what is written for Envoy, and sockets
    period: float = 1.0  # seconds from one look to the next

    @property
    def socket(self) -> Path:
        return self.run / "discovery.sock"

    @property
    def admin(self) -> Path:
        """Envoy's own administration."""
        return self.run / "admin.sock"


def from_environment() -> Settings:
    """Read HIVE_*.

    Raises:
        SystemExit: a variable is missing.
    """
    env = os.environ
    try:
        return Settings(
            dashboard=env["HIVE_DASHBOARD_URL"],
            token_file=_path("HIVE_TOKEN_FILE"),
            keys=_path("HIVE_KEYS_DIR"),
            page=Page(_endpoints("HIVE_AGENTS"), _endpoints("HIVE_GATEWAYS")) if "HIVE_AGENTS" in env else None,
        )
    except KeyError as error:
        raise SystemExit(
            f"ERROR: the environment has no {error.args[0]}\nFIX: start the gateway through the chart"
        ) from error


def _endpoints(name: str) -> tuple[Endpoint, ...]:
    """Of host:port, several with commas in between. An IPv6 address has brackets."""
    pairs = (entry.rpartition(":") for entry in os.environ[name].split(","))
    return tuple(Endpoint(host.strip("[]"), int(port)) for host, _, port in pairs)


def _path(name: str) -> Path | None:
    value = os.environ.get(name)
    return Path(value) if value else None
