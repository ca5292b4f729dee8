"""What the chart renders is what Kubernetes and KubeRay take, unknown fields included, in every supported version."""

import base64
import os
import re
from collections.abc import Iterable
from pathlib import Path

import pytest
import yaml

from gateway import settings as gateway_settings
from serve_app import settings as replica_settings
from tests.chart import schemas
from tests.chart.helm import Json, find, ray_service, render, value_sets
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
    schemas.kubeconform(objects, version, location, tmp_path)


def test_kuberay_takes_the_rayservice(manifests: dict[str, list[Json]], location: list[str], tmp_path: Path) -> None:
    """Its CRD would silently drop what it does not know."""
    if schemas.crd_folder() is None:
        pytest.skip("KubeRay's CRDs are not here: set KUBERAY_CRDS to the folder with ray.io_rayservices.yaml")
    objects = {name: find(rendered, "RayService") for name, rendered in manifests.items()}
    schemas.kubeconform(objects, schemas.KUBERNETES[-1], location, tmp_path)


def test_the_gateway_api_takes_the_route(manifests: dict[str, list[Json]], tmp_path: Path) -> None:
    """Of its standard channel, which knows timeouts."""
    path = "config/crd/standard/gateway.networking.k8s.io_httproutes.yaml"
    location = schemas.prepare_crd(tmp_path, schemas.module_crd(*schemas.GATEWAY_API, path))
    (tmp_path / "objects").mkdir()
    routes = {"full": find(manifests["full"], "HTTPRoute")}
    schemas.kubeconform(routes, schemas.KUBERNETES[-1], location, tmp_path / "objects")


def test_every_object_has_a_name_of_its_own_in_the_releases_namespace(manifests: dict[str, list[Json]]) -> None:
    """And nothing is cluster-wide, so a tenant can install it."""
    for rendered in manifests.values():
        names = [(obj["kind"], obj["metadata"]["name"], obj["metadata"]["namespace"]) for obj in rendered]
        assert len(set(names)) == len(names)
        assert {namespace for _, _, namespace in names} == {"llm"}


def test_no_object_holds_a_null(manifests: dict[str, list[Json]]) -> None:
    """A null in a manifest is a value that went missing on its way. Envoy's files are texts here."""
    for name, rendered in manifests.items():
        for obj in rendered:
            assert list(_nulls(obj, obj["kind"])) == [], name


def test_the_only_secret_is_rays_token_and_nothing_else_holds_it(manifests: dict[str, list[Json]]) -> None:
    """Everything but Secrets is readable for more people, and the operator logs the RayService."""
    for name, rendered in manifests.items():
        secrets = {obj["metadata"]["name"]: obj["data"] for obj in rendered if obj["kind"] == "Secret"}
        auth = (value_sets()[name].get("ray") or {}).get("auth") or {}
        named = auth.get("existingSecret") or auth.get("mode") == "disabled"
        assert list(secrets) == ([] if named else ["hive-ray-token"])
        others = yaml.safe_dump([obj for obj in rendered if obj["kind"] != "Secret"])
        for data in secrets.values():
            assert data.keys() == {"auth_token"}
            token = base64.b64decode(data["auth_token"]).decode()
            assert re.fullmatch("[A-Za-z0-9]{64}", token)
            assert token not in others
            assert data["auth_token"] not in others


def test_every_volume_has_one_source_and_every_mount_its_volume(manifests: dict[str, list[Json]]) -> None:
    """Kubernetes checks this after its schema. A volume that nobody mounts is one too many."""
    for pod in (pod for rendered in manifests.values() for pod in _pods(rendered)):
        volumes = pod["spec"]["volumes"]
        assert all(len(volume.keys() - {"name"}) == 1 for volume in volumes)
        mounted = set()
        for container in _containers(pod):
            mounts = container["volumeMounts"]
            mounted |= {mount["name"] for mount in mounts}
            assert len({mount["mountPath"] for mount in mounts}) == len(mounts)
        assert mounted == {volume["name"] for volume in volumes}


def test_every_configmap_that_a_pod_names_is_rendered(manifests: dict[str, list[Json]]) -> None:
    """Else the pod waits for it for ever; and none is rendered for nobody."""
    for rendered in manifests.values():
        there = {obj["metadata"]["name"] for obj in rendered if obj["kind"] == "ConfigMap"}
        volumes = [volume for pod in _pods(rendered) for volume in pod["spec"]["volumes"]]
        assert {volume["configMap"]["name"] for volume in volumes if "configMap" in volume} == there


def test_serve_app_finds_all_its_settings(manifests: dict[str, list[Json]], monkeypatch: pytest.MonkeyPatch) -> None:
    """On the head and on every worker."""
    for pod in (pod for rendered in manifests.values() for pod in _ray_pods(rendered)):
        _take_environment(_containers(pod)[0], monkeypatch)
        assert replica_settings.from_environment().agent_socket == Path("/run/hive/agent.sock")


def test_the_agent_finds_all_its_settings(manifests: dict[str, list[Json]], monkeypatch: pytest.MonkeyPatch) -> None:
    """And takes their spelling."""
    pod = find(manifests["full"], "DaemonSet")["spec"]["template"]
    _take_environment(_containers(pod)[0], monkeypatch)
    settings = agent_settings.from_environment()
    assert (settings.kind, settings.port, settings.headroom) == ("nvml", 9410, 1048576 * 2**20)


def test_discovery_finds_all_its_settings(manifests: dict[str, list[Json]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Before Envoy starts and beside it: files where they are mounted, and Ray's head where KubeRay puts it."""
    for name, rendered in manifests.items():
        pod = find(rendered, "Deployment")["spec"]["template"]
        for container in (c for c in _containers(pod) if c["name"] != "envoy"):
            _take_environment(container, monkeypatch)
            settings = gateway_settings.from_environment()
            here = Path(container["workingDir"])
            mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
            assert {str(here / settings.config), str(here / settings.run)} <= mounts.keys()
            assert (settings.keys is not None) == (name not in ("local", "open"))
            assert (settings.token_file is not None) == (name != "open")
            for folder in filter(None, (settings.keys, settings.token_file and settings.token_file.parent)):
                assert mounts[str(folder)]["readOnly"]
            cluster = find(rendered, "RayService")
            head = cluster["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]
            (port,) = [port["containerPort"] for port in _containers(head)[0]["ports"] if port["name"] == "dashboard"]
            services = [obj for obj in rendered if obj["kind"] == "Service"]
            labels = head["metadata"]["labels"] | {"ray.io/node-type": "head"}
            of_head = [obj for obj in services if obj["spec"]["selector"].items() <= labels.items()]
            kuberays = [f"{cluster['metadata']['name']}-head-svc"]  # where two clusters may be, the chart makes none
            (service,) = [obj["metadata"]["name"] for obj in of_head] or kuberays
            assert settings.dashboard == f"http://{service}:{port}"


@pytest.mark.parametrize(
    "edit",
    [
        {"auth": {"mode": "disabled"}},
        {"auth": {"existingSecret": "another"}},
        {"gcsFaultTolerance": {"redisAddress": "redis:6379"}},
    ],
)
def test_options_of_the_whole_cluster_are_in_the_digest_of_the_head(edit: Json) -> None:
    """No pod template shows them, KubeRay brings them to no cluster that runs, and nobody would be told."""
    before, after = (_digest_of_head(ray) for ray in ({}, edit))
    assert before != after


def _digest_of_head(ray: Json) -> str:
    cluster = ray_service({"ray": ray})["rayClusterConfig"]
    return str(cluster["headGroupSpec"]["template"]["metadata"]["annotations"]["hive/template"])


def _take_environment(container: Json, monkeypatch: pytest.MonkeyPatch) -> None:
    """The container's, and nothing that was there before."""
    for name in [name for name in os.environ if name.startswith("HIVE_")]:
        monkeypatch.delenv(name)
    for entry in container["env"]:
        monkeypatch.setenv(entry["name"], entry.get("value", "from-the-field"))


def _containers(pod: Json) -> list[Json]:
    spec: Json = pod["spec"]
    return [*spec.get("initContainers", []), *spec["containers"]]


def _pods(rendered: list[Json]) -> list[Json]:
    """Of every kind of object that makes some."""
    templates = [find(rendered, kind)["spec"]["template"] for kind in ("DaemonSet", "Deployment", "Job")]
    return [*_ray_pods(rendered), *templates, find(rendered, "Pod")]


def _native(rendered: list[Json]) -> list[Json]:
    """What Kubernetes itself knows, with the Ray pods in place of the RayService."""
    return [obj for obj in rendered if obj["kind"] not in ("RayService", "HTTPRoute")] + _ray_pods(rendered)


def _ray_pods(rendered: list[Json]) -> list[Json]:
    cluster = find(rendered, "RayService")["spec"]["rayClusterConfig"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [{"apiVersion": "v1", "kind": "Pod"} | group["template"] for group in groups]


def _nulls(node: object, path: str) -> Iterable[str]:
    if node is None:
        yield path
    elif isinstance(node, dict):
        for key, value in node.items():
            yield from _nulls(value, f"{path}.{key}")
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _nulls(value, f"{path}[{index}]")
