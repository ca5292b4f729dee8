"""What an upgrade asks for and KubeRay does not do to a cluster that runs. Functions of data.

KubeRay takes worker counts from a RayService only when it makes a cluster (kuberay#4568), new groups only behind those
that there are and while nothing else was edited, and under `upgradeStrategy: None` it never touches pods whose template
was edited.
"""

from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]
COUNTS = ("replicas", "minReplicas", "maxReplicas")
TEMPLATE = "hive/template"  # annotation: digest of the template that a pod was made from


def running(service: Json) -> str | None:
    """Name of the RayCluster that runs; a first one is pending until its first model serves. None: there is none."""
    status = service.get("status", {})
    names = (status.get(key, {}).get("rayClusterName") for key in ("activeServiceStatus", "pendingServiceStatus"))
    return next((name for name in names if name), None)


def worker_groups(cluster: Json, service: Json) -> list[Json]:
    """JSON patch that gives the RayCluster the RayService's worker groups and their counts; empty: it has them.

    A group that is not asked for any more stays in the list, without workers: KubeRay ends no pod of a group that it
    does not find there. Each step names the group that it means, or the whole list, so that a list that changed
    meanwhile makes the patch fail and not hit another.
    """
    has: list[Json] = cluster["spec"]["workerGroupSpecs"]
    wanted = {group["groupName"]: group for group in service["spec"]["rayClusterConfig"]["workerGroupSpecs"]}
    # Under an autoscaler `replicas` is its own, as long as it lies between the bounds. One that is only asked for
    # comes with the next cluster; until then no worker may go because the bounds have a lower end.
    flexible = autoscaled(cluster["spec"]) or autoscaled(service["spec"]["rayClusterConfig"])
    patch: list[Json] = []
    for number, group in enumerate(has):
        name, at = group["groupName"], f"/spec/workerGroupSpecs/{number}"
        asked = wanted.get(name)
        counts = {key: asked[key] if asked else 0 for key in COUNTS}
        if asked and flexible:
            counts["replicas"] = min(max(group["replicas"], asked["minReplicas"]), asked["maxReplicas"])
        steps = [
            {"op": "replace", "path": f"{at}/{key}", "value": value}
            for key, value in counts.items()
            if group.get(key) != value
        ]
        if steps:
            patch += [{"op": "test", "path": f"{at}/groupName", "value": name}, *steps]
    names = {group["groupName"] for group in has}
    new = [group for name, group in wanted.items() if name not in names]
    if new:
        unchanged = {"op": "test", "path": "/spec/workerGroupSpecs", "value": has}
        patch = [unchanged, *patch, *({"op": "add", "path": "/spec/workerGroupSpecs/-", "value": one} for one in new)]
    return patch


def told(patch: list[Json]) -> str:
    """What a patch of worker groups does, for people."""
    steps = []
    for step in patch:
        if step["op"] == "test" and step["path"].endswith("/groupName"):
            name = step["value"]
        elif step["op"] == "replace":
            steps.append(f"{name}.{step['path'].rpartition('/')[2]}: {step['value']}")
        elif step["op"] == "add":
            steps.append(f"{step['value']['groupName']} is new, replicas: {step['value']['replicas']}")
    return ", ".join(steps)


def autoscaled(cluster: Json) -> bool:
    """Whether this RayCluster's spec has Ray's autoscaler."""
    return bool(cluster.get("enableInTreeAutoscaling"))


def templates(service: Json) -> dict[str, str]:
    """Digest of each pod template that is asked for, by group; the head's is called headgroup, as KubeRay has it."""
    config = service["spec"]["rayClusterConfig"]
    specs = {"headgroup": config["headGroupSpec"]} | {spec["groupName"]: spec for spec in config["workerGroupSpecs"]}
    return {name: spec["template"]["metadata"]["annotations"][TEMPLATE] for name, spec in specs.items()}


def outdated(pods: list[Json], wanted: Mapping[str, str]) -> dict[str, list[str]]:
    """Names of pods that were made from another template than the one of their group now, by group."""
    found: dict[str, list[str]] = {}
    for pod in pods:
        meta = pod["metadata"]
        group = meta["labels"]["ray.io/group"]
        if meta.get("annotations", {}).get(TEMPLATE) != wanted.get(group):
            found.setdefault(group, []).append(meta["name"])
    return found


def listed(pods: Mapping[str, list[str]]) -> str:
    """Names of the pods of all groups, for people."""
    return ", ".join(sorted(name for group in pods.values() for name in group))
