"""What the chart renders is what Kubernetes and KubeRay take, unknown fields included, in every supported version."""

import json
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest
import yaml

from serve_app import settings as replica_settings
from tests.chart import schemas
from tests.chart.helm import Json, find, render, tool, value_sets
from vram_agent import settings as agent_settings


@pytest.fixture(scope="module", name="manifests")
def _manifests() -> dict[str, list[Json]]:
    return {name: render(values) for name, values in value_sets().items()}


@pytest.fixture(scope="module", name="location")
def _location(tmp_path_factory: pytest.TempPathFactory, manifests: dict[str, list[Json]]) -> list[str]:
    objects = [obj for rendered in manifests.values() for obj in _native(rendered)]
    return schemas.prepare(tmp_path_factory.mktemp("schemas"), objects)


@pytest.mark.parametrize("version", schemas.KUBERNETES)
def test_kubernetes_takes_every_object_and_every_ray_pod(
    version: str, manifests: dict[str, list[Json]], location: list[str], tmp_path: Path
) -> None:
    """KubeRay makes pods of the templates inside the RayService, so they are checked as pods."""
    objects = {
        f"{name}-{index}": obj for name, rendered in manifests.items() for index, obj in enumerate(_native(rendered))
    }
    _kubeconform(objects, version, location, tmp_path)


def test_kuberay_takes_the_rayservice(manifests: dict[str, list[Json]], location: list[str], tmp_path: Path) -> None:
    """Its CRD would silently drop what it does not know."""
    if schemas.crd_folder() is None:
        pytest.skip("KubeRay's CRDs are not here: set KUBERAY_CRDS to the folder with ray.io_rayservices.yaml")
    objects = {name: find(rendered, "RayService") for name, rendered in manifests.items()}
    _kubeconform(objects, schemas.KUBERNETES[-1], location, tmp_path)


def test_every_object_has_a_name_of_its_own_in_the_releases_namespace(manifests: dict[str, list[Json]]) -> None:
    """And nothing is cluster-wide, so a tenant can install it."""
    for rendered in manifests.values():
        names = [(obj["kind"], obj["metadata"]["name"], obj["metadata"]["namespace"]) for obj in rendered]
        assert len(set(names)) == len(names)
        assert {namespace for _, _, namespace in names} == {"llm"}


def test_no_object_holds_a_null_or_a_secret(manifests: dict[str, list[Json]]) -> None:
    """A null in a manifest is a value that went missing on its way."""
    for name, rendered in manifests.items():
        assert "Secret" not in {obj["kind"] for obj in rendered}
        for obj in rendered:
            assert list(_nulls(obj, obj["kind"])) == [], name


def test_every_volume_has_one_source_and_every_mount_its_volume(manifests: dict[str, list[Json]]) -> None:
    """Kubernetes checks this after its schema."""
    for pod in (pod for rendered in manifests.values() for pod in [*_ray_pods(rendered), *_agent_pods(rendered)]):
        volumes = pod["spec"]["volumes"]
        assert all(len(volume.keys() - {"name"}) == 1 for volume in volumes)
        for container in pod["spec"]["containers"]:
            mounts = container["volumeMounts"]
            assert {mount["name"] for mount in mounts} == {volume["name"] for volume in volumes}
            assert len({mount["mountPath"] for mount in mounts}) == len(mounts)


def test_every_configmap_that_a_pod_names_is_rendered(manifests: dict[str, list[Json]]) -> None:
    """Else the pod waits for it for ever."""
    for rendered in manifests.values():
        there = {obj["metadata"]["name"] for obj in rendered if obj["kind"] == "ConfigMap"}
        pods = [*_ray_pods(rendered), *_agent_pods(rendered)]
        named = {v["configMap"]["name"] for pod in pods for v in pod["spec"]["volumes"] if "configMap" in v}
        assert named == there


def test_serve_app_finds_all_its_settings(manifests: dict[str, list[Json]], monkeypatch: pytest.MonkeyPatch) -> None:
    """On the head and on every worker."""
    for pod in (pod for rendered in manifests.values() for pod in _ray_pods(rendered)):
        _take_environment(pod, monkeypatch)
        assert replica_settings.from_environment().agent_socket == Path("/run/hive/agent.sock")


def test_the_agent_finds_all_its_settings(manifests: dict[str, list[Json]], monkeypatch: pytest.MonkeyPatch) -> None:
    """And takes their spelling."""
    (pod,) = _agent_pods(manifests["full"])
    _take_environment(pod, monkeypatch)
    settings = agent_settings.from_environment()
    assert (settings.kind, settings.port, settings.headroom) == ("nvml", 9410, 1048576 * 2**20)


def _take_environment(pod: Json, monkeypatch: pytest.MonkeyPatch) -> None:
    for entry in pod["spec"]["containers"][0]["env"]:
        monkeypatch.setenv(entry["name"], entry.get("value", "from-the-field"))


def _native(rendered: list[Json]) -> list[Json]:
    """What Kubernetes itself knows, with the Ray pods in place of the RayService."""
    return [obj for obj in rendered if obj["kind"] != "RayService"] + _ray_pods(rendered)


def _ray_pods(rendered: list[Json]) -> list[Json]:
    cluster = find(rendered, "RayService")["spec"]["rayClusterConfig"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [{"apiVersion": "v1", "kind": "Pod"} | group["template"] for group in groups]


def _agent_pods(rendered: list[Json]) -> list[Json]:
    return [find(rendered, "DaemonSet")["spec"]["template"]]


def _nulls(node: object, path: str) -> Iterable[str]:
    if node is None:
        yield path
    elif isinstance(node, dict):
        for key, value in node.items():
            yield from _nulls(value, f"{path}.{key}")
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _nulls(value, f"{path}[{index}]")


def _kubeconform(objects: dict[str, Json], version: str, location: list[str], folder: Path) -> None:
    """Every object is valid, and none was left out."""
    for name, obj in objects.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(obj))
    done = subprocess.run(
        [
            tool("kubeconform"),
            "-strict",
            "-summary",
            "-output=json",
            f"-kubernetes-version={version}",
            *location,
            folder,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    report = json.loads(done.stdout)
    assert done.returncode == 0, f"{done.stderr}{json.dumps(report.get('resources'), indent=1)}"
    assert report["summary"] == {"valid": len(objects), "invalid": 0, "errors": 0, "skipped": 0}
