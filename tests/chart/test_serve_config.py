"""serveConfigV2: what Ray Serve makes of it, and what an edit of one model changes."""

import ast
import typing
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from pydantic import BaseModel
from ray.serve.schema import ServeDeploySchema

from serve_app.args import ModelArgs
from serve_app.worker import CPU_RESOURCE, resource_name
from tests.chart.helm import FULL, ROOT, Json, application, ray_service, serve_config, value_sets

MODEL: Json = {"source": "owner/a", "vram": "1Gi"}
PAIR: Json = {"replicas": 2, "gpusPerWorker": 2, "gpuResource": "g/g", "resources": {"requests": {}, "limits": {}}}
DEPLOYMENT = "deployments.0."


def _app(entry: Json, **values: Any) -> Json:
    return application({"models": {"a": MODEL | entry}} | values, "a")


def _deployment(entry: Json, **values: Any) -> Json:
    return dict(_app(entry, **values)["deployments"][0])


def _leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    if not items:
        yield path, node
    for key, value in items:
        yield from _leaves(value, f"{path}.{key}".lstrip("."))


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The pydantic models inside a type like `list[X] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in typing.get_args(annotation):
        yield from _models(inner)


def _unknown(node: Any, model: type[BaseModel], path: str = "") -> Iterator[str]:
    """Keys that Ray's schema does not have; it would ignore them without a word."""
    if isinstance(node, list):
        for item in node:
            yield from _unknown(item, model, path)
    elif isinstance(node, dict):
        for key, value in node.items():
            field = model.model_fields.get(key)
            if field is None:
                yield f"{path}.{key}"
            else:
                for inner in _models(field.annotation):
                    yield from _unknown(value, inner, f"{path}.{key}")


@pytest.mark.parametrize("values", value_sets().values(), ids=list(value_sets()))
def test_ray_serve_takes_it_and_knows_every_key(values: Json) -> None:
    """The schema itself ignores keys that it does not know."""
    config = serve_config(values)
    ServeDeploySchema.model_validate(config)
    assert list(_unknown(config, ServeDeploySchema)) == []


def test_the_check_for_unknown_keys_finds_them_at_every_level() -> None:
    """So the test above can fail."""
    config = serve_config({"models": {"a": MODEL | {"autoscaling": {"min": 1, "max": 1}}}})
    deployment = config["applications"][0]["deployments"][0]
    for node in (config, config["http_options"], deployment, deployment["autoscaling_config"]):
        node["typo"] = 1
    deployment["ray_actor_options"]["typo"] = 1
    assert len(list(_unknown(config, ServeDeploySchema))) == 5


@pytest.mark.parametrize("values", value_sets().values(), ids=list(value_sets()))
def test_the_replica_takes_the_arguments(values: Json) -> None:
    """It refuses unknown and missing keys."""
    for app in serve_config(values)["applications"]:
        assert ModelArgs.model_validate(app["args"]).name == app["name"]


def test_the_import_path_and_the_deployments_name_are_those_of_the_code() -> None:
    """Serve fails an application whose deployment has another name."""
    app = _app({})
    module, _, function = app["import_path"].partition(":")
    tree = ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text())
    (build,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == function]
    names = [keyword.value for node in ast.walk(build) if isinstance(node, ast.Call) for keyword in node.keywords]
    assert app["deployments"][0]["name"] in [node.value for node in names if isinstance(node, ast.Constant)]


def test_every_model_has_one_application_with_one_deployment_and_a_route_of_its_own() -> None:
    """In the order of their names, so that the text is the same every time; a model that is off has none."""
    apps = serve_config(FULL)["applications"]
    assert [(app["name"], app["route_prefix"]) for app in apps] == [
        (name, f"/models/{name}") for name in ("auto", "quad", "several")
    ]
    assert {len(app["deployments"]) for app in apps} == {1}


def test_every_key_is_there_every_time() -> None:
    """Serve keeps what goes missing. `engine`, `env` and names are whole values inside args and runtime_env."""
    plain = {path for path, _ in _leaves(_app({}))}
    for app in serve_config(FULL)["applications"]:
        app["args"] |= {"engine": {}, "adapters": {}, "aliases": []}
        deployment = app["deployments"][0]
        deployment["ray_actor_options"]["runtime_env"]["env_vars"] = {"OMP_NUM_THREADS": "1"}
        deployment["autoscaling_config"] = None
        deployment["ray_actor_options"]["resources"] = {"vram_mib": 1, "model_cpus": 1}
        assert {path for path, _ in _leaves(app)} == plain


EDITS: list[tuple[Json, set[str]]] = [
    ({"replicas": 2}, {DEPLOYMENT + "num_replicas"}),
    ({"maxOngoingRequests": 8}, {DEPLOYMENT + "max_ongoing_requests"}),
    ({"autoscaling": {"min": 1, "max": 2}}, {DEPLOYMENT + "num_replicas", DEPLOYMENT + "autoscaling_config"}),
    ({"vram": "2Gi"}, {"args.vramMib", DEPLOYMENT + "ray_actor_options.resources.vram_mib"}),
    ({"maxModelLen": 8192}, {"args.maxModelLen"}),
    ({"maxNumSeqs": 4}, {"args.maxNumSeqs"}),
    ({"chatTemplate": "x"}, {"args.chatTemplate"}),
    ({"defaults": {"topP": 0.5}}, {"args.defaults.topP"}),
    ({"defaults": {"truncateInput": True}}, {"args.defaults.truncateInput"}),
    ({"aliases": ["gpt-4o"]}, {"args.aliases"}),
    ({"adapters": {"b": "./b"}}, {"args.adapters"}),
    ({"engine": {"seed": 1}}, {"args.engine"}),
    ({"source": "owner/b"}, {"args.source"}),
    (
        {"cpu": 2},
        {
            DEPLOYMENT + "ray_actor_options.resources.model_cpus",
            DEPLOYMENT + "ray_actor_options.runtime_env.env_vars.OMP_NUM_THREADS",
        },
    ),
    ({"memory": "1Gi"}, {DEPLOYMENT + "ray_actor_options.memory"}),
    ({"env": {"A": "b"}}, {DEPLOYMENT + "ray_actor_options.runtime_env.env_vars"}),
    ({"spread": False}, {DEPLOYMENT + "max_replicas_per_node"}),
]


@pytest.mark.parametrize(("edit", "changed"), EDITS, ids=[next(iter(edit)) for edit, _ in EDITS])
def test_an_edit_changes_its_own_key_and_nothing_else(edit: Json, changed: set[str]) -> None:
    """What stands in args restarts the model; replicas and limits of a deployment are applied in place."""
    groups = {"gpu": {"replicas": 2}}
    before, after = (dict(_leaves(_app(entry, workerGroups=groups))) for entry in ({}, edit))
    differing = {path for path in before.keys() | after.keys() if before.get(path, "-") != after.get(path, "-")}
    assert {next((c for c in changed if path.startswith(c)), path) for path in differing} == changed


def test_autoscaling_replaces_replicas() -> None:
    """Serve takes one of the two; a target that nobody named is 16."""
    deployment = _deployment({"autoscaling": {"min": 1, "max": 3}})
    assert deployment["num_replicas"] is None
    assert deployment["autoscaling_config"] == {"min_replicas": 1, "max_replicas": 3, "target_ongoing_requests": 16}
    shared: Json = {"modelDefaults": {"autoscaling": {"min": 1, "max": 3}}}
    assert _deployment({"replicas": 2}, **shared)["autoscaling_config"] is None
    assert _deployment({"replicas": 2}, **shared)["num_replicas"] == 2
    assert _deployment({"autoscaling": None}, **shared)["num_replicas"] == 1


@pytest.mark.parametrize("gpus", [1, 2, 4, 8])
def test_the_resource_is_the_one_that_workers_register(gpus: int) -> None:
    """Else the replica waits for ever."""
    groups = {"gpu": PAIR | {"gpusPerWorker": gpus, "replicas": 1}}
    options = _deployment({"tensorParallel": gpus}, workerGroups=groups)["ray_actor_options"]
    assert options["resources"] == {resource_name(gpus): 1024, CPU_RESOURCE: 1}
    assert (options["num_gpus"], options["num_cpus"]) == (0, 0)


@pytest.mark.parametrize(("cpu", "threads"), [(0, "1"), (0.5, "1"), (1, "1"), (4, "4"), (2.5, "2")])
def test_a_replica_has_as_many_threads_as_cpus(cpu: float, threads: str) -> None:
    """As Ray does it where an actor has CPUs of its own kind. What the entry says itself stays."""
    options = _deployment({"cpu": cpu})["ray_actor_options"]
    assert options["runtime_env"]["env_vars"] == {"OMP_NUM_THREADS": threads}
    said = _deployment({"cpu": cpu, "env": {"OMP_NUM_THREADS": "3"}})["ray_actor_options"]
    assert said["runtime_env"]["env_vars"] == {"OMP_NUM_THREADS": "3"}


@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize(
    ("workers", "tensor_parallel", "spread", "most"),
    [(1, 1, True, 100), (2, 1, True, 1), (2, 1, False, 100), (1, 2, True, 1), (1, 2, False, 100)],
)
def test_spread_depends_on_workers_of_the_models_size_and_never_on_replicas(
    replicas: int, workers: int, tensor_parallel: int, spread: bool, most: int
) -> None:
    """max_replicas_per_node restarts replicas when it changes, and scaling must not."""
    groups = {"gpu": {"replicas": workers}, "pair": PAIR}
    entry = {"replicas": replicas, "tensorParallel": tensor_parallel, "spread": spread}
    assert _deployment(entry, workerGroups=groups)["max_replicas_per_node"] == most


def test_null_false_and_zero_override_model_defaults() -> None:
    """Helm's own merge takes each of them for "not said"."""
    shared: Json = {
        "workerGroups": {"gpu": {"replicas": 2}},
        "modelDefaults": {"maxModelLen": 4096, "memory": "1Gi", "defaults": {"temperature": 0.7, "topP": 0.9}},
    }
    defaults = {"temperature": 0, "topP": None}
    app = _app({"maxModelLen": None, "memory": None, "spread": False, "cpu": 0, "defaults": defaults}, **shared)
    assert app["args"]["maxModelLen"] is None
    assert app["args"]["defaults"] == {"maxTokens": None, "temperature": 0, "topP": None, "truncateInput": False}
    options = app["deployments"][0]["ray_actor_options"]
    assert (options["memory"], options["resources"][CPU_RESOURCE]) == (None, 0)
    assert app["deployments"][0]["max_replicas_per_node"] == 100


@pytest.mark.parametrize("number", [0, 999_999, 1_000_000, 10_485_760, 2**32, 2**53])
def test_integers_stay_integers(number: int) -> None:
    """Helm reads numbers as floats, and prints 1e+06 where one is not careful."""
    args = _app({"maxModelLen": max(1, number), "engine": {"seed": number}})["args"]
    assert args["engine"]["seed"] == number
    assert isinstance(args["engine"]["seed"], int)
    assert isinstance(args["maxModelLen"], int)
    assert "e+" not in ray_service({"models": {"a": MODEL | {"engine": {"seed": number}}}})["serveConfigV2"]


def test_secrets_that_pods_get_by_reference_never_stand_in_it() -> None:
    """The operator logs it."""
    text = yaml.safe_dump(serve_config(FULL))
    assert "hub-token" not in text
    assert "ray-token" not in text
