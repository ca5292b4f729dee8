"""Objects of a cluster, as small as the checks need them."""

from collections.abc import Iterable
from typing import Any

from hive.doctor.finding import Finding, Verdict
from vram_agent.api import GIB, Device, Enforcement, Lease, LeaseState, State

Json = dict[str, Any]


def verdicts(found: Iterable[Finding]) -> list[Verdict]:
    """The verdicts; whatever is not ok has a mend of one line."""
    findings = list(found)
    for finding in findings:
        assert (finding.fix == "") == (finding.verdict is Verdict.OK), finding
        assert "\n" not in finding.fix
    return [finding.verdict for finding in findings]


def only(found: Iterable[Finding]) -> Finding:
    (finding,) = found
    verdicts([finding])
    return finding


def named(name: str, **more: Any) -> Json:
    return {"metadata": {"name": name, "namespace": "ns", "labels": {}} | more.pop("metadata", {})} | more


def workload(name: str, image: str, *args: str, ready: int = 1, **status: int) -> Json:
    """A Deployment or a DaemonSet."""
    template = {"metadata": {"labels": {}}, "spec": {"containers": [{"image": image, "args": list(args)}]}}
    return named(name, spec={"template": template}, status={"readyReplicas": ready, **status})


def node(name: str, gpus: int = 0, labels: Json | None = None, **more: int) -> Json:
    allocatable = ({"nvidia.com/gpu": str(gpus)} if gpus else {}) | {key: str(value) for key, value in more.items()}
    return named(name, metadata={"labels": labels or {}}, status={"allocatable": allocatable})


def pod(name: str, *, on: str = "n1", ready: bool = True, phase: str = "Running", **status: Any) -> Json:
    conditions = [{"type": "Ready", "status": str(ready)}]
    return named(name, spec={"nodeName": on}, status={"phase": phase, "conditions": conditions} | status)


def device(name: str = "GPU-0", **more: Any) -> Device:
    """24 GiB, with 23.25 GiB for leases."""
    content: Json = {
        "id": name,
        "kind": "nvml",
        "name": "Fake",
        "enforcement": Enforcement.TORCH,
        "total": 24 * GIB,
        "reserved": 0,
        "safety": GIB // 4,
        "headroom": GIB // 2,
        "foreign": 0,
        "leased": 0,
        "free": 23 * GIB + GIB // 4,
        "sampled": 0.0,
    }
    return Device.model_validate(content | more)


def lease(model: str, on: str = "GPU-0", size: int = 4 * GIB, used: int = 3 * GIB) -> Lease:
    return Lease(
        id=model,
        model=model,
        state=LeaseState.ACTIVE,
        bytes=size,
        devices=(on,),
        pid=1,
        pids=(1,),
        used={on: used},
        charged={on: size},
        place=None,
        since=0.0,
    )


def state(*devices: Device, leases: tuple[Lease, ...] = ()) -> State:
    return State(node="n1", devices=devices, leases=leases, events=(), overheads={})
