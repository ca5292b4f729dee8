"""What Kubernetes' objects and a release's values say, for people. Functions of data."""

from collections.abc import Sequence
from typing import Any

Json = dict[str, Any]
USUAL = ("ContainerCreating", "PodInitializing")


def waiting(pods: Sequence[Json]) -> list[str]:
    """Why pods do not run, as Kubernetes says it, a line each; a pod that is only being made is no news."""
    said = []
    for pod in pods:
        status, name = pod.get("status", {}), pod["metadata"]["name"]
        for condition in status.get("conditions", []):
            if condition["type"] == "PodScheduled" and condition["status"] == "False":
                said.append(f"{name} waits for a node: {condition.get('message', '')}")
        for one in [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]:
            stuck, last = one.get("state", {}).get("waiting"), one.get("lastState", {}).get("terminated", {})
            if stuck and stuck.get("reason") not in USUAL:
                message = last.get("message") or (stuck.get("message") if not last else "") or last.get("reason", "")
                said.append(f"{name}, {one['name']}: {stuck.get('reason')} {message}".strip())
    return said


def nodes_by_address(pods: Sequence[Json]) -> dict[str, str]:
    """The node of each pod that has an IP, by that."""
    return {ip: pod["spec"].get("nodeName", "") for pod in pods if (ip := pod["status"].get("podIP"))}


def outside(services: Sequence[Json], ingresses: Sequence[Json]) -> list[str]:
    """Addresses of the gateway: of its Service in the cluster, of a load balancer, of an Ingress."""
    found = []
    for service in services:
        number = service["spec"]["ports"][0]["port"]
        port = "" if number == 80 else f":{number}"
        given = service.get("status", {}).get("loadBalancer", {}).get("ingress", [])
        hosts = [f"{service['metadata']['name']}.{service['metadata']['namespace']}"]
        hosts += [one.get("hostname") or one["ip"] for one in given]
        found += [f"http://{host}{port}" for host in hosts]
    for ingress in ingresses:
        scheme = "https" if ingress["spec"].get("tls") else "http"
        found += [f"{scheme}://{rule['host']}" for rule in ingress["spec"]["rules"]]
    return found


def different(one: Json, other: Json, at: str = "") -> list[str]:
    """Paths of the keys in which two sets of values differ."""
    found = []
    for key in sorted(one.keys() | other.keys()):
        mine, theirs = one.get(key), other.get(key)
        if isinstance(mine, dict) and isinstance(theirs, dict):
            found += different(mine, theirs, f"{at}{key}.")
        elif mine != theirs:
            found.append(f"{at}{key}")
    return found
