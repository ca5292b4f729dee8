"""What a plan says: every byte of every device, every replica, and ways out that really are some."""

import json
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hive import bars
from hive.placement import place
from hive.plan import documents, picture
from hive.plan.advice import advise, fits, told
from hive.plan.planning import assign, plan
from hive.plan.scenario import Group, Scenario, Stay, quantity
from tests.unit.hive.planned import entry, gpu, llama, scenario
from vram_agent.api import GIB, MIB

LEAST = llama().budget_mib(1)


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    """Some models on some GPUs; budgets from too small to too large."""
    entries = [
        entry(
            name,
            mib=draw(st.integers(LEAST - 1024, LEAST + 12 * 1024)),
            replicas=draw(st.integers(0, 3)),
            known=llama() if draw(st.booleans()) else None,
            devices=draw(st.sampled_from([1, 1, 2])),
            most=draw(st.sampled_from([1, 100])),
        )
        for name in "abc"[: draw(st.integers(1, 3))]
    ]
    gpus = draw(st.lists(st.integers(4, 40), min_size=1, max_size=5))
    singles, pairs = draw(st.integers(0, 4)), draw(st.integers(0, 1))
    found = scenario(entries, gpus, [Group("one", singles, singles, 1), Group("two", pairs, pairs, 2)])
    return found if draw(st.booleans()) else replace(found, kind="host")


@given(asked=scenarios())
def test_every_byte_of_every_device_is_accounted_for_and_every_replica_is_somewhere(asked: Scenario) -> None:
    found = plan(asked)
    for device in found.devices:
        assert device.kept + sum(one.bytes for one in device.replicas) + device.free == device.total
        assert device.free >= 0
        assert device.group or not device.replicas
        assert sum(segment.bytes for segment in picture.segments(device)) == device.total
    for one in asked.entries:
        held = sum(held.model == one.want.model for device in found.devices for held in device.replicas)
        lost = sum(unplaced.replicas for unplaced in found.unplaced if unplaced.model == one.want.model)
        assert held + lost * one.want.devices == one.want.replicas * one.want.devices


@given(asked=scenarios())
def test_replicas_stand_where_the_rule_puts_them(asked: Scenario) -> None:
    workers, _ = assign(asked)
    placed = place([one.want for one in asked.entries], [one.worker for one in workers])
    found = {device.id: [held.model for held in device.replicas] for device in plan(asked).devices}
    for number, worker in enumerate(workers):
        for own in worker.gpus:
            assert found[own.id] == [replica.model for replica in placed if replica.worker == number]


@settings(max_examples=60)
@given(asked=scenarios())
def test_all_that_is_advised_fits_when_planned_again_and_changes_something(asked: Scenario) -> None:
    found = advise(asked)
    assert not (found and fits(asked))
    for one in found:
        assert not plan(one).misfits
        assert told(asked, one)
        for old, new in zip(asked.entries, one.entries, strict=True):
            assert new.want.replicas <= old.want.replicas
            if old.need and new.want.mib != old.want.mib:
                assert new.want.mib >= old.need.budget_mib(1), "it would not start"


def test_one_model_that_is_too_large_gets_the_largest_budget_that_fits_or_a_gpu_that_holds_it() -> None:
    asked = scenario([entry("big", 20 * 1024, known=llama())], [16])
    assert [told(asked, one) for one in advise(asked)] == [
        (f"set models.big.vram to {16 * 1024 - 1280}Mi",),
        ("add one more GPU of at least 22 GiB", "set workerGroups.gpu.replicas to 2"),
    ]


def test_one_replica_less_is_advised_and_two_models_only_where_one_does_not_do() -> None:
    asked = scenario([entry("a", 10 * 1024, replicas=3)], [24])
    assert ("set models.a.replicas to 2",) in [told(asked, one) for one in advise(asked)]
    asked = scenario([entry("a", 12 * 1024, replicas=2), entry("b", 12 * 1024, replicas=2)], [14, 14])
    assert told(asked, advise(asked)[0]) == ("set models.a.replicas to 1", "set models.b.replicas to 1")


def test_a_model_that_scales_by_itself_is_turned_off_by_replicas() -> None:
    asked = scenario([replace(entry("a", 30 * 1024), autoscaled=True)], [24])
    asked = replace(asked, kind="host")
    assert [told(asked, one) for one in advise(asked)] == [
        ("set models.a.replicas to 0 in place of autoscaling, which turns it off",)
    ]


def test_a_budget_below_its_model_is_raised_and_planned_with_that() -> None:
    asked = scenario([entry("a", LEAST - 1, known=llama())], [24])
    assert [told(asked, one) for one in advise(asked)] == [(f"set models.a.vram to {LEAST}Mi",)]
    (problem,) = plan(asked).problems
    assert "weights take 2.00 GiB" in problem.what
    assert f"at least {LEAST}Mi" in problem.fix


def test_gpus_that_no_worker_takes_are_used_first() -> None:
    asked = scenario([entry("a", 10 * 1024, 2)], [16, 16], [Group("gpu", 1, 1, 1)])
    assert told(asked, advise(asked)[0]) == ("set workerGroups.gpu.replicas to 2",)


def test_replicas_that_are_kept_apart_may_stand_together() -> None:
    asked = scenario([entry("a", 4 * 1024, 3, most=1)], [16, 16])
    assert ("set models.a.spread to false",) in [told(asked, one) for one in advise(asked)]
    assert "kept apart (spread)" in plan(asked).problems[0].what


def test_two_models_that_need_a_gpu_each_get_two() -> None:
    asked = scenario([entry("a", 30 * 1024, 2, most=1)], [16])
    assert [told(asked, one) for one in advise(asked)] == [
        ("add 2 more GPUs of at least 32 GiB", "set workerGroups.gpu.replicas to 3")
    ]


def test_tensor_parallel_replicas_take_as_much_of_each_gpu() -> None:
    asked = scenario([entry("wide", 8 * 1024, devices=2)], [24, 16], [Group("pair", 1, 1, 2)])
    found = plan(asked)
    assert found.fits
    assert [device.free for device in found.devices] == [gpu(0, gib).allocatable - 8 * GIB for gib in (24, 16)]


def test_without_gpus_budgets_are_checked_and_nothing_is_placed() -> None:
    asked = replace(scenario([entry("a", LEAST, known=llama())], [16]), gpus=None)
    found = plan(asked)
    assert found.fits
    assert found.devices == ()
    assert found.models[0].requests == 1


def test_a_replica_that_runs_stays_where_it_is() -> None:
    asked = scenario([entry("a", 4 * 1024), entry("b", 2 * 1024)], [8, 24])
    assert [[held.model for held in device.replicas] for device in plan(asked).devices] == [["a", "b"], []]
    running = replace(asked, running=(Stay("a", ("GPU 1",)),))
    devices = plan(running).devices
    assert [[(held.model, held.runs) for held in device.replicas] for device in devices] == [
        [],
        [("a", True), ("b", False)],
    ]


def test_of_too_many_replicas_one_on_the_emptiest_worker_goes() -> None:
    asked = scenario([entry("a", 1024, 2), entry("b", 1024)], [8, 8])
    stays = (Stay("a", ("GPU 0",), 1), Stay("b", ("GPU 0",), 1), Stay("a", ("GPU 1",), 2), Stay("a", ("GPU 0",), 3))
    devices = plan(replace(asked, running=stays)).devices
    assert [[held.model for held in device.replicas] for device in devices] == [["a", "a", "b"], []]


@given(sizes=st.lists(st.integers(0, 100 * GIB), max_size=8), width=st.integers(1, 200))
def test_cells_are_shared_out_to_the_last(sizes: list[int], width: int) -> None:
    found = bars.cells(sizes, width)
    assert all(count >= 0 for count in found)
    assert sum(found) == (width if sum(sizes) else 0)


@settings(max_examples=30)
@given(asked=scenarios())
def test_the_views_are_well_formed_and_say_the_same(asked: Scenario) -> None:
    found = replace(plan(asked), advice=tuple(told(asked, one) for one in advise(asked)[:1]))
    assert json.loads(documents.json(found))["fits"] == found.fits
    root = ElementTree.fromstring(documents.svg(found))
    rectangles = [shape for shape in root if shape.tag.endswith("rect")][1:]
    assert len(rectangles) == sum(len(picture.segments(device)) for device in found.devices)
    text = documents.markdown(found)
    for table in (block for block in text.split("\n\n") if block.startswith("|")):
        assert len({line.replace("\\|", "").count("|") for line in table.splitlines()}) == 1
    for model in found.models:
        assert model.name in text


def test_markdown_shows_what_a_cell_would_swallow() -> None:
    asked = scenario([replace(entry("a", 1024), source="x")], [8])
    odd = replace(asked, gpus=(replace(gpu(0, 8), id="a|b<c>\n*d*"),))
    assert "a\\|b\\<c> \\*d\\*" in documents.markdown(plan(odd))


@pytest.mark.parametrize(
    ("said", "expected"), [("16Gi", 16 * GIB), ("500m", 0.5), ("4", 4), (4, 4), ("1.5", 1.5), ("1M", 10**6)]
)
def test_quantities_of_kubernetes(said: str | int, expected: float) -> None:
    assert quantity(said) == expected


@given(gib=st.integers(1, 8), requests=st.integers(1, 64), length=st.integers(16, 8192))
def test_a_budget_for_so_many_requests_holds_them_and_one_mib_less_does_not(
    gib: int, requests: int, length: int
) -> None:
    need = llama(gib, maxModelLen=length)
    budget = need.budget_mib(requests)
    holds = need.holds(need.split(budget).kv_cache)
    assert holds is not None
    assert holds[1] >= requests
    least = (need.weights + need.overhead + need.cache.needed(requests)) if need.cache else 0
    assert budget - 1 < max(least, need.weights + need.overhead + 16 * MIB) / MIB <= budget
