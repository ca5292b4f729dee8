"""A real Hive on this machine: real Ray Serve, real vLLM on the CPU, tiny models; own ports, own folder."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest
import yaml

from hive.local.processes import free_ports
from hive.local.run import Folders
from hive.local.target import LocalHive, find
from hive.rendering import ROOT
from vram_agent.api import Lease, State

UP_SECONDS = 280
Json = dict[str, Any]


def tiny(**more: Any) -> Json:
    """An entry of `models` with the tiny model."""
    return {"source": "./tiny", "vram": "2560Mi", "cpu": 0.1, "maxModelLen": 512, "maxNumSeqs": 4} | more


@dataclass
class Sandbox:
    """One Hive of its own, driven through the `hive` command as a person would."""

    folder: Path
    ports: dict[str, int] = field(default_factory=dict)

    @property
    def where(self) -> Folders:
        return Folders(self.folder.resolve())

    @property
    def hive(self) -> LocalHive:
        return find(self.where)

    def values(self, models: Json, **more: Any) -> Path:
        """A values file with these models and this sandbox's ports."""
        content = {
            "models": models,
            "ports": self.ports,
            "ray": {"http": {"host": "127.0.0.1", "proxyLocation": "HeadOnly"}},
            "gateway": {"host": "127.0.0.1"},
        } | more
        path = self.folder / "values.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    def command(self, *arguments: str, seconds: int = UP_SECONDS) -> subprocess.CompletedProcess[str]:
        """Run `hive`; wide, so that no message is wrapped."""
        return subprocess.run(
            [sys.executable, "-m", "hive.cli", *arguments],
            env=os.environ | {"HIVE_STATE_DIR": str(self.folder), "COLUMNS": "300"},
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def up(self, models: Json, *, seconds: int = UP_SECONDS, **more: Any) -> subprocess.CompletedProcess[str]:
        return self.command("up", "-f", str(self.values(models, **more)), seconds=seconds)

    def status(self) -> Json:
        done = self.command("status", "--json")
        assert done.returncode == 0, done.stderr
        status: Json = json.loads(done.stdout)
        return status

    def pids(self) -> dict[str, set[int]]:
        """PIDs of the replicas, by model."""
        return {app["name"]: {r["pid"] for r in app["replicas"]} for app in self.status()["applications"]}

    def leases(self, model: str) -> list[Lease]:
        state: State = self.hive.state()
        return [lease for lease in state.leases if lease.model == model]

    def client(self) -> openai.OpenAI:
        """The official client, at the one address. It tries again where the gateway says that a model is not ready."""
        return openai.OpenAI(base_url=f"{self.hive.run.gateway_url}/v1", api_key="unused", max_retries=3, timeout=120)

    def metrics(self) -> str:
        """Of every Ray node: vLLM's own are among them."""
        found = json.loads((self.where.ray / "prom_metrics_service_discovery.json").read_text())
        targets = {target for group in found for target in group["targets"]}
        return "".join(httpx.get(f"http://{target}/metrics", timeout=10).text for target in targets)

    def chat(self, model: str) -> str:
        """One short answer's finish reason: the weights are random, so the words mean nothing."""
        answer = self.client().chat.completions.create(
            model=model, messages=[{"role": "user", "content": "hello"}], max_tokens=4
        )
        assert answer.usage is not None
        assert answer.usage.completion_tokens > 0
        return str(answer.choices[0].finish_reason)


def make_sandbox(folder: Path, *models: str) -> Sandbox:
    """Ports that are free now, the tiny model, and more of tools/demo_models.py."""
    for name in ("tiny", *models):
        model = ROOT / ".hive" / "models" / name
        if not model.exists():
            pytest.fail(f"the model {name} is missing: python tools/demo_models.py .hive/models {name}")
        shutil.copytree(model, folder / "models" / name)
    names = ("serve", "dashboard", "gcs", "client", "agent", "gateway", "gatewayMetrics")
    return Sandbox(folder, dict(zip(names, free_ports(len(names)), strict=True)))


def wait_for(what: str, ready: Callable[[], bool], seconds: float = 180) -> None:
    """Poll until ready; fail with the name of what did not come."""
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, f"not in {seconds} s: {what}"
        time.sleep(0.5)


def engine_of(lease: Lease) -> int:
    """PID of vLLM's EngineCore: the replica's child that has a child of its own, the worker. Not by the title that it
    gives itself, which sometimes it does not get.
    """
    parents = {p.pid: p.info["ppid"] for p in psutil.process_iter(["ppid"]) if p.pid in lease.pids}
    return next(pid for pid, parent in parents.items() if parent == lease.pid and pid in parents.values())
