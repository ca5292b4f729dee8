"""The packaged chart holds the source, byte for byte, and a new version of either leaves running Ray pods alone."""

import base64
import gzip
import json
import shutil
import tarfile
from pathlib import Path

import helm_python
import pytest

from hive.rendering import quiet_stderr
from tests.chart.helm import CHART, FULL, ROOT, Json, chart, load, ray_service, render, texts

PACKAGES = ("serve_app", "vram_agent")
MIB = 1024 * 1024
LIMIT = MIB  # of a ConfigMap, and of the Secret that keeps a release


def _source() -> dict[str, bytes]:
    return {f"files/{path.parent.name}/{path.name}": path.read_bytes() for name in PACKAGES for path in _files(name)}


def _files(package: str) -> list[Path]:
    return sorted((ROOT / package).glob("*.py"))


@pytest.fixture(scope="module", name="packaged")
def _packaged(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Every file of the .tgz, by its path inside the chart."""
    with quiet_stderr():
        archive = helm_python.package(CHART, destination=tmp_path_factory.mktemp("package"))
    with tarfile.open(archive) as tar:
        members = {member.name.partition("/")[2]: tar.extractfile(member) for member in tar if member.isfile()}
        return {name: file.read() for name, file in members.items() if file is not None}


def test_the_package_ships_the_source_and_nothing_beside_it(packaged: dict[str, bytes]) -> None:
    """No __pycache__, no tests, no byte that differs."""
    assert {name: data for name, data in packaged.items() if name.startswith("files/")} == _source()


def test_the_package_holds_no_tests_and_no_caches(packaged: dict[str, bytes]) -> None:
    """What is in the package is in every release, and a release ends at 1 MiB."""
    top = {name.partition("/")[0] for name in packaged}
    assert top <= {"Chart.yaml", "values.yaml", "values.schema.json", ".helmignore", "README.md", "templates", "files"}
    assert [name for name in packaged if "__pycache__" in name or name.endswith(".pyc")] == []


def test_the_ignore_file_leaves_out_caches_and_keeps_hooks(tmp_path: Path) -> None:
    """The pattern for chart/tests must not take `helm test` in templates/tests with it."""
    copy = _copy(tmp_path)
    for name in ("templates/tests/hook.yaml", "files/serve_app/__pycache__/a.pyc", "files/serve_app/__pycache__/b.py"):
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).write_text("# a file\n")
    new = load(copy)
    assert "templates/tests/hook.yaml" in {template["name"] for template in new.templates}
    assert [file["name"] for file in new.files if "__pycache__" in file["name"]] == []


def test_every_module_is_flat(packaged: dict[str, bytes]) -> None:
    """A ConfigMap has no folders, so a package with one would arrive without it."""
    inner = [path for name in PACKAGES for path in (ROOT / name).iterdir() if path.is_dir()]
    assert {path.name for path in inner} <= {"__pycache__"}


def test_configmaps_hold_the_source() -> None:
    """YAML neither cuts nor adds a newline."""
    maps = [obj for obj in render({}) if obj["kind"] == "ConfigMap"]
    assert [obj["metadata"]["name"] for obj in maps] == ["hive-serve-app", "hive-vram-agent"]
    for package, obj in zip(PACKAGES, maps, strict=True):
        assert obj["data"] == {path.name: path.read_text() for path in _files(package)}
        assert len(json.dumps(obj).encode()) < LIMIT / 2


def test_a_release_is_far_from_its_limit(packaged: dict[str, bytes]) -> None:
    """Helm keeps the chart, the values and the manifests in one Secret: JSON, gzip, base64."""
    files = {name: base64.b64encode(data).decode() for name, data in packaged.items()}
    release = json.dumps({"chart": files, "config": FULL, "manifest": "\n---\n".join(texts(FULL).values())})
    assert len(base64.b64encode(gzip.compress(release.encode()))) < LIMIT / 4


def test_a_new_release_of_the_chart_asks_for_no_new_ray_cluster(tmp_path: Path) -> None:
    """Neither its version nor its code, not even a new module, is seen in the Ray cluster or the Serve config."""
    copy = _copy(tmp_path)
    metadata = (copy / "Chart.yaml").read_text()
    (copy / "Chart.yaml").write_text(metadata.replace("ersion: 0.1.0", "ersion: 9.8.7"))
    (copy / "files" / "serve_app" / "new_module.py").write_text("NEW = True\n")
    (copy / "files" / "serve_app" / "model.py").write_text("CHANGED = True\n")
    new = load(copy)
    assert new.version == "9.8.7"
    assert ray_service(FULL, of=new) == ray_service(FULL)
    assert "new_module.py" in texts({}, of=new)["templates/code.yaml"]


def test_the_agent_starts_anew_for_its_own_code_alone(tmp_path: Path) -> None:
    """A DaemonSet, unlike a Ray cluster, rolls."""
    copy = _copy(tmp_path)
    (copy / "files" / "serve_app" / "model.py").write_text("CHANGED = True\n")
    assert _agent_annotations(load(copy)) == _agent_annotations(chart())
    (copy / "files" / "vram_agent" / "agent.py").write_text("CHANGED = True\n")
    assert _agent_annotations(load(copy)) != _agent_annotations(chart())


def _agent_annotations(of: helm_python.Chart) -> Json:
    (agent,) = [obj for obj in render({}, of=of) if obj["kind"] == "DaemonSet"]
    annotations: Json = agent["spec"]["template"]["metadata"]["annotations"]
    return annotations


def _copy(folder: Path) -> Path:
    """The chart with real files in place of its symlinks."""
    return Path(shutil.copytree(CHART, folder / "hive", ignore=shutil.ignore_patterns("__pycache__")))
