"""The packaged chart holds the source, byte for byte, and a new version of either leaves running Ray pods alone."""

import base64
import gzip
import json
import shutil
import subprocess
import tarfile
from pathlib import Path

import helm_python
import pytest
import yaml

from hive.rendering import quiet_stderr
from tests.chart.envoy import configuration
from tests.chart.helm import CHART, FULL, ROOT, Json, chart, find, load, ray_service, render, texts, tool

PACKAGES = ("serve_app", "vram_agent", "gateway", "release")
MIB = 1024 * 1024
MODEL: Json = {"source": "owner/a", "vram": "1Gi"}
LIMIT = MIB  # of a ConfigMap, and of the Secret that keeps a release


def _source() -> dict[str, bytes]:
    """What pods run, and Lua, which is part of Envoy's configuration."""
    files = [path for name in PACKAGES for path in (*_shipped(name), *(ROOT / name).glob("*.lua"))]
    monitoring = [CHART / "files" / "rules.yaml", *(CHART / "files" / "dashboards").glob("*.json")]
    own = {str(path.relative_to(CHART)): path.read_bytes() for path in monitoring}
    return {f"files/{path.parent.name}/{path.name}": path.read_bytes() for path in files} | own


def _shipped(package: str) -> list[Path]:
    """Python, and what a browser gets."""
    return sorted(path for end in ("py", "html", "css", "js") for path in (ROOT / package).glob(f"*.{end}"))


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
    maps = {obj["metadata"]["name"]: obj for obj in render({}) if obj["kind"] == "ConfigMap"}
    assert maps.keys() == {*(f"hive-{name.replace('_', '-')}-code" for name in PACKAGES), "hive-gateway"}
    for package in PACKAGES:
        obj = maps[f"hive-{package.replace('_', '-')}-code"]
        assert obj["data"] == {path.name: path.read_text() for path in _shipped(package)}
        assert len(json.dumps(obj).encode()) < LIMIT / 2


def test_envoys_configuration_holds_the_lua_script() -> None:
    """Byte for byte: YAML's indentation does not reach it."""
    filters = yaml.safe_load(configuration({})["envoy.yaml"])["static_resources"]["listeners"][0]["filter_chains"][0][
        "filters"
    ]
    (form,) = [f for f in filters[0]["typed_config"]["http_filters"] if f["name"] == "form"]
    source = form["typed_config"]["default_source_code"]["inline_string"]
    assert source.strip() == (ROOT / "gateway/form.lua").read_text().strip()


def test_two_hundred_models_fit_into_the_gateways_configmap() -> None:
    """Kubernetes refuses a larger one, and with it the whole upgrade."""
    models = {f"qwen3-30b-a3b-instruct-{n}": MODEL | {"aliases": [f"gpt-4o-{n}"]} for n in range(200)}
    assert len(texts({"models": models})["templates/gateway/configmap.yaml"]) < LIMIT * 3 / 4


def test_a_release_is_far_from_its_limit(packaged: dict[str, bytes]) -> None:
    """Helm keeps the chart, the values and the manifests in one Secret: JSON, gzip, base64."""
    files = {name: base64.b64encode(data).decode() for name, data in packaged.items()}
    values = FULL | {"monitoring": {"enabled": True, "dashboards": {"enabled": True}}}
    release = json.dumps({"chart": files, "config": values, "manifest": "\n---\n".join(texts(values).values())})
    assert len(base64.b64encode(gzip.compress(release.encode()))) < LIMIT * 2 / 5


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
    assert _annotations("DaemonSet", load(copy)) == _annotations("DaemonSet", chart())
    (copy / "files" / "vram_agent" / "agent.py").write_text("CHANGED = True\n")
    assert _annotations("DaemonSet", load(copy)) != _annotations("DaemonSet", chart())


def test_the_gateway_starts_anew_for_its_own_code_alone(tmp_path: Path) -> None:
    """What Envoy runs, the Lua script, is its own code as well."""
    copy = _copy(tmp_path)
    (copy / "files" / "serve_app" / "model.py").write_text("CHANGED = True\n")
    assert _annotations("Deployment", load(copy)) == _annotations("Deployment", chart())
    for name in ("discovery.py", "form.lua"):
        before = _annotations("Deployment", load(copy))
        (copy / "files" / "gateway" / name).write_text("CHANGED = True\n")
        assert _annotations("Deployment", load(copy)) != before


def _annotations(kind: str, of: helm_python.Chart) -> Json:
    annotations: Json = find(render({}, of=of), kind)["spec"]["template"]["metadata"]["annotations"]
    return annotations


def _copy(folder: Path) -> Path:
    """The chart with real files in place of its symlinks."""
    return Path(shutil.copytree(CHART, folder / "hive", ignore=shutil.ignore_patterns("__pycache__")))


def test_the_charts_readme_is_made_of_its_values() -> None:
    flags = ["--chart-search-root=chart", "--sort-values-order=file", "--ignore-non-descriptions", "--dry-run"]
    done = subprocess.run([tool("helm-docs"), *flags], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == (CHART / "README.md").read_text().strip(), "make chart-docs"


def test_an_own_image_and_a_stock_one_run_the_same_code_from_the_same_folders(packaged: dict[str, bytes]) -> None:
    """Dockerfile and .dockerignore on one side, ConfigMaps and their mounts on the other, on the same base."""
    lines = [line.split() for line in (ROOT / "Dockerfile").read_text().splitlines()]
    image = yaml.safe_load(packaged["values.yaml"])["image"]
    assert ["FROM", f"{image['repository']}:{image['tag']}"] in lines
    nothing, *patterns = (ROOT / ".dockerignore").read_text().splitlines()
    assert nothing == "*"
    kept = [path.relative_to(ROOT) for pattern in patterns for path in ROOT.glob(pattern.removeprefix("!"))]
    folders = {line[2]: line[3] for line in lines if line and line[0] == "COPY"}
    copied = {f"{folders[str(path.parent)]}/{path.name}": (ROOT / path).read_text() for path in kept}
    assert copied == _mounted(render({"models": {"a": MODEL}}))


def _mounted(rendered: list[Json]) -> dict[str, str]:
    """Every file that a container finds below /opt/hive, by its path there."""
    maps = {obj["metadata"]["name"]: obj["data"] for obj in rendered if obj["kind"] == "ConfigMap"}
    cluster = find(rendered, "RayService")["spec"]["rayClusterConfig"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    pods = [group["template"]["spec"] for group in groups]
    pods += [find(rendered, kind)["spec"]["template"]["spec"] for kind in ("DaemonSet", "Deployment", "Job")]
    files = {}
    for pod in [*pods, find(rendered, "Pod")["spec"]]:
        names = {volume["name"]: volume["configMap"]["name"] for volume in pod["volumes"] if "configMap" in volume}
        for mount in (mount for container in pod["containers"] for mount in container["volumeMounts"]):
            if mount["mountPath"].startswith("/opt/hive/"):
                data = maps[names[mount["name"]]]
                files |= {f"{mount['mountPath']}/{name}": text for name, text in data.items()}
    return files


def test_an_image_with_the_code_gets_no_configmaps_of_it() -> None:
    rendered = render({"models": {"a": MODEL}, "image": {"hasCode": True}})
    assert [obj["metadata"]["name"] for obj in rendered if obj["kind"] == "ConfigMap"] == ["hive-gateway"]
    assert "-code" not in json.dumps(rendered)
