"""A real Hive on this machine: real Ray Serve, real vLLM on the CPU, tiny models; own ports, own folder."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openai
import pytest
import yaml

from hive.local import driver
from hive.local.processes import free_ports
from hive.local.run import Folders
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
    def hive(self) -> driver.LocalHive:
        return driver.find(self.where)

    def values(self, models: Json, **more: Any) -> Path:
        """A values file with these models and this sandbox's ports."""
        content = {
            "models": models,
            "ports": self.ports,
            "ray": {"http": {"host": "127.0.0.1", "proxyLocation": "HeadOnly"}},
        } | more
        path = self.folder / "values.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `hive`; wide, so that no message is wrapped."""
        return subprocess.run(
            [sys.executable, "-m", "hive.cli", *arguments],
            env=os.environ | {"HIVE_STATE_DIR": str(self.folder), "COLUMNS": "300"},
            capture_output=True,
            text=True,
            timeout=UP_SECONDS,
            check=False,
        )

    def up(self, models: Json, **more: Any) -> subprocess.CompletedProcess[str]:
        return self.command("up", "-f", str(self.values(models, **more)))

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

    def client(self, model: str) -> openai.OpenAI:
        url = f"{self.hive.run.serve_url}/models/{model}/v1"
        return openai.OpenAI(base_url=url, api_key="unused", max_retries=0, timeout=120)

    def chat(self, model: str) -> str:
        """One short answer's finish reason: the weights are random, so the words mean nothing."""
        answer = self.client(model).chat.completions.create(
            model=model, messages=[{"role": "user", "content": "hello"}], max_tokens=4
        )
        assert answer.usage is not None
        assert answer.usage.completion_tokens > 0
        return str(answer.choices[0].finish_reason)


def make_sandbox(folder: Path) -> Sandbox:
    """Ports that are free now, and the tiny model."""
    model = ROOT / ".hive" / "models" / "tiny"
    if not model.exists():
        pytest.fail("the tiny model is missing: python tools/demo_models.py .hive/models tiny")
    shutil.copytree(model, folder / "models" / "tiny")
    names = ("serve", "dashboard", "gcs", "client", "agent")
    return Sandbox(folder, dict(zip(names, free_ports(len(names)), strict=True)))


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A running Hive with the models `left` and `right`; ended afterwards, whatever happened."""
    sandbox = make_sandbox(tmp_path_factory.mktemp("hive"))
    try:
        done = sandbox.up({"left": tiny(), "right": tiny()})
        assert done.returncode == 0, done.stdout + done.stderr
        yield sandbox
    finally:
        driver.stop(sandbox.where, print)
        shutil.rmtree(sandbox.where.ray, ignore_errors=True)
