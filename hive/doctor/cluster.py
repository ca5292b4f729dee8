"""A cluster, read through the Kubernetes API, and which check gets what of it."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from hive import rendering
from hive.cluster.kubernetes import Kubernetes, Refused
from hive.cluster.objects import nodes_by_address
from hive.cluster.target import ClusterHive
from hive.doctor import deep, gpus, pods, prerequisites, release
from hive.doctor.finding import Finding, ForbiddenError, Group, checked, failed, ok
from hive.errors import HiveError
from hive.rendering import Loader
from release.changes import running

Json = dict[str, Any]
HOOK = "helm.sh/hook"
SELECTOR = {"nvidia.com/gpu.present": "true"}  # of the agent, where no release says otherwise


class Reader:
    """Objects of one cluster, each kind read once.

    Raises:
        HiveError: from each call, when the API does not answer.
        ForbiddenError: or does not let this user look.
    """

    def __init__(self, kubernetes: Kubernetes) -> None:
        self.kubernetes = kubernetes
        self._read: dict[tuple[str, bool], list[Json]] = {}

    def everywhere(self, kind: str) -> list[Json]:
        """Objects of a kind, of all namespaces or of none."""
        return self._all(kind, everywhere=True)

    def here(self, kind: str) -> list[Json]:
        """Objects of a kind, in the release's namespace."""
        return self._all(kind, everywhere=False)

    def _all(self, kind: str, *, everywhere: bool) -> list[Json]:
        key = kind, everywhere
        if key not in self._read:
            try:
                self._read[key] = self.kubernetes.all(kind, everywhere=everywhere)
            except Refused as error:
                _forbidden(error, "list", kind)
                raise
        return self._read[key]

    def secrets(self, names: Iterable[str]) -> dict[str, list[str]]:
        """Names, never values, of the entries of these Secrets; those that are not there are left out."""
        found = {}
        for name in names:
            try:
                found[name] = sorted(self.kubernetes.entries(name))
            except Refused as error:
                _forbidden(error, "get", "secrets")
                if error.status != 404:
                    raise
        return found


@dataclass(frozen=True)
class Installed:
    """A release, as Helm has it."""

    name: str
    objects: Sequence[Json]

    @classmethod
    def of(cls, info: Json) -> "Installed":
        """From Helm's summary."""
        return cls(info["name"], [one for one in yaml.load_all(info["manifest"], Loader) if one])

    @property
    def ray_service(self) -> Json:
        return next(one for one in self.objects if one["kind"] == "RayService")

    @property
    def pod_specs(self) -> list[Json]:
        """Of all that runs for long."""
        cluster = self.ray_service["spec"]["rayClusterConfig"]
        groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
        kinds = ("DaemonSet", "Deployment")
        others = [one["spec"]["template"]["spec"] for one in self.objects if one["kind"] in kinds]
        return [group["template"]["spec"] for group in groups] + others

    @property
    def runtime_classes(self) -> set[str]:
        return {name for spec in self.pod_specs if (name := spec.get("runtimeClassName"))}

    @property
    def gpu_resources(self) -> set[str]:
        """What worker pods ask for: the limits with a domain, like nvidia.com/gpu."""
        limits = [c.get("resources", {}).get("limits", {}) for spec in self.pod_specs for c in spec["containers"]]
        return {name for limit in limits for name in limit if "/" in name}

    @property
    def agent_selector(self) -> Mapping[str, str]:
        agent = next(one for one in self.objects if one["kind"] == "DaemonSet")
        selector: Mapping[str, str] = agent["spec"]["template"]["spec"].get("nodeSelector", {})
        return selector

    @property
    def models(self) -> list[str]:
        return [app["name"] for app in release.config(self.ray_service)["applications"]]


def groups(hive: ClusterHive, *, tries: bool) -> Iterator[Group]:
    """Each group as soon as it is known.

    Args:
        hive: the release, which need not be there.
        tries: `--deep`.
    """
    reader, namespace = Reader(hive.kubernetes), hive.release.namespace
    installed: Installed | None = None

    def helm() -> Iterator[Finding]:
        nonlocal installed
        info = hive.release.latest()
        if info is None:
            yield ok(f"no {hive.name} yet, so only what it needs was checked")
        else:
            installed = Installed.of(info)
            yield from release.status(info)

    try:
        version = hive.kubernetes.version()
    except HiveError as error:  # nothing else can be asked
        yield Group(name="Kubernetes", findings=[failed(error.what, error.fix)])
        return
    yield checked(
        "Kubernetes",
        lambda: prerequisites.kubernetes(version, rendering.load_chart().metadata["kubeVersion"]),
        lambda: prerequisites.admission(namespace, _named(reader.everywhere("namespaces"), namespace)),
    )
    yield checked("Helm", helm)
    yield from _prerequisites(reader, namespace, installed)
    if installed:
        yield from _release(reader, installed, hive, tries=tries)


def _prerequisites(reader: Reader, namespace: str, installed: Installed | None) -> Iterator[Group]:
    """What must be there before an install, and after it."""

    def operators() -> Iterator[Finding]:
        service = None
        if installed:
            with contextlib.suppress(HiveError):  # said by the check of the CRDs
                service = _named(reader.here("rayservices.ray.io"), installed.ray_service["metadata"]["name"])
        yield from prerequisites.operators(reader.everywhere("deployments.apps"), namespace, service)

    yield checked("KubeRay", lambda: prerequisites.crds(reader.everywhere("customresourcedefinitions")), operators)
    resources = installed.gpu_resources if installed else {gpus.NVIDIA}
    selector = installed.agent_selector if installed else SELECTOR
    classes = installed.runtime_classes if installed else set()
    yield checked(
        "GPUs",
        lambda: gpus.plugin(reader.everywhere("nodes"), reader.everywhere("daemonsets"), resources),
        lambda: gpus.reach(reader.everywhere("nodes"), selector, resources),
        lambda: gpus.runtime_classes(classes, reader.everywhere("runtimeclasses")) if classes else [],
    )


def _release(reader: Reader, installed: Installed, hive: ClusterHive, *, tries: bool) -> Iterator[Group]:
    """What a release needs beside that, and how it is."""
    asked = installed.ray_service

    def own() -> list[Json]:
        return [pod for pod in reader.here("pods") if _belongs(pod, installed.name)]

    def drift() -> Iterator[Finding]:
        it = _named(reader.here("rayservices.ray.io"), asked["metadata"]["name"])
        active = running(it) if it else None
        cluster = _named(reader.here("rayclusters.ray.io"), active) if active else None
        pods_of_it = [pod for pod in own() if pod["metadata"]["labels"].get("ray.io/cluster") == active]
        yield from release.drift(it, asked, cluster, pods_of_it)
        yield from release.conditions(it) if it else []

    def agents() -> list[Json]:
        return [pod for pod in own() if pod["metadata"]["labels"].get("app.kubernetes.io/component") == "agent"]

    def applied() -> Iterator[Finding]:
        yield from release.applied(release.config(asked), hive.deployed())

    def secrets() -> Iterator[Finding]:
        wanted = release.secrets(installed.objects)
        there = reader.secrets({one.name for one in wanted})
        yield from release.secrets_there(wanted, there, hive.release.namespace)

    yield checked("Release", secrets, drift)
    yield checked("Pods", lambda: pods.running(own()), lambda: pods.refused(_refusals(reader)))
    yield checked(
        "VRAM agents",
        lambda: gpus.agents(reader.everywhere("nodes"), installed.agent_selector, agents()),
        lambda: gpus.seen(reader.everywhere("nodes"), hive.states(), installed.gpu_resources),
        lambda: gpus.devices(hive.states()),
    )
    yield checked("Models", applied, lambda: release.models(hive.applications(), installed.models))
    if tries:
        version = asked["spec"]["rayClusterConfig"]["rayVersion"]
        yield from deep.groups(hive, lambda: version, lambda _: nodes_by_address(own()))


def _named(objects: Sequence[Json], name: str) -> Json | None:
    return next((one for one in objects if one["metadata"]["name"] == name), None)


def _belongs(pod: Json, name: str) -> bool:
    """To this release, and no pod of a hook, which ends by itself."""
    meta = pod["metadata"]
    return meta.get("labels", {}).get("app.kubernetes.io/instance") == name and HOOK not in meta.get("annotations", {})


def _forbidden(error: Refused, verb: str, kind: str) -> None:
    """Told from what went wrong otherwise."""
    if error.status in (401, 403):
        fix = f"kubectl auth can-i {verb} {kind}; let somebody with that right run hive doctor"
        raise ForbiddenError(f"this user may not {verb} {kind}", fix) from error


def _refusals(reader: Reader) -> list[Json]:
    return [one for one in reader.here("events") if one.get("reason") == "FailedCreate"]
