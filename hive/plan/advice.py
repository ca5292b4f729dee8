"""What would make a scenario fit: the smallest sets of changes, each one planned again before it is said. Pure."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations

from hive.plan.planning import assign, plan
from hive.plan.scenario import Entry, Scenario, new_gpu
from vram_agent.api import GIB

LARGEST_GPU_GIB = 1024
MOST_TOGETHER = 2  # models that are changed together, before all are
MOST_SAID = 6


@dataclass(frozen=True)
class Knob:
    """One figure of a model, and how far it can be turned."""

    steps: int
    turn: Callable[[Scenario, int], Scenario]


def advise(scenario: Scenario) -> list[Scenario]:
    """Scenarios that fit, as near to this one as can be found. None where it fits already, or where nothing helps.
    A checkpoint that can't be read is no matter of figures, and left as it is."""
    if fits(scenario):
        return []
    base = _workers_that_there_are(_enough_vram(scenario))
    if fits(base):
        return [base]
    found = [*_no_loss(base), *_turned(base), *_more_gpus(base)] or list(_off(base))
    return found[:MOST_SAID]


def fits(scenario: Scenario) -> bool:
    """Whether no figure is in the way."""
    return not plan(scenario).misfits


def told(before: Scenario, after: Scenario) -> tuple[str, ...]:
    """The changes from one scenario to another, for people."""
    said = []
    for old, new in zip(before.entries, after.entries, strict=True):
        name, was, becomes = f"models.{old.want.model}", old.want, new.want
        if was.mib != becomes.mib:
            said.append(f"set {name}.vram to {becomes.mib}Mi")
        if was.replicas != becomes.replicas and becomes.replicas == 0:
            place = " in place of autoscaling" if old.autoscaled else ""
            said.append(f"set {name}.replicas to 0{place}, which turns it off")
        elif was.replicas != becomes.replicas:
            said.append(f"set {name}.{'autoscaling.min' if old.autoscaled else 'replicas'} to {becomes.replicas}")
        if was.most_per_worker != becomes.most_per_worker:
            said.append(f"set {name}.spread to false")
    workers = Counter(one.group for one in assign(after)[0])
    for group in before.groups:
        count = workers[group.name]
        if gpus := [gpu for name, added in after.added if name == group.name for gpu in added]:
            more = "one more GPU" if len(gpus) == 1 else f"{len(gpus)} more GPUs"
            said.append(f"add {more} of at least {gpus[0].total // GIB} GiB")
        if group.fewest != group.most and count > group.most:
            said.append(f"set workerGroups.{group.name}.autoscaling.max to {count}")
        elif group.fewest == group.most != count:
            said.append(f"set workerGroups.{group.name}.replicas to {count}")
    return tuple(said)


def _enough_vram(scenario: Scenario) -> Scenario:
    """With budgets that hold at least their model."""
    for entry in scenario.entries:
        if entry.need is not None and 0 < entry.want.mib < entry.need.budget_mib(1):
            scenario = scenario.edit(entry.want.model, mib=entry.need.budget_mib(1))
    return scenario


def _workers_that_there_are(scenario: Scenario) -> Scenario:
    """Without workers for which there are no GPUs."""
    workers = Counter(one.group for one in assign(scenario)[0])
    for group in scenario.groups:
        if workers[group.name] < group.fewest:
            scenario = _sized(scenario, group.name, workers[group.name])
    return scenario


def _no_loss(scenario: Scenario) -> Iterable[Scenario]:
    """What takes nothing from a model: GPUs that no worker has, replicas side by side."""
    for group in scenario.groups:
        for workers in range(group.fewest + 1, len(scenario.gpus or ()) // group.gpus_per_worker + 1):
            more = _sized(scenario, group.name, workers)
            if fits(more):
                yield more
                break
    for unplaced in plan(scenario).unplaced:
        if scenario.entry(unplaced.model).want.most_per_worker == 1:
            together = scenario.edit(unplaced.model, most_per_worker=100)
            if fits(together):
                yield together


def _turned(scenario: Scenario) -> list[Scenario]:
    """Smaller budgets and fewer replicas: one figure, else two together, else all together."""
    widths = {scenario.entry(one.model).want.devices for one in plan(scenario).unplaced}
    knobs = [knob for entry in scenario.entries if entry.want.devices in widths for knob in _knobs(entry)]
    for count in range(1, MOST_TOGETHER + 1):
        found = [one for some in combinations(knobs, count) if (one := _least_turn(scenario, some))]
        if found:
            return found
    everything = _least_turn(scenario, knobs)
    return [everything] if everything else []


def _knobs(entry: Entry) -> Iterable[Knob]:
    want, need = entry.want, entry.need
    if need is not None and want.mib > need.budget_mib(1):
        yield Knob(want.mib - need.budget_mib(1), lambda scenario, step: scenario.edit(want.model, mib=want.mib - step))
    if want.replicas > 1:
        yield Knob(want.replicas - 1, lambda scenario, step: scenario.edit(want.model, replicas=want.replicas - step))


def _least_turn(scenario: Scenario, knobs: Sequence[Knob]) -> Scenario | None:
    """All of these turned as little as possible: first together, then each one back as far as the others allow."""

    def turned(steps: Sequence[int]) -> Scenario:
        result = scenario
        for knob, step in zip(knobs, steps, strict=True):
            result = knob.turn(result, step)
        return result

    most = max((knob.steps for knob in knobs), default=0)
    if not most or not fits(turned([knob.steps for knob in knobs])):
        return None

    def together(part: int) -> list[int]:
        return [-(-knob.steps * part // most) for knob in knobs]

    steps = together(_least(most, lambda part: fits(turned(together(part)))))
    for number in range(len(knobs)):
        enough = partial(lambda others, at, step: fits(turned(_replaced(others, at, step))), steps, number)
        steps = _replaced(steps, number, _least(steps[number], enough))
    return turned(steps)


def _replaced(steps: Sequence[int], at: int, step: int) -> list[int]:
    return [*steps[:at], step, *steps[at + 1 :]]


def _least(most: int, enough: Callable[[int], bool]) -> int:
    """The least of 0 to `most` that is enough, by halving. What is returned was tried, or is `most`, which is known to
    be enough; as packing may jump, a smaller one might do as well."""
    low, high = 0, most
    while low < high:
        middle = (low + high) // 2
        if enough(middle):
            high = middle
        else:
            low = middle + 1
    return high


def _more_gpus(scenario: Scenario) -> Iterable[Scenario]:
    """As few more workers as do, and then GPUs as small as do, in whole GiB. A machine's RAM can't be added to."""
    if scenario.kind == "host":
        return
    lost = Counter[int]()
    for one in plan(scenario).unplaced:
        lost[scenario.entry(one.model).want.devices] += one.replicas
    for group in scenario.groups:
        for workers in range(1, lost[group.gpus_per_worker] + 1):
            larger = partial(_with_gpus, scenario, group.name, group.gpus_per_worker, workers)
            if fits(larger(LARGEST_GPU_GIB)):
                yield larger(_least(LARGEST_GPU_GIB, partial(_fits_with, larger)))
                break


def _fits_with(larger: Callable[[int], Scenario], gib: int) -> bool:
    return fits(larger(gib))


def _with_gpus(scenario: Scenario, group: str, gpus_per_worker: int, workers: int, gib: int) -> Scenario:
    added = tuple(
        (
            group,
            tuple(
                new_gpu(f"new GPU {worker * gpus_per_worker + number}", gib * GIB, scenario.rendered)
                for number in range(gpus_per_worker)
            ),
        )
        for worker in range(workers)
    )
    return replace(scenario, added=added)


def _off(scenario: Scenario) -> Iterable[Scenario]:
    """Without one model."""
    for entry in scenario.entries:
        without = scenario.edit(entry.want.model, replicas=0)
        if entry.want.replicas and fits(without):
            yield without


def _sized(scenario: Scenario, name: str, workers: int) -> Scenario:
    groups = (
        replace(group, fewest=workers, most=max(workers, group.most) if group.most > group.fewest else workers)
        if group.name == name
        else group
        for group in scenario.groups
    )
    return replace(scenario, groups=tuple(groups))
