"""What one local Hive is: folders, processes, addresses. Kept in run.json, so that a later command finds it."""

import hashlib
import json
import os
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from hive.rendering import ROOT


@dataclass(frozen=True)
class Folders:
    """Where a local Hive keeps things. One for each checkout or folder; see `folders`."""

    state: Path

    @property
    def models(self) -> Path:
        return self.state / "models"

    @property
    def logs(self) -> Path:
        return self.state / "logs"

    @property
    def token(self) -> Path:
        return self.state / "auth_token"

    @property
    def run_file(self) -> Path:
        return self.state / "run.json"

    @property
    def runtime(self) -> Path:
        """Short, because socket paths end at 107 bytes, and in memory where that can be had."""
        memory = Path("/dev/shm")  # noqa: S108  (the name below is this user's own)
        parent = memory if memory.is_dir() and os.access(memory, os.W_OK) else Path(tempfile.gettempdir())
        return parent / self._name

    @property
    def ray(self) -> Path:
        """Ray's sessions, with sockets and logs."""
        return Path(tempfile.gettempdir()) / self._name

    @property
    def socket(self) -> Path:
        return self.runtime / "agent.sock"

    @property
    def gateway(self) -> Path:
        """The working directory of Envoy and what is beside it."""
        return self.runtime / "gateway"

    @property
    def keys(self) -> Path:
        """API keys: a file for each client, as the Secret's entries in a cluster."""
        return self.state / "keys"

    def headers(self) -> dict[str, str]:
        """What Ray's dashboard asks for."""
        return {"Authorization": f"Bearer {self.token.read_text().strip()}"}

    @property
    def _name(self) -> str:
        return f"hive-{os.getuid()}-{hashlib.sha256(str(self.state).encode()).hexdigest()[:8]}"


def folders() -> Folders:
    """From HIVE_STATE_DIR; else `.hive` in the checkout, or here. What else of the environment this package reads says
    where to ask (`hive.client.addresses`)."""
    parent = ROOT if (ROOT / "pyproject.toml").exists() else Path.cwd()
    return Folders(Path(os.environ.get("HIVE_STATE_DIR", parent / ".hive")).resolve())


def born(process: psutil.Process) -> float:
    """Seconds after this machine's boot: the time of day would move when the clock is set right."""
    return float(process.create_time() - psutil.boot_time())


@dataclass(frozen=True)
class Started:
    """A process that the local driver started."""

    name: str
    pid: int
    born: float

    def process(self) -> psutil.Process | None:
        """The live process, or None; never a later one with the same PID."""
        try:
            process = psutil.Process(self.pid)
            alive = process.status() != psutil.STATUS_ZOMBIE and abs(born(process) - self.born) < 1
        except psutil.NoSuchProcess:
            return None
        return process if alive else None


@dataclass
class Run:
    """One running Hive."""

    values: str  # the file, by its absolute path
    cluster: str  # digest of everything that only a restart of Ray can change
    dashboard_url: str
    agent_url: str
    serve_url: str
    gateway_url: str  # the one address of all models
    processes: list[Started] = field(default_factory=list)

    def save(self, where: Folders) -> None:
        where.run_file.write_text(json.dumps(asdict(self), indent=1))

    def dead(self) -> list[Started]:
        return [started for started in self.processes if started.process() is None]


def load(where: Folders) -> Run | None:
    """The Hive that was started here and not stopped, whether it lives or not."""
    if not where.run_file.exists():
        return None
    content = json.loads(where.run_file.read_text())
    return Run(**content | {"processes": [Started(**started) for started in content["processes"]]})
