"""A cluster, read through the Kubernetes API, and which check gets what of it."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import kr8s

from hive.doctor import gpus, pods, prerequisites, release
from hive.doctor.finding import ForbiddenError, Group, checked, failed
from hive.errors import HiveError
from hive.serve_api import Application
from release.changes import running
from vram_agent.api import State

Json = dict[str, Any]
HOOK = "helm.sh/hook"
SELECTOR = {"nvidia.com/gpu.present": "true"}  # of the agent, where no release says otherwise


class Reader:
    """Objects of one cluster, each kind read once.

    Raises:
        HiveError: from each call, when the API does not answer.
        ForbiddenError: or does not let this user look.
    """

    def __init__(self, api: kr8s.Api) -> None:
        self._api = api
        self._read: dict[tuple[str, str | None, str | None], list[Json]] = {}

    def version(self) -> str:
        with _told("its version"):
            return str(self._api.version()["gitVersion"])

    def all(self, kind: str, namespace: str | None = None, labels: str | None = None) -> list[Json]:
        """Objects of a kind, in all namespaces or in one."""
        key = (kind, namespace, labels)
        if key not in self._read:
            with _told(kind):
                found = self._api.get(kind, namespace=namespace or kr8s.ALL, label_selector=labels, raw=True)
                self._read[key] = [dict(one) for one in found]
        return self._read[key]

    def named(self, kind: str, name: str, namespace: str | None = None) -> Json | None:
        """One object; None: there is none."""
        return next((one for one in self.all(kind, namespace) if one["metadata"]["name"] == name), None)


@dataclass(frozen=True)
class Installed:
    """A release, as Helm has it."""

    info: Json  # name, version, status
    objects: Sequence[Json]

    def first(self, kind: str) -> Json:
        return next(one for one in self.objects if one["kind"] == kind)

    @property
    def pod_specs(self) -> list[Json]:
        """Of all that runs for long."""
        cluster = self.first("RayService")["spec"]["rayClusterConfig"]
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
        selector: Mapping[str, str] = self.first("DaemonSet")["spec"]["template"]["spec"].get("nodeSelector", {})
        return selector

    @property
    def models(self) -> list[str]:
        return [app["name"] for app in release.config(self.first("RayService"))["applications"]]


def prerequisite_groups(
    reader: Reader, kube_version: str, namespace: str, installed: Installed | None
) -> Iterator[Group]:
    """What must be there before an install, and after it.

    Args:
        kube_version: what the chart asks of Kubernetes.
    """
    service = None
    if installed:
        name = installed.first("RayService")["metadata"]["name"]
        with contextlib.suppress(HiveError):  # said by the check of the CRDs
            service = reader.named("rayservices.ray.io", name, namespace)
    yield checked(
        "Kubernetes",
        lambda: prerequisites.kubernetes(reader.version(), kube_version),
        lambda: prerequisites.admission(namespace, reader.named("namespaces", namespace)),
    )
    yield checked(
        "KubeRay",
        lambda: prerequisites.crds(reader.all("customresourcedefinitions")),
        lambda: prerequisites.operators(reader.all("deployments"), namespace, service),
    )
    resources = installed.gpu_resources if installed else {gpus.NVIDIA}
    selector = installed.agent_selector if installed else SELECTOR
    classes = installed.runtime_classes if installed else set()
    yield checked(
        "GPUs",
        lambda: gpus.plugin(reader.all("nodes"), reader.all("daemonsets"), resources),
        lambda: gpus.reach(reader.all("nodes"), selector, resources),
        lambda: gpus.runtime_classes(classes, reader.all("runtimeclasses")) if classes else [],
    )


def release_groups(
    reader: Reader,
    namespace: str,
    installed: Installed,
    states: Callable[[], tuple[Mapping[str, State], Mapping[str, str]]],
    applications: Callable[[], Sequence[Application]],
) -> Iterator[Group]:
    """What a release needs beside that, and how it is.

    Args:
        states: what the VRAM agents say by node, and why the others are silent.
        applications: what Ray Serve says.
    """
    name = installed.info["name"]
    asked = installed.first("RayService")
    service = reader.named("rayservices.ray.io", asked["metadata"]["name"], namespace)
    active = running(service) if service else None
    own = [
        pod
        for pod in reader.all("pods", namespace, f"app.kubernetes.io/instance={name}")
        if HOOK not in pod["metadata"].get("annotations", {})
    ]
    yield checked(
        "Release",
        lambda: release.status(installed.info),
        lambda: release.secrets_there(release.secrets(installed.objects), _entries(reader, namespace), namespace),
        lambda: release.drift(
            service,
            asked,
            reader.named("rayclusters.ray.io", active, namespace) if active else None,
            [pod for pod in own if pod["metadata"]["labels"].get("ray.io/cluster") == active],
        ),
        lambda: release.conditions(service) if service else [],
    )
    yield checked(
        "Pods",
        lambda: pods.running(own),
        lambda: pods.refused(_refusals(reader, namespace)),
    )
    agents = [pod for pod in own if pod["metadata"]["labels"].get("app.kubernetes.io/component") == "agent"]
    said: Mapping[str, State]
    try:
        said, silent = states()
    except HiveError as error:
        yield Group(name="VRAM agents", findings=[failed(error.what, error.fix)])
    else:
        yield checked(
            "VRAM agents",
            lambda: gpus.agents(reader.all("nodes"), installed.agent_selector, agents, silent),
            lambda: gpus.seen(reader.all("nodes"), said, installed.gpu_resources),
            lambda: gpus.devices(said),
        )
    yield checked("Models", lambda: release.models(applications(), installed.models))


def _entries(reader: Reader, namespace: str) -> dict[str, list[str]]:
    """Names, never values, of what each Secret holds."""
    return {one["metadata"]["name"]: sorted(one.get("data") or {}) for one in reader.all("secrets", namespace)}


def _refusals(reader: Reader, namespace: str) -> list[Json]:
    return [one for one in reader.all("events", namespace) if one.get("reason") == "FailedCreate"]


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    """The API's errors in our words."""
    try:
        yield
    except kr8s.ServerError as error:
        if error.response is not None and error.response.status_code in (401, 403):
            raise ForbiddenError(
                f"this user may not list {what}: {error}",
                f"kubectl auth can-i list {what}; let somebody with that right run hive doctor",
            ) from error
        raise HiveError(f"Kubernetes does not tell {what}: {error}", "see the message") from error
    except (httpx.HTTPError, kr8s.APITimeoutError, ConnectionError, OSError) as error:
        raise HiveError(f"Kubernetes does not answer: {error!r}", "kubectl cluster-info; see KUBECONFIG") from error
