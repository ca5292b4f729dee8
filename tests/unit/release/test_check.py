"""What `helm test` finds wrong."""

from typing import Any

from release.check import drift, vram
from tests.unit.release.test_changes import cluster, group, pod, service

Json = dict[str, Any]


def state(*leases: tuple[str, str], error: str = "") -> Json:
    device = {"id": "GPU-0", "name": "Fake", "error": error or None, "free": 5 << 20}
    return {"devices": [device], "leases": [{"model": model, "state": it} for model, it in leases]}


def test_a_model_needs_a_lease_that_serves_on_some_node() -> None:
    states = {"one": state(("a", "STARTING")), "two": state(("b", "ACTIVE"))}
    assert list(vram(states, ["a", "b"]))[2:] == [(False, "a holds 0 active leases"), (True, "b holds 1 active leases")]


def test_a_device_on_which_nothing_is_granted_is_said_with_the_reason() -> None:
    (device,) = vram({"one": state(error="MIG mode")}, [])
    assert device == (False, "one: Fake GPU-0: MIG mode")


def test_what_runs_is_compared_with_what_is_asked_for() -> None:
    asked = service(group("a", 2))
    assert [ok for ok, _ in drift(asked, cluster(group("a", 2)), [pod("a-1", "a", "new")])] == [True, True]
    pods, workers = drift(asked, cluster(group("a", 1)), [pod("a-1", "a", "old")])
    assert pods == (False, "pods of an older template: a-1")
    assert workers == (False, "asked for, and not so: a.replicas: 2, a.minReplicas: 2, a.maxReplicas: 2")
