"""The settings, read from the environment in this one place. The chart's gateway Deployment sets them."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """Where things are. Paths are relative to the working directory, which Envoy shares."""

    dashboard: str  # of Ray, like http://hive-ray:8265
    token_file: Path | None  # of Ray; None: it asks for none
    keys: Path | None  # a file for each client; None: nobody is asked for a key
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
        )
    except KeyError as error:
        raise SystemExit(
            f"ERROR: the environment has no {error.args[0]}\nFIX: start the gateway through the chart"
        ) from error


def _path(name: str) -> Path | None:
    value = os.environ.get(name)
    return Path(value) if value else None
