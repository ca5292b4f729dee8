"""A made-up Hive of several nodes and models, for the page: what its agents say, and what Ray Serve does."""

import time
from typing import Any

from tests.gateway.site import Json, application
from vram_agent.api import GIB, MIB, Device, Enforcement, Event, EventKind, Lease, LeaseState, State

MODEL: Json = {"source": "./tiny", "vram": "1Gi"}
VALUES: Json = {
    "models": {
        "qwen3-8b": MODEL | {"replicas": 2},
        "gemma-3-12b": MODEL,
        "qwen3-embedding": MODEL,
        "whisper-large": MODEL,
        "phi-4-mini": MODEL,
        "mistral-24b": MODEL,
    },
    "workerGroups": {"gpu": {"replicas": 4}},
    "gateway": {"host": "127.0.0.1", "keysSecret": "hive-keys"},
}
REFUSED = (
    "mistral-24b asked for 20.00 GiB (21474836480 bytes) of GPU-51c0; "
    "5.86 GiB (6290407424 bytes) can be had of 12.00 GiB"
)
FAILED = (
    "models.mistral-24b: no worker has 20.00 GiB free on one GPU; the most is 5.86 GiB on nova. "
    "FIX: set models.mistral-24b.vram to 5Gi, turn a model off, or add a GPU"
)
APPLICATIONS: Json = {
    name: application(name, *more, **kwargs)  # type: ignore[arg-type]
    for name, more, kwargs in [
        ("qwen3-8b", ("RUNNING", ("x7k2p9aa", "RUNNING"), ("m3n8q1bb", "RUNNING")), {}),
        ("gemma-3-12b", ("RUNNING", ("c4d5e6ff", "RUNNING")), {}),
        ("qwen3-embedding", ("RUNNING", ("h1i2j3kk", "RUNNING")), {}),
        (
            "whisper-large",
            ("DEPLOYING", ("w9v8u7tt", "STARTING")),
            {"message": "whisper-large waits in line for GPU-51c0"},
        ),
        (
            "phi-4-mini",
            ("UNHEALTHY", ("p5o4i3uu", "STARTING")),
            {"message": "the replica p5o4i3uu died and is being replaced"},
        ),
        ("mistral-24b", ("DEPLOY_FAILED",), {"wanted": 1, "message": FAILED}),
    ]
}


def device(id_: str, name: str, gib: int, leases: list[Lease], foreign: int = 0, error: str | None = None) -> Device:
    """A GPU whose free bytes follow from the rest."""
    leased = sum(lease.charged[id_] for lease in leases if id_ in lease.devices)
    total, reserved, safety, headroom = gib * GIB, 400 * MIB, 256 * MIB, 512 * MIB
    return Device(
        id=id_,
        kind="nvml",
        name=name,
        enforcement=Enforcement.TORCH,
        total=total,
        reserved=reserved,
        safety=safety,
        headroom=headroom,
        foreign=foreign,
        leased=leased,
        free=total - reserved - safety - max(foreign, headroom) - leased,
        sampled=time.time(),
        error=error,
    )


def lease(
    model: str, gib: float, used: float, *devices: str, state: LeaseState = LeaseState.ACTIVE, **more: Any
) -> Lease:
    """One grant, sizes in GiB of each device."""
    size = int(gib * GIB)
    charged = 0 if state is LeaseState.PENDING else size
    return Lease(
        id=f"{model}-{'-'.join(devices)}",
        model=model,
        state=state,
        bytes=size,
        devices=devices,
        pid=4242,
        pids=(4242,),
        used={name: int(used * GIB) for name in devices},
        charged={name: charged for name in devices},
        place=more.get("place"),
        since=0.0,
    )


def states() -> list[State]:
    """Three nodes: 2 x 24 GiB, 12 GiB, and 12 GiB with something foreign."""
    atlas_0, atlas_1, nova, luna = (f"GPU-{id_}" for id_ in ("8f1e", "2b9d", "51c0", "c7a4"))
    on_atlas = [
        lease("qwen3-8b", 14, 13.4, atlas_0),
        lease("qwen3-embedding", 6, 4.1, atlas_0),
        lease("gemma-3-12b", 18, 16.9, atlas_1),
    ]
    on_nova = [
        lease("phi-4-mini", 5, 2.2, nova, state=LeaseState.STARTING),
        lease("whisper-large", 4, 0, nova, state=LeaseState.PENDING, place=1),
    ]
    on_luna = [lease("qwen3-8b", 8, 7.6, luna)]
    now = time.time()
    cleared = "GPU-c7a4: no longer GPU-c7a4: 2.40 GiB are in use without a lease"
    foreign = "GPU-c7a4: 1.90 GiB are in use without a lease, 512 MiB were kept for that: blender (pid 7120) 1.90 GiB"
    died = "phi-4-mini: the holder of its lease died; VLLM::EngineCore (pid 6011) is asked to end"
    return [
        State(
            node="atlas",
            devices=(
                device(atlas_0, "NVIDIA GeForce RTX 4090", 24, on_atlas, foreign=180 * MIB),
                device(atlas_1, "NVIDIA GeForce RTX 4090", 24, on_atlas),
            ),
            leases=tuple(on_atlas),
            events=(),
            overheads={},
        ),
        State(
            node="nova",
            devices=(device(nova, "NVIDIA GeForce RTX 3060", 12, on_nova, foreign=90 * MIB),),
            leases=tuple(on_nova),
            events=(
                Event(time=now - 340, kind=EventKind.REFUSED, text=REFUSED, device=nova, model="mistral-24b"),
                Event(time=now - 41, kind=EventKind.ORPHAN, text=died, device=nova, model="phi-4-mini"),
            ),
            overheads={},
        ),
        State(
            node="luna",
            devices=(device(luna, "NVIDIA GeForce RTX 4070", 12, on_luna, foreign=int(1.9 * GIB)),),
            leases=tuple(on_luna),
            events=(
                Event(time=now - 1900, kind=EventKind.CLEARED, text=cleared, device=luna),
                Event(time=now - 95, kind=EventKind.FOREIGN, text=foreign, device=luna),
            ),
            overheads={},
        ),
    ]
