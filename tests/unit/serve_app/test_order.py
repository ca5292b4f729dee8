"""Which models are placed before which."""

from typing import Any

import pytest

from serve_app.order import larger

Apps = dict[str, Any]


def app(mib: int, cpus: float = 1, memory: float | None = 0, status: str = "DEPLOYING", built: bool = False) -> Apps:
    """One application as Serve's details have it."""
    actor = {"resources": {"model_cpus": cpus}, "memory": memory}
    config = {"args": {"vramMib": mib}, "deployments": [{"ray_actor_options": actor}]}
    return {"status": status, "deployments": {"Model": {}} if built else {}, "deployed_app_config": config}


@pytest.mark.parametrize(
    ("other", "first"),
    [
        (app(3), True),
        (app(1), False),
        (app(3, built=True), False),  # placed already
        (app(3, status="DEPLOY_FAILED"), False),  # never will be
        (app(3, status="NOT_STARTED"), True),
        (app(2, cpus=2), True),
        (app(2, cpus=0.5), False),
        (app(2, memory=1), True),
        (app(2, memory=None), True),  # its equal: by name
    ],
)
def test_what_is_larger_and_not_placed_goes_first(other: Apps, first: bool) -> None:
    assert larger("b", {"a": other, "b": app(2)}) == (["a"] if first else [])


def test_of_equals_one_waits_for_the_other_and_not_both() -> None:
    apps = {"a": app(2), "b": app(2)}
    assert larger("a", apps) == []
    assert larger("b", apps) == ["a"]


def test_nothing_is_waited_for_by_a_model_that_was_taken_away() -> None:
    assert larger("b", {"a": app(3)}) == []
    assert larger("b", {"a": app(3), "b": app(2) | {"deployed_app_config": None}}) == []
