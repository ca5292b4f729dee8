"""The gateway's files: Envoy takes them whatever the names, and an edit changes no more of them than it has to."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.envoy import replicas
from tests.chart import envoy
from tests.chart.helm import FULL, Json, Loader, complete, find, render, texts, value_sets

MODEL: Json = {"source": "owner/a", "vram": "1Gi"}
# Words that YAML, or Envoy's reader of it, takes for something else; and what the gateway itself is called inside.
WORDS = ["on", "off", "y", "n", "yes", "no", "true", "false", "null", "nan", "e1", "admin", "discovery", "gateway"]
WEIRD: Json = {
    "models": {word: MODEL for word in WORDS}
    | {
        "x" * 40: MODEL | {"aliases": ["a/b:c.d_e-f", "owner/Model-7B.v1:latest", "A" * 128, "0", "1e3", "0x1f"]},
        "z": MODEL | {"aliases": ["NULL", "True", "3.14", "12:30:00"], "adapters": {"Z/a:b.c": "./z", "0b1": "./z"}},
    },
    "gateway": {
        "keysSecret": "0x1f",
        "clients": {
            "a.b.c": {"models": ["on", "z"], "requestsPerMinute": 10**6},
            "null": {"models": [], "requestsPerMinute": 1},
            "1.0": {"requestsPerMinute": 59},
            "A_-.": {},
        },
    },
}
MANY: Json = {
    "models": {f"model-{n}": MODEL | {"aliases": [f"alias-{n}", f"owner/alias:{n}"]} for n in range(200)},
    "gateway": {"keysSecret": "keys", "clients": {f"client-{n}": {"models": ["model-7"]} for n in range(3)}},
}
SETS = value_sets() | {"weird": WEIRD, "many": MANY}


def _edited(before: Json, after: Json) -> tuple[set[str], bool]:
    """Which of the files an edit changes, and whether it starts the pods anew."""
    files = [envoy.configuration(values) for values in (before, after)]
    pods = [find(render(values), "Deployment")["spec"] for values in (before, after)]
    return {name for name in files[0] if files[0][name] != files[1][name]}, pods[0] != pods[1]


def _read(values: Json, name: str) -> Any:
    return yaml.load(envoy.configuration(values)[name], Loader)


def _routes(values: Json) -> list[Json]:
    """Those that lead to a model."""
    (host,) = _read(values, "routes.yaml")["resources"][0]["virtual_hosts"]
    return [route for route in host["routes"] if "name" in route]


def _names(values: Json, model: str) -> set[str]:
    """What a body's `model` may say to get to a model."""
    (route,) = [r for r in _routes(values) if r["name"] == model and "dynamic_metadata" in r["match"]]
    (metadata,) = route["match"]["dynamic_metadata"]
    matchers = metadata["value"].get("or_match", {}).get("value_matchers") or [metadata["value"]]
    return {matcher["string_match"]["exact"] for matcher in matchers}


@pytest.mark.parametrize("values", SETS.values(), ids=list(SETS))
def test_envoy_takes_every_file(values: Json, tmp_path: Path) -> None:
    """As the pod starts it; and its routes, keys and replicas, which it would only refuse as it runs."""
    root = envoy.folder(values, tmp_path)
    assert envoy.refusal((root / "config/envoy.yaml").read_text(), root) is None
    assert envoy.refusal(envoy.whole(root), root) is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("(?:/models/a)?", "(?:(/models/a)?"),  # a route's expression
        ("cluster: _discovery", "cluster: typo"),
        ("metadata_match: ", "metadata_typo: "),
        ("fallback_policy: NO_FALLBACK", "fallback_policy: TYPO"),
        ('"metadata": {', '"typo": {'),
        ('"key": "sk-a-key-of-the-test-0"', '"key": ""'),
        ('"address": "10.0.0.1"', '"address": "a-name"'),
        ('name: "a"', "name: on"),
    ],
)
def test_the_check_finds_mistakes_in_every_file(old: str, new: str, tmp_path: Path) -> None:
    """So the test above can fail."""
    root = envoy.folder({"models": {"a": MODEL}}, tmp_path)
    text = envoy.whole(root)
    assert old in text
    assert envoy.refusal(text.replace(old, new), root) is not None


def test_no_file_holds_a_key() -> None:
    """Envoy reads keys from run/, which is in memory, where there are any; ConfigMaps are for whoever may look."""
    for values in SETS.values():
        files = envoy.configuration(values)
        assert "credentials" not in "".join(files.values())
        assert ("path: run/keys.json" in files["envoy.yaml"]) == bool(complete(values)["gateway"].get("keysSecret"))


BASE: Json = {"models": {"a": MODEL, "b": MODEL}, "workerGroups": {"gpu": {"replicas": 3}}}
LIVE = {"routes.yaml", "gateway.json"}
EDITS: dict[str, tuple[Json, set[str], bool]] = {
    "a model more": ({"models": BASE["models"] | {"c": MODEL}}, LIVE, False),
    "a model less": ({"models": {"a": MODEL}}, LIVE, False),
    "a model off": ({"models": BASE["models"] | {"b": MODEL | {"replicas": 0}}}, LIVE, False),
    "a replica more": ({"models": BASE["models"] | {"b": MODEL | {"replicas": 2}}}, set(), False),
    "a budget": ({"models": BASE["models"] | {"b": MODEL | {"vram": "2Gi"}}}, set(), False),
    "an alias": (
        {"models": BASE["models"] | {"b": MODEL | {"aliases": ["c"]}}},
        LIVE,
        False,
    ),
    "an allow-list": ({"gateway": {"clients": {"c": {"models": ["a"]}}}}, LIVE, False),
    "a client without limits": ({"gateway": {"clients": {"c": {}}}}, set(), False),
    "a limit": ({"gateway": {"clients": {"c": {"requestsPerMinute": 1}}}}, {"envoy.yaml"}, True),
    "larger bodies": ({"gateway": {"maxBodyMib": 64}}, {"envoy.yaml"}, True),
    "longer waits": ({"gateway": {"idleTimeoutSeconds": 601}}, {"envoy.yaml"}, True),
    "another port": ({"ports": {"gateway": 9999}}, {"envoy.yaml"}, True),
    "nobody is asked": ({"gateway": {"anonymous": True}}, {"envoy.yaml", "routes.yaml"}, True),
    "no page": ({"gateway": {"page": False}}, {"envoy.yaml", "routes.yaml"}, True),
    "a port of Ray": ({"ports": {"serve": 9999}}, set(), False),
}


@pytest.mark.parametrize(("edit", "files", "anew"), EDITS.values(), ids=list(EDITS))
def test_an_edit_restarts_the_gateway_only_where_envoy_can_not_take_it_over(
    edit: Json, files: set[str], anew: bool
) -> None:
    """Models come and go while requests are under way."""
    assert _edited(BASE, BASE | edit) == (files, anew)


def test_more_pods_are_not_other_pods() -> None:
    """A change of the template would replace those that serve."""
    one, three = (find(render({"gateway": {"replicas": n}}), "Deployment")["spec"] for n in (1, 3))
    assert (one["replicas"], three["replicas"]) == (1, 3)
    assert one["template"] == three["template"]


def test_a_model_that_is_off_has_no_routes() -> None:
    """Its name then gets the answer of any model that does not exist, which names those that do."""
    names = {"auto", "quad", "several"}
    assert {route["name"] for route in _routes(FULL)} == names
    assert set(json.loads(envoy.configuration(FULL)["gateway.json"])["models"]) == names
    assert "The models are: auto, quad, several" in envoy.configuration(FULL)["routes.yaml"]


def test_without_a_model_there_is_no_route_to_one_and_the_answer_says_so() -> None:
    assert _routes({}) == []
    assert "The models are: none" in envoy.configuration({})["routes.yaml"]


@pytest.mark.parametrize("values", SETS.values(), ids=list(SETS))
def test_a_route_leads_to_replicas_of_its_model_and_to_no_others(values: Json) -> None:
    """A route asks for what discovery says of a replica, letter by letter. Where there is none, none answers."""
    (cluster,) = [c for c in _read(values, "envoy.yaml")["static_resources"]["clusters"] if c["name"] == "replicas"]
    assert cluster["lb_subset_config"] == {"subset_selectors": [{"keys": ["model"]}], "fallback_policy": "NO_FALLBACK"}
    models = json.loads(envoy.configuration(values)["gateway.json"])["models"]
    (assignment,) = replicas(dict.fromkeys(models, envoy.REPLICAS[:1]))["resources"]
    assert assignment["cluster_name"] == cluster["name"]
    said = {
        str(one["metadata"]["filter_metadata"]): model
        for one, model in zip(assignment["endpoints"][0]["lb_endpoints"], sorted(models), strict=True)
    }
    for route in _routes(values):
        assert route["route"]["cluster"] == cluster["name"]
        assert said[str(route["route"]["metadata_match"]["filter_metadata"])] == route["name"]


def test_aliases_and_adapters_are_names_of_their_model() -> None:
    """In bodies, and in what discovery is told; paths have the model's own name alone."""
    names = ["auto", "gpt-4o", "owner/auto", "Auto:Chat", "auto-sql"]
    assert json.loads(envoy.configuration(FULL)["gateway.json"])["models"]["auto"] == names
    assert _names(FULL, "auto") == set(names)
    assert _names(FULL, "quad") == {"quad"}


def test_only_clients_whose_list_lacks_a_model_are_kept_from_it() -> None:
    """On both of its routes. An empty list is a list; none at all is every model."""
    kept = {}
    for route in _routes(FULL):
        rules = route["typed_per_filter_config"]["envoy.filters.http.rbac"]["rbac"]["rules"]
        assert rules["action"] == "DENY"
        clients = {who["header"]["string_match"]["exact"] for who in rules["policies"]["kept"]["principals"]}
        assert kept.setdefault(route["name"], clients) == clients
    assert kept == {"auto": {"nothing"}, "quad": {"nothing"}, "several": {"nothing", "alice"}}
    assert json.loads(envoy.configuration(FULL)["gateway.json"])["allowed"] == {
        "alice": ["quad", "auto"],
        "nothing": [],
    }


def test_a_model_that_all_may_use_has_no_rules() -> None:
    """One that denies nobody would be refused by Envoy."""
    (route, _) = _routes({"models": {"a": MODEL}, "gateway": {"clients": {"c": {"models": ["a"]}, "d": {}}}})
    assert "typed_per_filter_config" not in route


def _connection(values: Json) -> Json:
    """How requests are taken."""
    listener = _read(values, "envoy.yaml")["static_resources"]["listeners"][0]
    return dict(listener["filter_chains"][0]["filters"][0]["typed_config"])


def _buckets(values: Json) -> dict[str, Json]:
    (limits,) = [f["typed_config"] for f in _connection(values)["http_filters"] if f["name"] == "limits"]
    return {d["entries"][0]["value"]: d["token_bucket"] for d in limits["descriptors"] or []}


def test_a_limit_is_a_bucket_that_fills_in_a_minute_and_an_answer_that_says_when() -> None:
    """One for each client that has a limit, and no other."""
    assert _buckets(FULL) == {
        "alice": {"max_tokens": 60, "tokens_per_fill": 60, "fill_interval": "60s"},
        "bob.example_2": {"max_tokens": 7, "tokens_per_fill": 7, "fill_interval": "60s"},
    }
    replies = [m for m in _connection(FULL)["local_reply_config"]["mappers"] if "rate_limit_exceeded" in str(m)]
    waits = [reply["headers_to_add"][0]["header"]["value"] for reply in replies]
    assert waits == ["1", "9"]


def test_a_limit_is_of_one_client_whatever_yaml_takes_its_name_for() -> None:
    """Envoy takes a null here, and it would be a limit of everybody's."""
    assert _buckets(WEIRD).keys() == {"a.b.c", "null", "1.0"}
    assert {bucket["max_tokens"] for bucket in _buckets(WEIRD).values()} == {10**6, 1, 59}


def test_discovery_finds_the_head_behind_the_longest_name() -> None:
    """The chart's own Service of the head, or KubeRay's, which is named after the RayService, whole."""
    name = "abcdefghijabcdefghijabcdefghijabcdefghijabcdefg"
    assert _dashboard({"fullnameOverride": name}) == f"http://{name}-ray:8265"
    beside: Json = {"fullnameOverride": name, "ray": {"upgradeStrategy": "NewCluster"}}
    assert _dashboard(beside) == f"http://{name}-head-svc:8265"


def _dashboard(values: Json) -> str:
    pod = find(render(values), "Deployment")["spec"]["template"]["spec"]
    env = {entry["name"]: entry["value"] for entry in pod["containers"][1]["env"]}
    return str(env["HIVE_DASHBOARD_URL"])


def test_rendering_twice_gives_the_same_files() -> None:
    """What changes by itself would restart the gateway with each upgrade."""
    first, second = (texts(FULL) for _ in range(2))
    assert first == second
