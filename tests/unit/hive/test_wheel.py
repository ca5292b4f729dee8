"""What `pip install` of Hive gives: a `hive` that plans, with the chart in it and without a checkout, Ray or torch."""

import importlib.metadata
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from hive.rendering import ROOT
from tests.unit.hive.planned import make_model

# Refuses every module of a distribution that is not in argv[1], then runs the command.
BARE = """
import importlib.abc, importlib.metadata, sys

allowed = set(sys.argv.pop(1).split(","))
owners = importlib.metadata.packages_distributions()

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        of = owners.get(name.partition(".")[0])
        if of and not allowed & {one.lower().replace("_", "-") for one in of}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None

sys.meta_path.insert(0, Absent())
for name in ("ray", "torch", "vllm"):
    try:
        __import__(name)
    except ModuleNotFoundError:
        continue
    raise SystemExit(f"{name} can be imported")

from hive.cli import app
app()
"""


@pytest.fixture(scope="module", name="installed")
def _installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's content."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)], cwd=ROOT, check=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def needed(site: Path) -> set[str]:
    """Hive and all that it needs, without its extras."""
    (own,) = importlib.metadata.distributions(path=[str(site)])
    left, found = [*(own.requires or [])], {"hive-llm"}
    while left:
        requirement = left.pop()
        name = re.match(r"[A-Za-z0-9._-]+", requirement)
        if name is None or "extra ==" in requirement:
            continue
        known = re.sub(r"[-_.]+", "-", name[0]).lower()
        if known not in found:
            found.add(known)
            try:
                left += importlib.metadata.requires(known) or []
            except importlib.metadata.PackageNotFoundError:
                continue  # for another system or Python
    return found


def run(site: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "HIVE_STATE_DIR"}
    return subprocess.run(
        [sys.executable, "-c", BARE, ",".join(needed(site)), *arguments],
        env=environment | {"PYTHONPATH": str(site), "COLUMNS": "200"},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_plan_needs_no_checkout_no_ray_and_no_torch(installed: Path, tmp_path: Path) -> None:
    make_model(tmp_path / ".hive" / "models" / "m")
    values = tmp_path / "values.yaml"
    values.write_text("models: {a: {source: ./m, maxModelLen: 1024}}\ngateway: {anonymous: true}\n")
    done = run(installed, tmp_path, "plan", "-f", "values.yaml", "--gpus", "24GiB", "--write")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Fits." in done.stdout
    assert "vram: " in values.read_text()


def test_where_nothing_runs_that_is_said(installed: Path, tmp_path: Path) -> None:
    done = run(installed, tmp_path, "status")
    assert done.returncode == 1
    assert "ERROR: no Hive runs here" in done.stderr


def test_the_chart_in_the_wheel_is_the_chart(installed: Path) -> None:
    chart = {name: data for name, data in files(ROOT / "chart").items() if not name.startswith(("tests/", "README"))}
    assert files(installed / "hive" / "chart") == chart


def files(folder: Path) -> dict[str, bytes]:
    """What is in it, by path, through links."""
    found = [Path(at) / name for at, _, names in os.walk(folder, followlinks=True) for name in names]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found if path.suffix != ".pyc"}
