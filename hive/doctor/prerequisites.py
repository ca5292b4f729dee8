"""What a cluster needs before anything of Hive can run there. Objects as the API server has them, findings out."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from hive.doctor.finding import Finding, failed, ok, warning
from release.changes import running

Json = dict[str, Any]
CRDS = ("rayservices.ray.io", "rayclusters.ray.io")
CRD_VERSION = "v1"  # what the chart writes
KUBERAY = (1, 7)
OPERATOR = "kuberay-operator"
UPGRADE_KUBERAY = (
    "helm upgrade kuberay-operator kuberay/kuberay-operator --version 1.7.0; and its CRDs by kubectl apply"
)
ENFORCE = "pod-security.kubernetes.io/enforce"


def kubernetes(version: str, wanted: str) -> Iterator[Finding]:
    """Its version, like v1.34.4, against the chart's kubeVersion, like >=1.28.0-0."""
    least = numbers(wanted)
    if numbers(version) < least:
        yield failed(
            f"Kubernetes {version} answers; the chart needs {wanted}",
            f"upgrade the cluster to {'.'.join(map(str, least))} or later",
        )
    else:
        yield ok(f"Kubernetes {version} answers")


def crds(found: Sequence[Json]) -> Iterator[Finding]:
    """KubeRay's custom resources are there and have the version that the chart writes."""
    by_name = {crd["metadata"]["name"]: crd for crd in found}
    for name in CRDS:
        served = [one["name"] for one in by_name[name]["spec"]["versions"] if one["served"]] if name in by_name else []
        if name not in by_name:
            yield failed(f"there is no CRD {name}", "helm install kuberay-operator kuberay/kuberay-operator")
        elif CRD_VERSION not in served:
            yield failed(f"CRD {name} serves {', '.join(served)}; the chart writes {CRD_VERSION}", UPGRADE_KUBERAY)
        else:
            yield ok(f"CRD {name} serves {CRD_VERSION}")


def operators(deployments: Sequence[Json], namespace: str, service: Json | None) -> Iterator[Finding]:
    """One KubeRay operator looks after the namespace, and it is new enough.

    Args:
        deployments: of all namespaces.
        service: the release's RayService, if there is one: its status tells of an operator that runs elsewhere.
    """
    all_of_them = [one for one in deployments if _is_operator(one)]
    ours = [one for one in all_of_them if _watches(one, namespace)]
    if not ours and service and running(service):
        yield warning(
            "no Deployment of KubeRay's operator is here, yet one looks after the RayService; its version is not known",
            "see to it that it is 1.7 or later",
        )
        return
    if not ours and all_of_them:
        names = ", ".join(map(_name, all_of_them))
        yield failed(
            f"KubeRay's operator ({names}) does not watch namespace {namespace}",
            f"add {namespace} to its watchNamespace, or install Hive where it watches",
        )
        return
    if not ours:
        yield failed(
            "KubeRay's operator is not here",
            "helm install kuberay-operator kuberay/kuberay-operator --version 1.7.0",
        )
        return
    if len(ours) > 1:
        yield failed(
            f"{len(ours)} operators of KubeRay watch namespace {namespace}: {', '.join(map(_name, ours))}; "
            "each undoes what the other does",
            "uninstall all but one, or give each its own watchNamespace",
        )
    for one in ours:
        yield from _operator(one)


def admission(namespace: str, found: Json | None) -> Iterator[Finding]:
    """The namespace lets in pods with hostPath and hostPID, as the VRAM agent's are.

    Args:
        found: the namespace; None where it is not there yet.
    """
    level = (found or {"metadata": {}})["metadata"].get("labels", {}).get(ENFORCE)
    if level in ("baseline", "restricted"):
        yield failed(
            f"namespace {namespace} enforces Pod Security {level!r}, which refuses the VRAM agent (hostPath, hostPID)",
            f"kubectl label namespace {namespace} {ENFORCE}=privileged --overwrite",
        )
    else:
        said = f"enforces {level!r}" if level else "enforces no Pod Security level"
        yield ok(f"namespace {namespace} {said if found else 'is not there yet'}")


def numbers(version: str) -> tuple[int, ...]:
    """1.34.4 of v1.34.4+k3s1 or >=1.34.4-0; empty where there are none."""
    found = re.search(r"\d+(\.\d+)+", version)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def _operator(deployment: Json) -> Iterator[Finding]:
    name, images = _name(deployment), _images(deployment)
    label = deployment["metadata"].get("labels", {}).get("app.kubernetes.io/version", "")
    version = next(
        (found for text in (*(image.rpartition(":")[2] for image in images), label) if (found := numbers(text))), ()
    )
    told = ".".join(map(str, version))
    if not deployment.get("status", {}).get("readyReplicas"):
        yield failed(f"KubeRay's operator {name} is not ready", _look(deployment))
    if not version:
        yield warning(
            f"the version of KubeRay's operator {name} can't be told from {', '.join(images)}", UPGRADE_KUBERAY
        )
    elif version < KUBERAY:
        yield failed(f"KubeRay's operator {name} is {told}; Hive needs 1.7 or later", UPGRADE_KUBERAY)
    else:
        yield ok(f"KubeRay's operator {name} is {told}")


def _is_operator(deployment: Json) -> bool:
    labels = deployment["spec"]["template"]["metadata"].get("labels", {})
    by_image = any("kuberay/operator" in image or OPERATOR in image for image in _images(deployment))
    scaled_down = deployment["spec"].get("replicas") == 0
    return not scaled_down and (by_image or labels.get("app.kubernetes.io/component") == OPERATOR)


def _watches(deployment: Json, namespace: str) -> bool:
    """An operator watches all namespaces, or those of its flag."""
    for container in deployment["spec"]["template"]["spec"]["containers"]:
        said = " ".join([*container.get("command", []), *container.get("args", [])])
        if found := re.search(r"-watch-namespace[= ](\S+)", said):
            return namespace in found[1].split(",")
    return True


def _images(deployment: Json) -> list[str]:
    return [container["image"] for container in deployment["spec"]["template"]["spec"]["containers"]]


def _name(deployment: Json) -> str:
    return f"{deployment['metadata']['namespace']}/{deployment['metadata']['name']}"


def _look(deployment: Json) -> str:
    meta = deployment["metadata"]
    return f"kubectl -n {meta['namespace']} describe deployment {meta['name']}"
