"""What an edit does to what runs."""

import copy
from typing import Any

import pytest

from hive.changes import Change, Effect, compare

APP: dict[str, Any] = {
    "name": "m",
    "route_prefix": "/models/m",
    "import_path": "serve_app.model:build",
    "runtime_env": {},
    "args": {"maxModelLen": 8, "engine": {}, "chatTemplate": None},
    "deployments": [
        {"name": "Model", "num_replicas": 1, "user_config": None, "ray_actor_options": {"num_cpus": 1, "memory": None}}
    ],
}


def config(*apps: dict[str, Any]) -> dict[str, Any]:
    return {"applications": list(apps)}


def edited(path: list[Any], value: Any) -> dict[str, Any]:
    app = copy.deepcopy(APP)
    inner: Any = app
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return app


def test_nothing_changes_for_equal_configs() -> None:
    assert compare(config(APP), config(copy.deepcopy(APP))) == []


def test_keys_that_serve_leaves_out_when_null_are_no_change() -> None:
    answered = edited(["args"], {"maxModelLen": 8, "engine": {}})
    del answered["deployments"][0]["user_config"]
    assert compare(config(answered), config(APP)) == []


def test_a_model_starts_and_another_stops() -> None:
    other = edited(["name"], "other")
    assert compare(config(APP), config(other)) == [
        Change("m", Effect.REMOVE, ""),
        Change("other", Effect.ADD, ""),
    ]


@pytest.mark.parametrize(
    ("path", "value", "effect", "details"),
    [
        (["deployments", 0, "num_replicas"], 2, Effect.IN_PLACE, "num_replicas 1 -> 2"),
        (["args", "maxModelLen"], 16, Effect.RESTART, "maxModelLen 8 -> 16"),
        (["args", "engine", "dtype"], "float32", Effect.RESTART, "engine.dtype None -> float32"),
        (["deployments", 0, "ray_actor_options", "num_cpus"], 2, Effect.RESTART, "num_cpus 1 -> 2"),
        (["deployments", 0, "user_config"], {"a": 1}, Effect.IN_PLACE, "user_config.a None -> 1"),
    ],
)
def test_what_an_edit_does(path: list[Any], value: Any, effect: Effect, details: str) -> None:
    assert compare(config(APP), config(edited(path, value))) == [Change("m", effect, details)]
