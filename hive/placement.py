"""Where replicas go, and whether they all find a place. Pure: the rule is Ray Serve's packing, step by step
(serve/_private/deployment_scheduler.py, `_schedule_with_pack_strategy`; tests/unit/hive/test_placement_against_ray.py).

The largest replica goes first (serve_app/order.py sees to it that Ray has it first). It goes where the least is left
after it, on a worker that holds a replica already if it can. What is compared is VRAM, then CPUs, then host RAM, then
how many replicas of each model a worker may still take. Where Ray leaves equals to the hashes of a run, the model's
name and the order of the workers decide here.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any

from serve_app.worker import CPU_RESOURCE, resource_name
from vram_agent.api import MIB, human

EPSILON = 1e-9  # Ray's tolerance
Resources = dict[str, float]


@dataclass(frozen=True)
class Want:
    """Replicas of one model: MiB on each of `devices` devices of one worker, and CPUs and host RAM of that worker."""

    model: str
    mib: int
    devices: int
    replicas: int
    cpus: float = 0
    memory: int = 0  # bytes
    most_per_worker: int = 100  # replicas of this model; the chart's figure for any number


@dataclass(frozen=True)
class Worker:
    """What one Ray worker registers."""

    mib: int  # that leases can have on each of its devices
    devices: int
    cpus: float = inf
    memory: float = inf  # bytes of host RAM

    @classmethod
    def of(cls, allocatable: Sequence[int]) -> "Worker":
        """One whose devices have these bytes for leases: the smallest counts."""
        return cls(min(allocatable) // MIB, len(allocatable))


@dataclass(frozen=True)
class Replica:
    """One replica of a model; `worker` is its number, or None where no worker has room."""

    model: str
    worker: int | None


@dataclass(frozen=True)
class Standing:
    """The workers of a Ray, and the replicas on them that an edit leaves alone."""

    workers: Sequence[Worker]
    running: Sequence[Replica] = ()  # in the order of `staying`


def wants(serve_config: Mapping[str, Any]) -> list[Want]:
    """What a rendered serve config asks for; an autoscaled model counts with its fewest replicas."""
    found = []
    for app in serve_config["applications"]:
        deployment = app["deployments"][0]
        autoscaling = deployment["autoscaling_config"]
        args, actor = app["args"], deployment["ray_actor_options"]
        want = Want(
            model=app["name"],
            mib=args["vramMib"],
            devices=args["tensorParallel"],
            replicas=deployment["num_replicas"] if autoscaling is None else autoscaling["min_replicas"],
            cpus=actor["resources"][CPU_RESOURCE],
            memory=actor["memory"] or 0,
            most_per_worker=deployment["max_replicas_per_node"],
        )
        found.append(want)
    return found


def place(wanted: Sequence[Want], workers: Sequence[Worker], running: Sequence[Replica] = ()) -> list[Replica]:
    """Every replica that is wanted: those that run, then the others in the order in which Ray takes them.

    Args:
        running: replicas that stay where they are, no more of a model than are wanted.
    """
    by_name = {want.model: want for want in wanted}
    order = _Order(wanted, workers)
    free = [order.registered(worker) for worker in workers]
    busy = set()
    for replica in running:
        if replica.worker is not None:
            free[replica.worker] = _minus(free[replica.worker], order.asked(by_name[replica.model]))
            busy.add(replica.worker)
    stay = Counter(replica.model for replica in running)
    found = list(running)
    for want in sorted(wanted, key=lambda want: order.rank(order.asked(want)), reverse=True):
        asked = order.asked(want)
        for _ in range(want.replicas - stay[want.model]):
            fitting = [number for number, has in enumerate(free) if _fits(asked, has)]
            # False before True; the first of equals.
            best = min(
                fitting, key=lambda number: (number not in busy, order.rank(_minus(free[number], asked))), default=None
            )
            if best is not None:
                free[best] = _minus(free[best], asked)
                busy.add(best)
            found.append(Replica(want.model, best))
    return found


def staying(wanted: Sequence[Want], running: Sequence[Replica]) -> list[Replica]:
    """Those that go on. Where fewer are wanted, Ray ends those on the workers with the fewest replicas, and of equal
    workers on the one that comes first in Serve's list (`_get_replicas_to_stop`).

    Args:
        running: as Serve lists them: model by model, as their first replicas began to run, and so those of each model.
    """
    crowd = Counter(replica.worker for replica in running)
    emptiest_first = sorted(crowd, key=crowd.__getitem__)  # equal ones stay in the order of the list
    kept = []
    for want in wanted:
        own = [replica for replica in running if replica.model == want.model]
        own.sort(key=lambda replica: emptiest_first.index(replica.worker))
        kept += own[max(0, len(own) - want.replicas) :]
    return kept


def without_room(wanted: Sequence[Want], there: Standing) -> str | None:
    """Why the replicas do not all find a place there, or None."""
    workers = there.workers
    placed = place(wanted, workers, staying(wanted, there.running))
    lost = next((number for number, replica in enumerate(placed) if replica.worker is None), None)
    if lost is None:
        return None
    want = next(want for want in wanted if want.model == placed[lost].model)
    before = sum(replica.model == want.model for replica in placed[:lost])
    if there.running and without_room(wanted, Standing(workers)) is None:
        return (
            f"replica {before + 1} of {want.model} ({human(want.mib * MIB)}) has no room beside the replicas that run, "
            "which keep their places; if those smaller than it were turned off, and on again after it, all would have"
        )
    roomy = [replace(worker, cpus=inf, memory=inf) for worker in workers]
    if all(replica.worker is not None for replica in place(wanted, roomy)):
        return (
            f"replica {before + 1} of {want.model} has no room: no worker with enough VRAM has {want.cpus:g} CPUs and "
            f"{human(want.memory)} of host RAM left"
        )
    return _explain(want, before, wanted, workers)


def too_many_cpus(wanted: Sequence[Want], cpus: float) -> str | None:
    """Why Ray would never schedule these replicas on workers with so many CPUs in all, or None."""
    asked = sum(want.cpus * want.replicas for want in wanted)
    if asked <= cpus:
        return None
    parts = ", ".join(f"{want.model} {want.replicas} x {want.cpus:g}" for want in wanted if want.replicas)
    return f"the models ask for {asked:g} CPUs ({parts}), and Ray has {cpus:g}"


class _Order:
    """Ray's comparison of two sets of resources, as tuples that compare alike."""

    def __init__(self, wanted: Sequence[Want], workers: Sequence[Worker]) -> None:
        widths = {want.devices for want in wanted} | {worker.devices for worker in workers}
        vram = sorted(map(resource_name, widths))
        # A worker has 1 of each model's share, of which a replica takes 1 / most_per_worker.
        self._shares = sorted(_share(want.model) for want in wanted)
        self._names = [*vram, CPU_RESOURCE, "memory", *self._shares]

    def rank(self, resources: Resources) -> tuple[float, ...]:
        return tuple(resources.get(name, 0) for name in self._names)

    def registered(self, worker: Worker) -> Resources:
        has = {resource_name(worker.devices): float(worker.mib), CPU_RESOURCE: worker.cpus, "memory": worker.memory}
        return has | dict.fromkeys(self._shares, 1.0)

    @staticmethod
    def asked(want: Want) -> Resources:
        return {
            resource_name(want.devices): want.mib,
            CPU_RESOURCE: want.cpus,
            "memory": want.memory,
            _share(want.model): 1.0 / want.most_per_worker,
        }


def _share(model: str) -> str:
    return f"model:{model}"


def _fits(asked: Resources, has: Resources) -> bool:
    return all(has.get(name, 0) + EPSILON >= size for name, size in asked.items())


def _minus(has: Resources, asked: Resources) -> Resources:
    return {name: has.get(name, 0) - asked.get(name, 0) for name in has.keys() | asked.keys()}


def _explain(want: Want, placed: int, wanted: Sequence[Want], workers: Sequence[Worker]) -> str:
    asked = ", ".join(f"{w.model} {w.replicas} x {human(w.mib * MIB)}" for w in wanted if w.replicas)
    total = sum(w.mib * w.replicas * w.devices for w in wanted) * MIB
    there = ", ".join(" + ".join([human(worker.mib * MIB)] * worker.devices) for worker in workers)
    return (
        f"replica {placed + 1} of {want.model} ({human(want.mib * MIB)}) has no room: "
        f"the models ask for {human(total)} ({asked}), and the devices have {there}"
    )
