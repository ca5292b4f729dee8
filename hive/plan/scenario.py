"""What is asked for and what is there: the input of a plan, and the edits that advice may try on it. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import inf
from typing import Any

from hive.errors import HiveError
from hive.placement import Want, wants
from hive.plan.needs import Need
from hive.rendering import Rendered
from vram_agent.api import GIB, MIB, State

# What NVIDIA's driver keeps of a GPU for itself, where no agent says it. H100, driver 580: 480 MiB (`make gpu-check`).
DRIVER_RESERVED_BYTES = 512 * MIB
QUANTITY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "": 1}


@dataclass(frozen=True)
class Gpu:
    """One device, in bytes: a GPU, or the RAM of a machine without one."""

    id: str
    total: int
    reserved: int  # by the driver
    safety: int
    headroom: int  # or what others hold of it, where that is more

    @property
    def allocatable(self) -> int:
        """What leases can have in all."""
        return max(0, self.total - self.reserved - self.safety - self.headroom)


@dataclass(frozen=True)
class Group:
    """One worker group."""

    name: str
    fewest: int  # workers
    most: int  # the same, unless Ray's autoscaler adds some
    gpus_per_worker: int
    cpus: float = inf  # of each worker
    memory: float = inf  # bytes of host RAM of each worker


@dataclass(frozen=True)
class Entry:
    """One model of the values file. `want.mib` is 0 where the budget is not known."""

    want: Want
    source: str
    vram_said: bool  # whether the file has it
    autoscaled: bool = False
    need: Need | None = None
    error: HiveError | None = None  # why there is no need


@dataclass(frozen=True)
class Stay:
    """A replica that runs and is not touched."""

    model: str
    gpus: tuple[str, ...]
    since: float = 0  # seconds since the epoch


@dataclass(frozen=True)
class Scenario:
    """Everything that a plan is made of."""

    rendered: Rendered
    entries: tuple[Entry, ...]
    groups: tuple[Group, ...]
    gpus: tuple[Gpu, ...] | None  # None: not said, so nothing is placed
    kind: str  # of the devices: `nvml` or `host`
    running: tuple[Stay, ...] = ()
    added: tuple[tuple[str, tuple[Gpu, ...]], ...] = ()  # workers with GPUs of their own, by group

    def entry(self, model: str) -> Entry:
        return next(entry for entry in self.entries if entry.want.model == model)

    def edit(self, model: str, **want: Any) -> "Scenario":
        """The same with another budget, number of replicas or spread of one model."""
        return replace(
            self,
            entries=tuple(
                replace(entry, want=replace(entry.want, **want)) if entry.want.model == model else entry
                for entry in self.entries
            ),
        )


def gpus_of_sizes(sizes: str, rendered: Rendered) -> tuple[Gpu, ...]:
    """GPUs from a list of their totals, like `24GiB,12GiB`, with what the agent of these values would keep.

    Raises:
        HiveError: it is no such list.
    """
    found = []
    for number, size in enumerate(sizes.split(",")):
        said = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(GiB|Gi|MiB|Mi)\s*", size)
        if said is None:
            raise HiveError(f"--gpus: {size.strip()!r} is no size of a GPU", "write it like --gpus 24GiB,24GiB,12GiB")
        total = int(float(said[1]) * (GIB if said[2].startswith("G") else MIB))
        found.append(new_gpu(f"GPU {number}", total, rendered))
    return tuple(found)


def new_gpu(name: str, total: int, rendered: Rendered) -> Gpu:
    """A GPU that no agent has seen yet."""
    env = rendered.agent.env
    return Gpu(
        id=name,
        total=total,
        reserved=0 if env["HIVE_DEVICE_KIND"] == "host" else DRIVER_RESERVED_BYTES,
        safety=int(env["HIVE_SAFETY_MIB"]) * MIB,
        headroom=int(env["HIVE_HEADROOM_MIB"]) * MIB,
    )


def gpus_of_agents(states: Mapping[str, State]) -> tuple[Gpu, ...]:
    """GPUs as the agents know them, node by node."""
    return tuple(
        Gpu(
            id=gpu_id(node, device.id, len(states) > 1),
            total=device.total,
            reserved=device.reserved,
            safety=device.safety,
            headroom=max(device.foreign, device.headroom),
        )
        for node, state in sorted(states.items())
        for device in state.devices
    )


def gpu_id(node: str, device: str, several: bool) -> str:
    """A device's name where there are several nodes, or one."""
    return f"{node} {device}" if several else device


def groups(rendered: Rendered, cpus: float | None = None) -> tuple[Group, ...]:
    """The worker groups that have GPUs. A pod's CPUs and RAM are what KubeRay tells Ray: its limits, CPUs else from its
    requests.

    Args:
        cpus: what each worker has in place of that; its RAM is then not looked at.
    """
    found = []
    for spec in rendered.ray_cluster["workerGroupSpecs"]:
        name = spec["groupName"]
        group = next(group for group in rendered.groups if group.name == name)
        if not group.gpus_per_worker:
            continue
        container = next(one for one in spec["template"]["spec"]["containers"] if one["name"] == "ray-worker")
        limits, requests = container["resources"].get("limits", {}), container["resources"].get("requests", {})
        said = limits.get("cpu") or requests.get("cpu")
        found.append(
            Group(
                name=name,
                fewest=spec["minReplicas"],
                most=spec["maxReplicas"],
                gpus_per_worker=group.gpus_per_worker,
                # KubeRay rounds up to whole CPUs.
                cpus=cpus if cpus is not None else inf if said is None else float(-(-quantity(said) // 1)),
                memory=quantity(limits["memory"]) if cpus is None and "memory" in limits else inf,
            )
        )
    return tuple(found)


def quantity(said: str | int | float) -> float:
    """A quantity of Kubernetes: 16Gi, 500m, 4."""
    text = str(said)
    if text.endswith("m"):
        return float(text[:-1]) / 1000
    number, unit = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", text).groups()  # type: ignore[union-attr]  # Helm rendered it
    return float(number) * QUANTITY[unit]


def entries(
    serve_config: Mapping[str, Any], said: Mapping[str, bool], found: Mapping[str, Need | HiveError]
) -> tuple[Entry, ...]:
    """The models, with what is known of each.

    Args:
        said: whether the values name a budget, by model.
        found: what its checkpoint comes to, or why that is not known.
    """
    result = []
    for want, app in zip(wants(serve_config), serve_config["applications"], strict=True):
        one = found[want.model]
        known = one if isinstance(one, Need) else None
        result.append(
            Entry(
                want=want,
                source=app["args"]["source"],
                vram_said=said[want.model],
                autoscaled=app["deployments"][0]["autoscaling_config"] is not None,
                need=known,
                error=one if isinstance(one, HiveError) else None,
            )
        )
    return tuple(result)
