"""What `hive doctor --deep` finds in Ray."""

import json
from typing import Any

import pytest

from hive.doctor import ray_cluster
from hive.doctor.finding import Verdict
from hive.placement import Worker
from hive.ray_nodes import RayNode
from tests.unit.hive.doctor.objects import device, only, state, verdicts
from vram_agent.api import GIB, MIB, State

OK, WARNING, FAILED = Verdict
ALL = device().allocatable // MIB


def worker(address: str, mib: int, devices: int = 1) -> RayNode:
    return RayNode(address, address, Worker(mib, devices))


def nodes(*found: RayNode, of: State) -> list[Verdict]:
    return verdicts(ray_cluster.nodes(found, {"1.1": "n1", "1.2": "n1"}, {"n1": of}))


def test_the_version_is_that_of_the_values() -> None:
    assert only(ray_cluster.version({"ray_version": "2.60.0"}, "2.60.0")).verdict is OK
    assert only(ray_cluster.version({"ray_version": "2.59.0"}, "2.60.0")).verdict is WARNING


def test_jobs_are_counted() -> None:
    found = [{"status": "RUNNING"}, {"status": "SUCCEEDED"}, {"status": "PENDING"}]
    assert "3 jobs, 2 of them not ended" in only(ray_cluster.jobs(found)).what


def test_workers_offer_what_their_agent_grants() -> None:
    assert nodes(worker("1.1", ALL), of=state(device())) == [OK]
    two = state(device("GPU-0"), device("GPU-1", total=48 * GIB))
    large = device(total=48 * GIB).allocatable // MIB
    assert nodes(worker("1.1", ALL), worker("1.2", large), of=two) == [OK, OK]
    assert nodes(worker("1.1", ALL, 2), of=two) == [OK]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([worker("1.1", ALL + 1)], [WARNING]),  # a replica would be placed and then refused
        ([worker("1.1", ALL, 2)], [FAILED]),
        ([worker("1.1", ALL), worker("1.2", ALL)], [OK, FAILED]),
        ([], [FAILED]),
        ([worker("9.9", ALL)], [FAILED]),
    ],
)
def test_workers_that_offer_something_else(found: list[RayNode], expected: list[Verdict]) -> None:
    assert nodes(*found, of=state(device())) == expected


def test_a_device_that_no_worker_offers_is_named() -> None:
    assert nodes(worker("1.1", ALL), of=state(device("GPU-0"), device("GPU-1"))) == [OK, WARNING]


def test_ram_moves_and_is_not_compared() -> None:
    host = device("host", kind="host", foreign=2 * GIB)
    assert nodes(worker("1.1", ALL), of=state(host)) == [OK]


def line(node: str, **more: Any) -> str:
    return json.dumps({"node": node, "ok": True, "cpus": 2, "mib": 1000, "seconds": 2.0} | more)


def test_each_node_computes() -> None:
    finding = only(ray_cluster.stress(f"2026 INFO worker.py connecting\n{line('abcdefgh12')}\n"))
    assert finding.verdict is OK
    assert "abcdefgh: 2 hashed 1000 MiB in 2.0 s, 250 MiB/s each" in finding.what


def test_a_node_that_fails_or_is_slow_is_said() -> None:
    slow, dead = line("slow", mib=400), json.dumps({"node": "dead", "ok": False, "error": "NodeDiedError"})
    assert verdicts(ray_cluster.stress("\n".join([line("a"), line("b"), slow, dead]))) == [OK, OK, WARNING, FAILED]
    assert "NodeDiedError" in only(ray_cluster.stress(dead)).what
    wrong = line("wrong", ok=False, mib=-1)
    assert "reckoned wrong" in only(ray_cluster.stress(wrong)).what


def test_a_job_without_a_word_is_a_failure_with_its_last_ones() -> None:
    assert "ModuleNotFoundError" in only(ray_cluster.stress("Traceback\nModuleNotFoundError: ray")).what
    assert only(ray_cluster.stress("")).verdict is FAILED
