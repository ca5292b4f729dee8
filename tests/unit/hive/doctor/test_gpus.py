"""GPUs: offered by nodes, seen by agents, leased."""

from typing import Any

import pytest

from hive.doctor import gpus
from hive.doctor.finding import Verdict
from tests.unit.hive.doctor.objects import Json, device, lease, named, node, only, pod, state, verdicts, workload
from vram_agent.api import GIB

OK, WARNING, FAILED = Verdict
GPU = ["nvidia.com/gpu"]
PRESENT = {"nvidia.com/gpu.present": "true"}
PLUGIN = workload("plugin", "example.org/nvidia/k8s-device-plugin:v0.17", numberReady=2, desiredNumberScheduled=2)


def test_nodes_that_offer_gpus_are_counted() -> None:
    found = list(gpus.plugin([node("n1", 2), node("n2", 1), node("cpu")], [PLUGIN], GPU))
    assert verdicts(found) == [OK, OK]
    assert "3 on 2 nodes" in found[1].what


def test_a_plugin_that_is_not_ready_everywhere_is_said() -> None:
    half = workload("nvidia-device-plugin", "example.org/x", numberReady=1, desiredNumberScheduled=2)
    assert verdicts(gpus.plugin([node("n1", 2)], [half], GPU)) == [FAILED, OK]


def test_without_gpus_the_mend_depends_on_the_plugin() -> None:
    assert "helm install" in only(gpus.plugin([node("n1")], [], GPU)).fix
    found = list(gpus.plugin([node("n1")], [PLUGIN], GPU))
    assert verdicts(found) == [OK, FAILED]
    assert "driver" in found[1].fix


def test_no_plugin_is_needed_where_no_worker_asks_for_gpus() -> None:
    assert only(gpus.plugin([node("n1")], [], [])).verdict is OK


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"labels": {"nvidia.com/gpu.sharing-strategy": "time-slicing"}}, "time-slicing"),
        ({"nvidia.com/mig-1g.10gb": 7}, "MIG"),
    ],
)
def test_gpus_that_are_given_out_in_parts_are_refused(more: Json, words: str) -> None:
    _, finding = gpus.plugin([node("n1", 8, **more)], [], GPU)
    assert (finding.verdict, words in finding.what) == (FAILED, True)
    whole = node("n1", 8, labels={"nvidia.com/gpu.sharing-strategy": "none"})
    assert verdicts(gpus.plugin([whole], [], GPU)) == [OK]


def test_a_gpu_node_without_the_agents_label_is_named() -> None:
    nodes = [node("n1", 1, PRESENT), node("n2", 1), node("cpu")]
    finding = only(gpus.reach(nodes, PRESENT, GPU))
    assert (finding.verdict, finding.what.endswith(": n2")) == (FAILED, True)
    assert "label node n2 nvidia.com/gpu.present=true" in finding.fix
    assert only(gpus.reach(nodes[:1], PRESENT, GPU)).verdict is OK
    assert only(gpus.reach(nodes, {}, GPU)).verdict is OK


def agents(*pods: Json, **more: Any) -> list[Verdict]:
    nodes = more.get("nodes", [node("n1", 1, PRESENT), node("cpu")])
    return verdicts(gpus.agents(nodes, more.get("selector", PRESENT), pods))


def test_each_gpu_node_has_an_agent_that_is_ready() -> None:
    assert agents(pod("a")) == [OK]
    assert agents() == [FAILED]
    assert agents(pod("a", ready=False)) == [FAILED]
    assert agents(pod("a"), nodes=[node("cpu")]) == [FAILED], "nobody has the label"


def test_an_agent_that_may_run_everywhere_is_looked_for_where_it_is() -> None:
    assert agents(pod("a"), selector={}) == [OK]


def test_of_two_agents_on_a_node_the_one_that_leaves_does_not_count() -> None:
    leaving = pod("old", ready=False)
    leaving["metadata"]["deletionTimestamp"] = "now"
    assert agents(pod("a"), leaving) == [OK]


def test_the_agent_sees_what_kubernetes_offers() -> None:
    nodes = [node("n1", 2), node("cpu")]
    one, two = device("GPU-0"), device("GPU-1")
    assert verdicts(gpus.seen(nodes, {"n1": state(one, two)}, GPU)) == [OK]
    assert verdicts(gpus.seen(nodes, {"n1": state(one)}, GPU)) == [WARNING]
    host = device("host", kind="host")
    assert "no driver" in only(gpus.seen(nodes, {"n1": state(host)}, GPU)).what
    assert verdicts(gpus.seen(nodes, {}, GPU)) == [], "said where agents are looked for"


@pytest.mark.parametrize(
    ("it", "expected"),
    [
        (device(), [OK]),
        (device(error="MIG mode"), [FAILED]),
        (device(error="the last sample is 9.0 s old (limit 3.0 s)"), [FAILED]),
        (device(free=-GIB, leased=24 * GIB), [FAILED, OK]),
        (device(foreign=2 * GIB), [WARNING, OK]),
        (device("host", kind="host", foreign=2 * GIB), [OK]),
    ],
)
def test_devices_that_grant_nothing_or_are_used_by_others(it: Any, expected: list[Verdict]) -> None:
    assert verdicts(gpus.devices({"n1": state(it)})) == expected


def test_leases_are_counted_by_device() -> None:
    found = only(gpus.devices({"n1": state(device(leased=8 * GIB), leases=(lease("a"), lease("b")))}))
    assert "8.00 GiB of 24.00 GiB leased, 23.25 GiB free, 2 leases" in found.what


def test_runtime_classes_that_values_name_are_there() -> None:
    found = list(gpus.runtime_classes({"nvidia", "gone"}, [named("nvidia"), named("kata")]))
    assert verdicts(found) == [FAILED, OK]
    assert "kata, nvidia" in found[0].fix
    assert verdicts(gpus.runtime_classes({"gone"}, [])) == [FAILED]
