"""Envoy for the tests: whether it takes what the chart renders and `gateway.discovery` adds. It serves nothing here."""

import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import yaml

from gateway import envoy
from gateway.discovery import Discovery
from gateway.replicas import Address
from gateway.settings import Settings
from tests.chart.helm import Json, Loader, texts

BINARY = Path(sys.executable).with_name("envoy")
TOKEN = "sk-a-key-of-the-test"
REPLICAS = [Address("10.0.0.1", 30001), Address("fd00::1", 30002)]


def configuration(values: Json) -> dict[str, str]:
    """The files that the gateway's pod has in config/."""
    data: dict[str, str] = yaml.load(texts(values)["templates/gateway/configmap.yaml"], Loader)["data"]
    return data


def folder(values: Json, root: Path) -> Path:
    """The working directory of a gateway that is about to start, in root."""
    files = configuration(values)
    for name in ("config", "keys", "run"):
        (root / name).mkdir()
    for name, text in files.items():
        (root / "config" / name).write_text(text)
    clients = values.get("gateway", {}).get("clients") or {"somebody": {}}
    for number, client in enumerate(clients):
        (root / "keys" / client).write_text(f"{TOKEN}-{number}\n")
    asks = "api_key_auth" in files["envoy.yaml"]
    settings = Settings("", None, root / "keys" if asks else None, config=root / "config", run=root / "run")
    Discovery(settings).prepare()
    return root


def whole(root: Path) -> str:
    """One file that holds all of the folder's: Envoy, when it only validates, does not open those that the first names.

    Text is moved, never parsed and written anew, so that Envoy's own YAML reader sees what it sees in a pod.
    """
    text = (root / "config/envoy.yaml").read_text()
    routes = _resources((root / "config/routes.yaml").read_text())
    text = _replace(text, "rds", "route_config:\n" + textwrap.indent(re.sub(r"^  - ", "    ", routes), "  "))
    if (root / "run/keys.json").exists():
        (keys,) = json.loads((root / "run/keys.json").read_text())["resources"]
        text = _replace(text, "config_discovery", f"typed_config: {json.dumps(keys['typed_config'])}\n")
    assert "path: run/replicas.json" in text
    assert (root / "run/replicas.json").exists()
    models = json.loads((root / "config/gateway.json").read_text())["models"]
    (assignment,) = envoy.replicas(dict.fromkeys(models, REPLICAS))["resources"]
    del assignment["@type"]
    text = _replace(text, "eds_cluster_config", f"load_assignment: {json.dumps(assignment)}\n")
    head, mark, tail = text.partition("type: EDS\n")
    return f"{head}type: STATIC\n{tail}" if mark else text


def refusal(text: str, root: Path) -> str | None:
    """What Envoy has against this configuration; None: it takes it."""
    file = root / "validated.yaml"
    file.write_text(text)
    if not BINARY.exists():
        pytest.fail("Envoy is not here: install what pyproject.toml names for the gateway")
    done = subprocess.run(
        [BINARY, "--mode", "validate", "--log-level", "error", "-c", file],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    return None if done.returncode == 0 else done.stderr


def _resources(text: str) -> str:
    """The items of a file of resources, without their types: inside a bootstrap Envoy knows them."""
    head, _, items = text.partition("\n")
    assert head.startswith("resources:")
    return re.sub(r'^  - "@type": .*\n    ', "  - ", items, flags=re.MULTILINE)


def _replace(text: str, key: str, new: str) -> str:
    """Put something else in the place of one key and all that is under it."""
    (found,) = re.finditer(rf"^( *){key}:\n(?:\1 .*\n)+", text, flags=re.MULTILINE)
    return text[: found.start()] + textwrap.indent(new, found[1]) + text[found.end() :]
