"""The agent's settings, read from the environment in this one place. The chart's agent DaemonSet sets them."""

import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

from vram_agent.api import MIB
from vram_agent.devices import Kind


@dataclass(frozen=True)
class Settings:
    """Sizes in bytes, times in seconds."""

    socket: Path  # where holders ask for leases; its folder also keeps the ledger's file
    host: str  # where state and metrics are read
    port: int
    kind: Kind
    node: str
    headroom: int
    safety: int
    period: float = 0.5
    patience: float = 1.0  # two periods without room until a request is refused
    clear_after: float = 0.5  # a period: two samples without a byte of a dead process
    orphan_grace: float = 5.0
    claim_window: float = 10.0  # a holder notices a new agent within a second; ten are for a busy node

    @property
    def ledger_file(self) -> Path:
        """Beside the socket: a tmpfs, so that a reboot, which ends every process, also forgets every lease."""
        return self.socket.parent / "leases.json"


def from_environment() -> Settings:
    """Read HIVE_*.

    Raises:
        SystemExit: a variable is missing or has no valid value.
    """
    env = os.environ
    try:
        kind = env["HIVE_DEVICE_KIND"]
        if kind not in get_args(Kind):
            raise ValueError(f"HIVE_DEVICE_KIND is {kind!r}; it can be {', '.join(get_args(Kind))}")
        return Settings(
            socket=Path(env["HIVE_AGENT_SOCKET"]),
            host=env["HIVE_AGENT_HOST"],
            port=_integer("HIVE_AGENT_PORT"),
            kind=cast("Kind", kind),
            node=env.get("HIVE_NODE_NAME", platform.node()),
            headroom=_integer("HIVE_HEADROOM_MIB") * MIB,
            safety=_integer("HIVE_SAFETY_MIB") * MIB,
        )
    except KeyError as error:
        raise SystemExit(
            f"ERROR: the environment has no {error.args[0]}\nFIX: start the agent through the chart"
        ) from error
    except ValueError as error:
        raise SystemExit(f"ERROR: {error}") from error


def _integer(name: str) -> int:
    value = os.environ[name]
    if not value.isdecimal():
        raise ValueError(f"{name} is {value!r}; it must be a whole number")
    return int(value)
