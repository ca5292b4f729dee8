"""A scenario -> the plan: budgets divided, replicas placed, and everything that is wrong. Pure."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from hive.changes import Change
from hive.placement import Replica, Want, Worker, place, staying
from hive.plan.scenario import Entry, Gpu, Scenario
from serve_app.sizing import BudgetError
from vram_agent.api import MIB, human


@dataclass(frozen=True)
class Problem:
    """What is wrong, and what to do about it."""

    what: str
    fix: str

    def __str__(self) -> str:
        return f"ERROR: {self.what}\nFIX: {self.fix}"


@dataclass(frozen=True)
class Model:
    """One model: bytes on each device of one replica. None: not known."""

    name: str
    source: str
    replicas: int
    devices: int  # of one replica
    autoscaled: bool  # `replicas` are the fewest
    vram_mib: int | None
    vram_said: bool  # False: reckoned here, because the values have none
    weights: int | None
    weights_exact: bool | None  # False: an upper bound
    overhead: int | None
    overhead_measured: bool | None  # False: a model of it
    kv_cache: int | None
    kv_exact: bool | None  # False: the architecture is not known, so tokens and requests are not either
    kv_tokens: int | None
    requests: int | None  # of the full length at once
    max_model_len: int | None


@dataclass(frozen=True)
class Held:
    """What one replica has of a device."""

    model: str
    bytes: int
    runs: bool  # already, and goes on


@dataclass(frozen=True)
class Device:
    """One GPU after it, in bytes."""

    id: str
    group: str | None  # None: no worker takes it
    total: int
    kept: int  # reserved + safety + headroom, or what others hold
    replicas: tuple[Held, ...]
    free: int


@dataclass(frozen=True)
class Unplaced:
    """Replicas without a place."""

    model: str
    replicas: int


@dataclass(frozen=True)
class Plan:
    """The answer; `misfits` is what other figures could mend, `problems` are all."""

    models: tuple[Model, ...]
    devices: tuple[Device, ...]
    unplaced: tuple[Unplaced, ...]
    misfits: tuple[Problem, ...]
    problems: tuple[Problem, ...]
    changes: tuple[Change, ...] | None = None  # None: nothing runs that would be changed
    advice: tuple[tuple[str, ...], ...] = ()  # each one a set of changes with which all fits

    @property
    def fits(self) -> bool:
        return not self.problems


def plan(scenario: Scenario) -> Plan:
    """Divide, place, and say what is wrong."""
    models, misfits, problems = [], [], []
    for entry in scenario.entries:
        model, problem = _model(entry)
        models.append(model)
        if problem:
            misfits.append(problem)
        if entry.error:
            problems.append(Problem(entry.error.what, entry.error.fix))
    if scenario.gpus is None:
        return Plan(tuple(models), (), (), tuple(misfits), (*problems, *misfits))
    assigned, missing = assign(scenario)
    misfits += missing
    placed = _placed(scenario, assigned)
    lost = Counter(replica.model for replica in placed if replica.worker is None)
    misfits += [_no_room(scenario.entry(model), count, assigned) for model, count in lost.items()]
    return Plan(
        models=tuple(models),
        devices=_devices(scenario, assigned, placed),
        unplaced=tuple(Unplaced(model, count) for model, count in lost.items()),
        misfits=tuple(misfits),
        problems=(*problems, *misfits),
    )


@dataclass(frozen=True)
class Assigned:
    """A worker and its GPUs."""

    group: str
    gpus: tuple[Gpu, ...]
    worker: Worker


def assign(scenario: Scenario) -> tuple[list[Assigned], list[Problem]]:
    """GPUs for the workers of every group, in the order of the groups' names and of the GPUs, as `hive up` does; those
    that the autoscaler may add come last. In a cluster each worker takes GPUs of one node, whichever are free there."""
    left = list(scenario.gpus or ())
    found: list[Assigned] = []
    missing = []
    asked = [(group, group.fewest) for group in scenario.groups]
    asked += [(group, group.most - group.fewest) for group in scenario.groups]
    for number, (group, count) in enumerate(asked):
        for have in range(count):
            if len(left) < group.gpus_per_worker:
                if number < len(scenario.groups):  # one that the autoscaler would add need not be there
                    given = len(scenario.gpus or ())
                    what = (
                        f"workerGroups.{group.name} asks for {count} x {group.gpus_per_worker} GPUs, and there are "
                        f"GPUs for {have} of these workers; in all there {'is' if given == 1 else 'are'} {given}"
                    )
                    missing.append(Problem(what, f"set workerGroups.{group.name}.replicas to {have}, or add GPUs"))
                break
            gpus, left = tuple(left[: group.gpus_per_worker]), left[group.gpus_per_worker :]
            found.append(Assigned(group.name, gpus, _worker(gpus, group.cpus, group.memory)))
    for name, gpus in scenario.added:
        group = next(group for group in scenario.groups if group.name == name)
        found.append(Assigned(name, gpus, _worker(gpus, group.cpus, group.memory)))
    return found, missing


def _worker(gpus: Sequence[Gpu], cpus: float, memory: float) -> Worker:
    """The smallest of its GPUs counts."""
    return Worker(min(gpu.allocatable for gpu in gpus) // MIB, len(gpus), cpus, memory)


def _placed(scenario: Scenario, assigned: Sequence[Assigned]) -> list[Replica]:
    return place(_wanted(scenario), [one.worker for one in assigned], _staying(scenario, assigned))


def _wanted(scenario: Scenario) -> list[Want]:
    return [entry.want for entry in scenario.entries if entry.want.mib]


def _staying(scenario: Scenario, assigned: Sequence[Assigned]) -> list[Replica]:
    by_gpus = {tuple(gpu.id for gpu in one.gpus): number for number, one in enumerate(assigned)}
    running = sorted((one for one in scenario.running if one.gpus in by_gpus), key=lambda one: one.since)
    models = dict.fromkeys(one.model for one in running)
    listed = [Replica(one.model, by_gpus[one.gpus]) for model in models for one in running if one.model == model]
    return staying(_wanted(scenario), listed)


def _model(entry: Entry) -> tuple[Model, Problem | None]:
    want, need = entry.want, entry.need
    split, holds, problem = None, None, None
    if need is not None and want.mib:
        try:
            split = need.split(want.mib)
            holds = need.holds(split.kv_cache)
        except BudgetError as error:
            what, _, fix = str(error).partition(". FIX: ")
            problem = Problem(f"models.{want.model}: {what}", fix)
    model = Model(
        name=want.model,
        source=entry.source,
        replicas=want.replicas,
        devices=want.devices,
        autoscaled=entry.autoscaled,
        vram_mib=want.mib or None,
        vram_said=entry.vram_said,
        weights=need.weights if need else None,
        weights_exact=need.weights_exact if need else None,
        overhead=need.overhead if need else None,
        overhead_measured=need.overhead_measured if need else None,
        kv_cache=split.kv_cache if split else None,
        kv_exact=need.cache is not None if need else None,
        kv_tokens=holds[0] if holds else None,
        requests=holds[1] if holds else None,
        max_model_len=need.max_model_len if need else None,
    )
    return model, problem


def _no_room(entry: Entry, count: int, assigned: Sequence[Assigned]) -> Problem:
    want = entry.want
    there = [one.worker.mib for one in assigned if one.worker.devices == want.devices]
    what = (
        f"{count} of {want.replicas} {'replica' if want.replicas == 1 else 'replicas'} of {want.model} "
        f"({human(want.mib * MIB)}{f' on each of {want.devices} GPUs' if want.devices > 1 else ''}) "
        f"{'has' if count == 1 else 'have'} no room"
    )
    if not there:
        what += f": no worker has {want.devices} {'GPU' if want.devices == 1 else 'GPUs'}"
    elif max(there) < want.mib:
        what += f": a worker's GPU has {human(max(there) * MIB)} for leases at most"
    elif want.most_per_worker == 1 and want.replicas > len(there):
        what += f": they are kept apart (spread), and there are {len(there)} workers"
    return Problem(what, "lower vram or replicas of a model, turn one off (replicas: 0), or add a GPU")


def _devices(scenario: Scenario, assigned: Sequence[Assigned], placed: Sequence[Replica]) -> tuple[Device, ...]:
    worker_of = {gpu.id: number for number, one in enumerate(assigned) for gpu in one.gpus}
    goes_on = Counter(_staying(scenario, assigned))
    found = []
    for gpu in [*(scenario.gpus or ()), *(gpu for _, gpus in scenario.added for gpu in gpus)]:
        number = worker_of.get(gpu.id)
        left = Counter(goes_on)
        held = []
        for replica in placed:
            if replica.worker is not None and replica.worker == number:
                runs = left[replica] > 0
                left[replica] -= 1
                held.append(Held(replica.model, scenario.entry(replica.model).want.mib * MIB, runs))
        found.append(
            Device(
                id=gpu.id,
                group=None if number is None else assigned[number].group,
                total=gpu.total,
                kept=gpu.total - gpu.allocatable,
                replicas=tuple(held),
                free=gpu.allocatable - sum(one.bytes for one in held),
            )
        )
    return tuple(found)
