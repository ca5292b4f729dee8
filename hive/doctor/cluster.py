"""A cluster, read through the Kubernetes API, and which check gets what of it."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import helm_python
import httpx
import kr8s
import yaml

from hive import rendering
from hive.doctor import deep, gpus, pods, prerequisites, release
from hive.doctor.finding import Finding, ForbiddenError, Group, checked, failed, ok
from hive.errors import HiveError
from hive.rendering import Loader
from hive.serve_api import ServeApi, deployed_config
from hive.target import Target, target
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

    def __init__(self, api: kr8s.Api) -> None:
        self._api = api
        self._read: dict[tuple[str, str | None, str | None], list[Json]] = {}

    @property
    def namespace(self) -> str:
        """The kubeconfig's."""
        return str(self._api.namespace)

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


def open_reader(context: str | None) -> Reader:
    """Of the kubeconfig's cluster.

    Raises:
        HiveError: there is no such context, or no kubeconfig.
    """
    try:
        return Reader(kr8s.api(context=context))
    except (ValueError, OSError) as error:
        raise HiveError(
            f"no cluster can be asked: {error}", "see KUBECONFIG, and kubectl config get-contexts"
        ) from error


def find_installed(name: str, namespace: str, context: str | None) -> Installed | None:
    """The last revision of a release; None: there is none.

    Raises:
        HiveError: Helm can't tell.
    """
    try:
        with helm_python.Config(kube_context=context, namespace=namespace) as helm:
            info = helm.status(name)
    except helm_python.HelmNotFoundError:
        return None
    except helm_python.HelmError as error:
        raise HiveError(f"Helm can't tell of release {name}: {error}", "helm status " + name) from error
    return Installed(info, [one for one in yaml.load_all(info["manifest"], Loader) if one])


def groups(reader: Reader, name: str, namespace: str, context: str | None, *, tries: bool) -> Iterator[Group]:
    """Each group as soon as it is known.

    Args:
        name: of the release, which need not be there.
        tries: `--deep`.
    """
    installed: Installed | None = None

    def helm() -> Iterator[Finding]:
        nonlocal installed
        installed = find_installed(name, namespace, context)
        if installed is None:
            yield ok(f"no release {name} in namespace {namespace} yet, so only what it needs was checked")
        else:
            yield from release.status(installed.info)

    try:
        version = reader.version()
    except HiveError as error:  # nothing else can be asked
        yield Group(name="Kubernetes", findings=[failed(error.what, error.fix)])
        return
    yield checked(
        "Kubernetes",
        lambda: prerequisites.kubernetes(version, rendering.load_chart().metadata["kubeVersion"]),
        lambda: prerequisites.admission(namespace, reader.named("namespaces", namespace)),
    )
    yield checked("Helm", helm)
    yield from _prerequisites(reader, namespace, installed)
    if installed:
        yield from _release(reader, namespace, installed, target(name, namespace, context), tries=tries)


def _prerequisites(reader: Reader, namespace: str, installed: Installed | None) -> Iterator[Group]:
    """What must be there before an install, and after it."""

    def operators() -> Iterator[Finding]:
        service = None
        if installed:
            with contextlib.suppress(HiveError):  # said by the check of the CRDs
                service = reader.named("rayservices.ray.io", installed.ray_service["metadata"]["name"], namespace)
        yield from prerequisites.operators(reader.all("deployments"), namespace, service)

    yield checked("KubeRay", lambda: prerequisites.crds(reader.all("customresourcedefinitions")), operators)
    resources = installed.gpu_resources if installed else {gpus.NVIDIA}
    selector = installed.agent_selector if installed else SELECTOR
    classes = installed.runtime_classes if installed else set()
    yield checked(
        "GPUs",
        lambda: gpus.plugin(reader.all("nodes"), reader.all("daemonsets"), resources),
        lambda: gpus.reach(reader.all("nodes"), selector, resources),
        lambda: gpus.runtime_classes(classes, reader.all("runtimeclasses")) if classes else [],
    )


def _release(reader: Reader, namespace: str, installed: Installed, hive: Target, *, tries: bool) -> Iterator[Group]:
    """What a release needs beside that, and how it is."""
    asked = installed.ray_service

    def service() -> Json | None:
        return reader.named("rayservices.ray.io", asked["metadata"]["name"], namespace)

    def own() -> list[Json]:
        labels = f"app.kubernetes.io/instance={installed.info['name']}"
        return [
            pod for pod in reader.all("pods", namespace, labels) if HOOK not in pod["metadata"].get("annotations", {})
        ]

    def drift() -> Iterator[Finding]:
        it = service()
        active = running(it) if it else None
        cluster = reader.named("rayclusters.ray.io", active, namespace) if active else None
        pods_of_it = [pod for pod in own() if pod["metadata"]["labels"].get("ray.io/cluster") == active]
        yield from release.drift(it, asked, cluster, pods_of_it)
        yield from release.conditions(it) if it else []

    def agents() -> list[Json]:
        return [pod for pod in own() if pod["metadata"]["labels"].get("app.kubernetes.io/component") == "agent"]

    def applied() -> Iterator[Finding]:
        api = ServeApi(*hive.dashboard())
        yield from release.applied(release.config(asked), deployed_config(api.details()))

    yield checked(
        "Release",
        lambda: release.secrets_there(release.secrets(installed.objects), _entries(reader, namespace), namespace),
        drift,
    )
    yield checked("Pods", lambda: pods.running(own()), lambda: pods.refused(_refusals(reader, namespace)))
    yield checked(
        "VRAM agents",
        lambda: gpus.agents(reader.all("nodes"), installed.agent_selector, agents()),
        lambda: gpus.seen(reader.all("nodes"), hive.states(), installed.gpu_resources),
        lambda: gpus.devices(hive.states()),
    )
    yield checked("Models", applied, lambda: release.models(hive.applications(), installed.models))
    if tries:

        def hosts(_: Sequence[Json]) -> dict[str, str]:
            return {pod["status"].get("podIP", ""): pod["spec"].get("nodeName", "") for pod in own()}

        version = asked["spec"]["rayClusterConfig"]["rayVersion"]
        yield from deep.groups(hive, lambda: version, hosts)


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
