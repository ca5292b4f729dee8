"""values.yaml -> what runs, and mistakes -> messages that name the field and the mend."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from hive.errors import HiveError
from hive.local.checks import assign
from hive.plan.scenario import groups
from hive.rendering import ROOT, render

MODEL = {"source": "./m", "vram": "2Gi"}
HERE = {"host": "127.0.0.1"}  # a gateway for this machine alone needs no keys


def write(folder: Path, values: Any) -> Path:
    path = folder / "values.yaml"
    path.write_text(values if isinstance(values, str) else yaml.safe_dump(values))
    return path


def message(folder: Path, values: Any) -> str:
    with pytest.raises(HiveError) as error:
        render(write(folder, values))
    return str(error.value)


def test_a_model_becomes_an_application_and_the_pods_are_there(tmp_path: Path) -> None:
    rendered = render(write(tmp_path, {"models": {"m": MODEL}, "ports": {"serve": 8123}, "gateway": HERE}))
    (app,) = rendered.serve_config["applications"]
    assert app["name"] == app["args"]["name"] == "m"
    assert app["args"]["vramMib"] == 2048
    assert rendered.serve_config["http_options"]["port"] == rendered.ports["serve"] == 8123
    assert rendered.head_params["num-cpus"] == "0"
    assert rendered.agent.command == ["python", "-m", "vram_agent"]
    (group,) = rendered.groups
    assert group.container.command == ["python", "-m", "serve_app.worker"]
    assert group.container.env["RAY_SERVE_HIGH_PRIORITY_CUSTOM_RESOURCES"] == "vram_mib,model_cpus"


def test_workers_for_jobs_take_no_device_of_this_machine_and_of_no_plan(tmp_path: Path) -> None:
    """Here jobs run on the head."""
    jobs = {"replicas": 3, "gpusPerWorker": 0, "resources": {"requests": {"cpu": 2}, "limits": {}}}
    rendered = render(write(tmp_path, {"models": {"m": MODEL}, "workerGroups": {"jobs": jobs}, "gateway": HERE}))
    assert {group.name: group.start_params for group in rendered.groups} == {"gpu": {"num-cpus": "0"}, "jobs": {}}
    assert [(group.name, devices) for group, devices in assign(rendered, ["GPU-a", "GPU-b"])] == [("gpu", ["GPU-a"])]
    assert [group.name for group in groups(rendered)] == ["gpu"]


def test_a_lone_equals_sign_is_text(tmp_path: Path) -> None:
    """Helm writes it without quotes."""
    model = MODEL | {"env": {"X": "="}, "chatTemplate": "="}
    (app,) = render(write(tmp_path, {"models": {"m": model}, "gateway": HERE})).serve_config["applications"]
    assert app["args"]["chatTemplate"] == "="
    assert app["deployments"][0]["ray_actor_options"]["runtime_env"]["env_vars"]["X"] == "="


def test_every_values_file_of_the_project_renders() -> None:
    for path in (ROOT / "values").glob("*.yaml"):
        assert render(path).serve_config["applications"], path


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"models": {"m": MODEL | {"replica": 1}}}, ["there is no key models.m.replica", "replicas"]),
        ({"modles": {}}, ["there is no key modles", "models"]),
        ({"models": {"m": MODEL | {"vram": "22G i"}}}, ["models.m.vram: '22G i'", "like 22Gi"]),
        ({"models": {"m": MODEL | {"replicas": -1}}}, ["models.m.replicas", "0 or more"]),
        ({"models": {"Big_Name": MODEL}}, ["'Big_Name' can't be a name here", "DNS label"]),
        ({"models": {"m": {"vram": "1Gi"}}}, ["models.m: missing property 'source'"]),
        ({"models": {"m": MODEL | {"defaults": {"topP": 2}}}}, ["models.m.defaults.topP", "at most 1"]),
        ({"models": {"m": MODEL | {"tensorParallel": 2}}}, ["models.m.tensorParallel is 2", "workerGroups"]),
        ({"ports": {"serve": 70000}}, ["ports.serve", "1 to 65535"]),
        ({"models": {"m": MODEL}}, ["the gateway has no API keys", "gateway.keysSecret"]),
        ({"gateway": {"host": "localhost"}}, ["gateway.host: 'localhost'", "an IP address"]),
        ({"gateway": {"clients": {"a b": {}}}}, ["'a b' can't be a name here", "their names in the Secret (letters"]),
        ({"models": {"m": MODEL | {"adapters": {"a b": "./a"}}}}, ["'a b' can't be a name here", "at most 128"]),
        (
            {"models": {"m": MODEL | {"aliases": ["a b"]}}},
            ["models.m.aliases.0: 'a b'", "it is a name that clients send"],
        ),
        ({"gateway": {"clients": {"a": {"model": ["m"]}}}}, ["there is no key gateway.clients.a.model", "models"]),
    ],
)
def test_a_mistake_names_the_field_and_the_mend(tmp_path: Path, values: Any, words: list[str]) -> None:
    text = message(tmp_path, values)
    for word in ["ERROR: ", "FIX: ", *words]:
        assert word in text


def test_all_mistakes_are_said_at_once(tmp_path: Path) -> None:
    text = message(tmp_path, {"models": {"a": MODEL | {"vram": "1"}, "b": MODEL | {"x": 1}}})
    assert text.count("ERROR: ") == text.count("FIX: ") == 2


def test_a_file_that_is_not_there_or_no_yaml_or_no_map(tmp_path: Path) -> None:
    with pytest.raises(HiveError, match="No such file"):
        render(tmp_path / "none.yaml")
    assert "no valid YAML" in message(tmp_path, "models: [")
    assert "holds no map" in message(tmp_path, "- models")
    (tmp_path / "binary.yaml").write_bytes(b"\xb9\x00")
    with pytest.raises(HiveError, match="no valid YAML"):
        render(tmp_path / "binary.yaml")


def test_a_model_that_stands_twice_is_refused_with_its_line(tmp_path: Path) -> None:
    text = message(tmp_path, "models:\n  m: {source: ./m, vram: 2Gi}\n  m: {source: ./m, vram: 3Gi}\n")
    assert "line 3: models.m stands here a second time" in text
