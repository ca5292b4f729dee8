"""GPUs as Kubernetes shows them, as the VRAM agents see them, and what is leased of them."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from hive.doctor.finding import Finding, failed, ok, warning
from vram_agent.api import State, human
from vram_agent.views import alarms

Json = dict[str, Any]
NVIDIA = "nvidia.com/gpu"
INSTALL_PLUGIN = "install NVIDIA's device plugin or GPU operator: helm install gpu-operator nvidia/gpu-operator"


def plugin(nodes: Sequence[Json], daemonsets: Sequence[Json], resources: Collection[str]) -> Iterator[Finding]:
    """Nodes offer the resources that worker groups ask for, each GPU of theirs once."""
    if not resources:
        yield ok("no worker group asks for a GPU resource, so no device plugin is needed")
        return
    plugins = [one for one in daemonsets if _is_plugin(one)]
    for one in plugins:
        status, meta = one.get("status", {}), one["metadata"]
        ready, wanted = status.get("numberReady", 0), status.get("desiredNumberScheduled", 0)
        said = f"device plugin {meta['namespace']}/{meta['name']} is ready on {ready} of {wanted} nodes"
        if ready < wanted:
            yield failed(said, f"kubectl -n {meta['namespace']} describe daemonset {meta['name']}")
        else:
            yield ok(said)
    names = ", ".join(sorted(resources))
    having = {node["metadata"]["name"]: offered(node, resources) for node in nodes if offered(node, resources)}
    if not having:
        known = any("nvidia" in key for node in nodes for key in node["metadata"].get("labels", {}))
        fix = "see the plugin's log, and the driver on the node: nvidia-smi" if plugins or known else INSTALL_PLUGIN
        yield failed(f"no node offers {names}", fix)
        return
    yield ok(f"{names}: {sum(having.values())} on {len(having)} nodes ({_listed(having)})")
    for node in nodes:
        yield from _shared(node)


def reach(nodes: Sequence[Json], selector: Mapping[str, str], resources: Collection[str]) -> Iterator[Finding]:
    """The agent's nodeSelector takes in every node with GPUs."""
    left_out = [node["metadata"]["name"] for node in nodes if offered(node, resources) and not selected(node, selector)]
    said = ",".join(f"{key}={value}" for key, value in selector.items())
    if left_out:
        yield failed(
            f"no VRAM agent runs on these nodes with GPUs, for want of the label {said}: {', '.join(left_out)}",
            f"kubectl label node {' '.join(left_out)} {said}; GPU feature discovery does it by itself",
        )
    elif any(offered(node, resources) for node in nodes):
        yield ok(f"every node with GPUs has the agent's labels ({said or 'none asked for'})")


def agents(nodes: Sequence[Json], selector: Mapping[str, str], pods: Sequence[Json]) -> Iterator[Finding]:
    """On each node that is to have one a VRAM agent is Ready, which it is while it can grant from every device."""
    by_node = {pod["spec"].get("nodeName"): pod for pod in pods if "deletionTimestamp" not in pod["metadata"]}
    # Where the agent may run everywhere, taints keep it from nodes that have nothing for it.
    wanted = [
        name
        for node in nodes
        if selected(node, selector) and ((name := node["metadata"]["name"]) in by_node or selector)
    ]
    if not wanted:
        said = ",".join(f"{key}={value}" for key, value in selector.items())
        yield failed(f"no node has the labels of agent.nodeSelector ({said})", "kubectl get nodes --show-labels")
    for node in wanted:
        pod = by_node.get(node)
        if pod is None:
            yield failed(
                f"{node} has no VRAM agent", "look at its taints (agent.tolerations): kubectl describe node " + node
            )
        elif not _ready(pod):
            meta = pod["metadata"]
            fix = f"kubectl -n {meta['namespace']} logs {meta['name']}"
            yield failed(f"{node}: the VRAM agent {meta['name']} is not ready", fix)
        else:
            yield ok(f"{node}: the VRAM agent is ready")


def seen(nodes: Sequence[Json], states: Mapping[str, State], resources: Collection[str]) -> Iterator[Finding]:
    """The agents see the GPUs that Kubernetes gives out."""
    for node in nodes:
        name, said = node["metadata"]["name"], offered(node, resources)
        if name not in states or not said:
            continue
        devices = [device for device in states[name].devices if device.kind == "nvml"]
        if not devices:
            yield failed(
                f"{name} offers {said} GPUs, and its VRAM agent sees no driver",
                "set agent.runtimeClassName (nvidia, where the GPU operator made it) and helm upgrade",
            )
        elif len(devices) != said:
            yield warning(
                f"{name} offers {said} GPUs, and its VRAM agent sees {len(devices)}",
                "look for one that fell off: kubectl describe node, nvidia-smi -L",
            )
        else:
            yield ok(f"{name}: the VRAM agent sees all {said} GPUs that Kubernetes offers")


def devices(states: Mapping[str, State]) -> Iterator[Finding]:
    """Each device can be granted from, samples are fresh (its agent says when not), and what is leased of it."""
    for node, state in states.items():
        for device in state.devices:
            name = f"{node}: {device.id}"
            for kind, text in alarms(device).items():
                fix = "see the message; the agent grants again by itself once that is over"
                if kind == "foreign":
                    fix = "end those processes, or raise agent.headroomMib"
                yield (warning if kind == "foreign" else failed)(f"{node}: {text}", fix)
            held = sum(device.id in lease.devices for lease in state.leases)
            if not device.error:
                sizes = f"{human(device.leased)} of {human(device.total)} leased, {human(device.free)} free"
                yield ok(f"{name}: {sizes}, {held} leases")


def offered(node: Json, resources: Collection[str]) -> int:
    """How many GPUs a node has for pods."""
    return sum(int(node.get("status", {}).get("allocatable", {}).get(name, 0)) for name in resources)


def selected(node: Json, selector: Mapping[str, str]) -> bool:
    labels = node["metadata"].get("labels", {})
    return all(labels.get(key) == value for key, value in selector.items())


def runtime_classes(wanted: Collection[str], found: Sequence[Json]) -> Iterator[Finding]:
    """Those that the values name are there."""
    names = {one["metadata"]["name"] for one in found}
    for name in sorted(wanted):
        if name in names:
            yield ok(f"RuntimeClass {name} is there")
        else:
            fix = f"name one of {', '.join(sorted(names))}" if names else "leave runtimeClassName empty, or make it"
            yield failed(f"there is no RuntimeClass {name}", fix)


def _shared(node: Json) -> Iterator[Finding]:
    """Two pods on one GPU would each count all of its bytes, and a slice has no bytes of its own to count."""
    name, labels = node["metadata"]["name"], node["metadata"].get("labels", {})
    strategy = labels.get("nvidia.com/gpu.sharing-strategy", "none")
    if strategy != "none":
        fix = "turn sharing off in the device plugin's config: Hive itself puts several models on one GPU"
        yield failed(f"{name} gives out each GPU several times ({strategy})", fix)
    slices = [key for key in node.get("status", {}).get("allocatable", {}) if key.startswith("nvidia.com/mig-")]
    if slices:
        yield failed(
            f"{name} has GPUs in MIG mode ({', '.join(slices)}); Hive grants nothing on those", "nvidia-smi -mig 0"
        )


def _is_plugin(daemonset: Json) -> bool:
    containers = daemonset["spec"]["template"]["spec"]["containers"]
    name = daemonset["metadata"]["name"]
    return ("nvidia" in name and "device-plugin" in name) or any(
        "k8s-device-plugin" in one["image"] for one in containers
    )


def _ready(pod: Json) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {number}" for name, number in counts.items())
