"""What `--deep` finds in Ray: its REST API, the VRAM that its nodes offer, CPUs that really compute."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from hive.doctor.finding import Finding, failed, ok, warning
from hive.ray_nodes import RayNode
from vram_agent.api import MIB, State, human

Json = dict[str, Any]
RESTART = "end what took it, or delete the worker pod, so that it registers anew"


class Stressed(BaseModel):
    """One line of `stress_job`."""

    node: str
    ok: bool
    cpus: int = 0
    mib: int = 0
    seconds: float = 0.0
    error: str = ""


def version(found: Json, asked: str) -> Iterator[Finding]:
    """Ray's own against `ray.version` of the values."""
    runs = found["ray_version"]
    if runs == asked:
        yield ok(f"Ray {runs} answers on its REST API")
    else:
        yield warning(f"Ray {runs} runs, and ray.version says {asked}", "set ray.version to what image has")


def jobs(found: Sequence[Json]) -> Iterator[Finding]:
    """The jobs API answers."""
    running = sum(one.get("status") in ("PENDING", "RUNNING") for one in found)
    yield ok(f"the jobs API answers: {len(found)} jobs, {running} of them not ended")


def nodes(found: Sequence[RayNode], hosts: Mapping[str, str], states: Mapping[str, State]) -> Iterator[Finding]:
    """Workers offer the bytes that the VRAM agent of their host can grant.

    Args:
        hosts: the host of each Ray node by its address, as agents call it.
        states: what the agents say, by host.
    """
    by_host: dict[str, list[RayNode]] = {}
    for node in found:
        by_host.setdefault(hosts.get(node.address, ""), []).append(node)
    if not by_host:
        yield failed("no Ray node offers VRAM", "see the log of a worker pod: when it starts it asks its VRAM agent")
    for host, workers in sorted(by_host.items()):
        if host not in states:
            text = f"no VRAM agent is known for Ray's worker {workers[0].address}"
            yield failed(text, "hive doctor names agents that are away")
        else:
            yield from _compare(host, workers, states[host])


def stress(lines: str) -> Iterator[Finding]:
    """What the job printed: every node computes, and none far slower than the others."""
    found = []
    for line in lines.splitlines():
        try:
            found.append(Stressed.model_validate(json.loads(line)))
        except (ValueError, ValidationError):
            continue  # Ray's own words
    speeds = sorted(one.mib / one.seconds / one.cpus for one in found if one.ok)
    for one in found:
        name = f"CPUs of Ray node {one.node[:8]}"
        if not one.ok:
            yield failed(f"{name}: {one.error or 'reckoned wrong'}", "look at the node: dmesg, and its load")
            continue
        speed = one.mib / one.seconds / one.cpus
        said = f"{name}: {one.cpus} hashed {one.mib} MiB in {one.seconds:.1f} s, {speed:.0f} MiB/s each"
        if speed < speeds[len(speeds) // 2] / 2:
            yield warning(f"{said}, less than half of the others", "see what else runs there, and its CPU limits")
        else:
            yield ok(said)
    if not found:
        yield failed(
            f"the CPU job said nothing: {lines.strip()[-500:] or 'no output'}", "hive logs, and Ray's dashboard, Jobs"
        )


def _compare(host: str, workers: Sequence[RayNode], state: State) -> Iterator[Finding]:
    """The largest worker against the largest devices, and so on; each has devices of its own."""
    left = sorted(state.devices, key=lambda device: -device.allocatable)
    for node in sorted(workers, key=lambda node: -node.worker.mib):
        count, offered = node.worker.devices, node.worker.mib * MIB
        own, left = left[:count], left[count:]
        name = f"Ray's worker {node.address} on {host}"
        if len(own) < count:
            yield failed(f"{name} offers {human(offered)} on {count} devices, more than its agent has", RESTART)
            continue
        grants = min(device.allocatable for device in own)
        said = f"{name} offers {human(offered)}; its agent can grant {human(grants)}"
        # RAM always has other users, so that figure moves all the time.
        if offered > grants and own[0].kind != "host":
            yield warning(f"{said}: a replica could be placed there and then refused", RESTART)
        else:
            yield ok(said)
    if left:
        names = ", ".join(device.id for device in left)
        yield warning(f"{host}: no Ray worker offers {names}", "raise workerGroups.*.replicas to use them")
