"""Do these replicas fit on these devices? Pure: best fit in decreasing order, the rule that Serve's packing follows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vram_agent.api import MIB, human


@dataclass(frozen=True)
class Want:
    """Replicas of one model: MiB on each of `devices` devices of one worker, and CPUs of that worker."""

    model: str
    mib: int
    devices: int
    replicas: int
    cpus: float = 0


def wants(serve_config: Mapping[str, Any]) -> list[Want]:
    """What a rendered serve config asks for; an autoscaled model counts with its fewest replicas."""
    found = []
    for app in serve_config["applications"]:
        deployment = app["deployments"][0]
        autoscaling = deployment["autoscaling_config"]
        replicas = deployment["num_replicas"] if autoscaling is None else autoscaling["min_replicas"]
        args = app["args"]
        cpus = deployment["ray_actor_options"]["num_cpus"]
        found.append(Want(app["name"], args["vramMib"], args["tensorParallel"], replicas, cpus))
    return found


def unplaceable(wanted: Sequence[Want], workers: Sequence[Sequence[int]]) -> str | None:
    """Why the replicas do not fit, or None.

    Args:
        wanted: the models.
        workers: for every worker, the allocatable bytes of each of its devices.
    """
    free = [(len(devices), min(devices)) for devices in workers]
    for want in sorted(wanted, key=lambda want: -want.mib):
        for number in range(want.replicas):
            fitting = [i for i, (count, size) in enumerate(free) if count == want.devices and size >= want.mib * MIB]
            if not fitting:
                return _explain(want, number, wanted, workers)
            best = min(fitting, key=lambda i: free[i][1])
            free[best] = (free[best][0], free[best][1] - want.mib * MIB)
    return None


def too_many_cpus(wanted: Sequence[Want], cpus: float) -> str | None:
    """Why Ray would never schedule these replicas on workers with so many CPUs in all, or None."""
    asked = sum(want.cpus * want.replicas for want in wanted)
    if asked <= cpus:
        return None
    parts = ", ".join(f"{want.model} {want.replicas} x {want.cpus:g}" for want in wanted if want.replicas)
    return f"the models ask for {asked:g} CPUs ({parts}), and Ray has {cpus:g}"


def _explain(want: Want, placed: int, wanted: Sequence[Want], workers: Sequence[Sequence[int]]) -> str:
    asked = ", ".join(f"{w.model} {w.replicas} x {human(w.mib * MIB)}" for w in wanted if w.replicas)
    total = sum(w.mib * w.replicas * w.devices for w in wanted) * MIB
    there = ", ".join(" + ".join(human(size) for size in devices) for devices in workers)
    return (
        f"replica {placed + 1} of {want.model} ({human(want.mib * MIB)}) has no room: "
        f"the models ask for {human(total)} ({asked}), and the devices have {there}"
    )
