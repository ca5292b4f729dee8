"""What a Ray pod is told through its environment, read in this one place. The chart sets it on every Ray container."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """Where things are for this process."""

    agent_socket: Path
    models_dir: Path
    devices: tuple[str, ...]  # device ids of this worker; empty: not chosen yet
    cpus: int | None = None  # of this worker, for replicas; None: as many as the machine has


def from_environment() -> Settings:
    """Read HIVE_*.

    Raises:
        RuntimeError: a variable is missing, so this is no Hive pod.
    """
    cpus = os.environ.get("HIVE_CPUS")
    try:
        return Settings(
            agent_socket=Path(os.environ["HIVE_AGENT_SOCKET"]),
            models_dir=Path(os.environ["HIVE_MODELS_DIR"]),
            devices=tuple(filter(None, os.environ.get("HIVE_DEVICES", "").split(","))),
            cpus=int(cpus) if cpus else None,
        )
    except KeyError as error:
        raise RuntimeError(f"the environment has no {error.args[0]}; Hive's chart sets it on every Ray pod") from error
