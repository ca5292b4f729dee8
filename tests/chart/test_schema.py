"""values.yaml and values.schema.json say the same, and the schema says of every key what it is."""

import json
from collections.abc import Iterator
from typing import Any

import helm_python
import pytest
import yaml

from tests.chart.helm import CHART, Json, chart, render, serve_config, texts

SCHEMA: Json = json.loads((CHART / "values.schema.json").read_text())
DEFAULTS: Json = yaml.safe_load((CHART / "values.yaml").read_text())
MODEL: Json = {"source": "owner/a", "vram": "1Gi"}
# A value for each key of modelDefaults that differs from the default.
OTHER: Json = {
    "replicas": 2,
    "autoscaling": {"min": 1, "max": 2},
    "maxModelLen": 1024,
    "maxNumSeqs": 8,
    "tensorParallel": 2,
    "chatTemplate": "x",
    "cpu": 2,
    "memory": "1Gi",
    "spread": False,
    "maxOngoingRequests": 1,
    "defaults": {"temperature": 0.5},
    "engine": {"seed": 1},
    "env": {"A": "b"},
}
WORKERS: Json = {
    "gpu": {"replicas": 2},
    "pair": {
        "replicas": 2,
        "gpusPerWorker": 2,
        "gpuResource": "nvidia.com/gpu",
        "resources": {"requests": {}, "limits": {}},
    },
}


def _resolve(node: Json) -> Json:
    return SCHEMA["$defs"][node["$ref"].rpartition("/")[2]] | node if "$ref" in node else node


def _nodes(node: Json, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Json]]:
    """Every part of the schema that describes a value; `*` stands for the keys of a map."""
    node = _resolve(node)
    yield path, node
    children = dict(node.get("properties", {}))
    if isinstance(node.get("additionalProperties"), dict):
        children["*"] = node["additionalProperties"]
    for key, child in children.items():
        yield from _nodes(child, (*path, key))


NODES = dict(_nodes(SCHEMA))
CLOSED = [path for path, node in NODES.items() if node.get("additionalProperties") is False]


def _missing(values: Json, node: Json, path: str = "") -> Iterator[str]:
    """Keys that only one of the two has."""
    node = _resolve(node)
    known = node.get("properties")
    if known is None:
        inner = node.get("additionalProperties")
        for key, value in values.items():
            if isinstance(inner, dict) and isinstance(value, dict):
                yield from _missing(value, inner, f"{path}.{key}")
        return
    for key in known.keys() ^ values.keys():
        yield f"{path}.{key}"
    for key in known.keys() & values.keys():
        if isinstance(values[key], dict):
            yield from _missing(values[key], known[key], f"{path}.{key}")


def test_values_and_schema_have_the_same_keys() -> None:
    """`global` is Helm's own."""
    assert sorted(_missing(DEFAULTS, SCHEMA)) == [".global"]


@pytest.mark.parametrize("path", [path for path in NODES if path], ids=".".join)
def test_every_key_says_what_it_is(path: tuple[str, ...]) -> None:
    """The `hive` command prints it as the mend of a mistake."""
    assert len(NODES[path].get("description", "")) > 3


def test_model_defaults_has_every_key_that_may_be_missing_in_a_model() -> None:
    """A model's own are its source, its budget and its names."""
    model = NODES["models", "*"]["properties"].keys()
    assert (
        model - {"source", "vram", "aliases", "adapters"}
        == NODES["modelDefaults",]["properties"].keys()
        == OTHER.keys()
    )


@pytest.mark.parametrize("key", OTHER)
def test_a_key_of_model_defaults_and_of_a_model_reach_ray_serve_alike(key: str) -> None:
    """And each of them does something."""
    plain = serve_config({"models": {"a": MODEL}, "workerGroups": WORKERS})
    shared = {"models": {"a": MODEL}, "modelDefaults": {key: OTHER[key]}, "workerGroups": WORKERS}
    own = {"models": {"a": MODEL | {key: OTHER[key]}}, "workerGroups": WORKERS}
    assert serve_config(shared) == serve_config(own) != plain


@pytest.mark.parametrize("path", CLOSED, ids=lambda path: ".".join(path) or "values")
def test_an_unknown_key_is_refused_at_every_level(path: tuple[str, ...]) -> None:
    """A typing mistake must not look like a setting that does nothing."""
    values: Any = {"unknownKey": 1}
    for key in reversed(path):
        values = {"a" if key == "*" else key: values}
    with pytest.raises(helm_python.HelmValuesError, match="additional properties 'unknownKey' not allowed"):
        chart().validate_schema(values)


def _paths(values: Json, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in values.items():
        yield (*path, key)
        if isinstance(value, dict):
            yield from _paths(value, (*path, key))


@pytest.mark.parametrize("path", list(_paths(DEFAULTS)), ids=".".join)
def test_a_default_that_is_taken_away_is_refused_or_not_needed(path: tuple[str, ...]) -> None:
    """`null` takes a key out of Helm's values; what is left must not render as something broken."""
    values: Any = None
    for key in reversed(path):
        values = {key: values}
    try:
        chart().validate_schema(values)
    except helm_python.HelmValuesError:
        return
    if path[0] != "models":
        values["models"] = {"a": MODEL}
    if path == ("gateway", "keysSecret"):
        values["gateway"]["anonymous"] = True
    rendered = render(values)
    assert [obj["kind"] for obj in rendered] == [obj["kind"] for obj in render({})]
    assert "<no value>" not in "".join(texts(values).values())
    assert ": \n" not in texts(values)["templates/rayservice/rayservice.yaml"]
    assert ": \n" not in texts(values)["templates/gateway/deployment.yaml"]
