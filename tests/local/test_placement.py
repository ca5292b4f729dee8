"""`hive plan` beside the real Ray Serve: where each replica goes, on workers that registered what a real agent says.

The GPUs are a fake driver's, and the models hold nothing (tests/local/placed.py); everything between is real.
"""

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from hive import placement, ray_nodes, rendering
from tests import fake_nvml
from tests.local.conftest import Json, Sandbox, make_sandbox, wait_for
from vram_agent.api import GIB

pytestmark = [pytest.mark.serving, pytest.mark.timeout(600)]

GPUS = {"GPU-a": 24, "GPU-b": 16, "GPU-c": 12, "GPU-d": 12, "GPU-e": 10, "GPU-f": 10}
PAIR: Json = {
    "replicas": 1,
    "gpusPerWorker": 2,
    "gpuResource": "nvidia.com/gpu",
    "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "1Gi"}},
}
MORE: Json = {
    "workerGroups": {"gpu": {"replicas": 4}, "pair": PAIR},
    "agent": {"deviceKind": "nvml"},
}
CASES = 20
Places = list[tuple[str, ...]]


def model(vram: str, **more: object) -> Json:
    return {"source": "./tiny", "vram": vram, "cpu": 0.01, "maxModelLen": 512, "maxNumSeqs": 1} | more


# By name and by chance the small ones would often come first, and fill the GPU that the last one needs.
LARGE_LAST: Json = {
    "a": model("7Gi", replicas=2),
    "b": model("10Gi", replicas=2, spread=False),
    "z": model("22Gi"),
}


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    folder = tmp_path_factory.mktemp("placement")
    nvml = fake_nvml.FakeNvml(fake_nvml.build(tmp_path_factory.mktemp("nvml")), folder / "gpus")
    nvml.write(*(fake_nvml.Gpu(name, size * GIB) for name, size in GPUS.items()))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in nvml.env.items():
            patch.setenv(name, value)
        box = make_sandbox(folder)
        try:
            done = box.up({}, **MORE)
            assert done.returncode == 0, done.stdout + done.stderr
            yield box
        finally:
            box.command("down")


@pytest.mark.parametrize("number", range(CASES))
def test_replicas_are_where_the_plan_says(sandbox: Sandbox, number: int) -> None:
    values = sandbox.values(LARGE_LAST if number == 0 else some_models(random.Random(number)), **MORE)
    expected = planned(sandbox, values)
    serve_only(sandbox, values)
    count = sum(map(len, expected))
    wait_for(f"{count} replicas, {expected}", lambda: sum(map(len, found(sandbox))) == count)
    assert found(sandbox) == expected


def test_what_runs_keeps_its_place_and_who_would_need_it_is_refused(sandbox: Sandbox) -> None:
    """`small` fills all GPUs but the largest, where `other` has to go, and stays when a `small` has gone."""
    serve = sandbox.hive.serve
    models: Json = {"small": model("9Gi", replicas=3), "other": model("9Gi")}
    serve_only(sandbox, sandbox.values(models, **MORE))
    wait_for("all run", lambda: found(sandbox) == [("other",), ("small",), ("small",), ("small",)])
    models["small"]["replicas"] = 2
    fewer = config_of(sandbox.values(models, **MORE))
    there = ray_nodes.standing(serve.nodes(), serve.details(), fewer)
    stays = placement.staying(placement.wants(fewer), there.running)
    serve.apply(fewer)
    wait_for("one has gone", lambda: found(sandbox) == [("other",), ("small",), ("small",)])
    more = config_of(sandbox.values(models | {"large": model("20Gi")}, **MORE))
    there = ray_nodes.standing(serve.nodes(), serve.details(), more)
    assert set(there.running) == set(stays)
    problem = placement.without_room(placement.wants(more), there)
    assert problem
    assert "replica 1 of large (20.00 GiB) has no room beside the replicas that run" in problem


def serve_only(sandbox: Sandbox, values: Path) -> None:
    """These models, with nothing left of those before."""
    serve, config = sandbox.hive.serve, config_of(values)
    serve.apply({**config, "applications": []})
    wait_for("no models", lambda: not serve.details()["applications"])
    serve.apply(config)


def config_of(values: Path) -> Json:
    """What the chart makes of the values, with models that hold nothing and end at once."""
    config: Json = rendering.render(values).serve_config
    for app in config["applications"]:
        app["import_path"] = "tests.local.placed:build"
        app["deployments"][0] |= {"graceful_shutdown_wait_loop_s": 0, "graceful_shutdown_timeout_s": 0}
    return config


def some_models(chance: random.Random) -> Json:
    """One to five models, which mostly fit."""
    names = chance.sample("abcdefgh", chance.randint(1, 5))
    return {
        name: model(
            f"{chance.randint(2200, 11000)}Mi",
            replicas=chance.randint(1, 2),
            spread=chance.random() < 0.5,
            tensorParallel=2 if chance.random() < 0.2 else 1,
        )
        for name in names
    }


def planned(sandbox: Sandbox, values: Path) -> Places:
    """What each worker holds, by the plan. Workers that are alike may change places, so they have no names."""
    said = json.loads(sandbox.command("plan", "-f", str(values), "--from-cluster", "--json").stdout)
    assert len(said["devices"]) == len(GPUS)
    worker_of = {name: name for name in GPUS} | {"GPU-f": "GPU-e"}
    held = {worker_of[gpu["id"]]: [replica["model"] for replica in gpu["replicas"]] for gpu in said["devices"]}
    return sorted(tuple(sorted(models)) for models in held.values() if models)


def found(sandbox: Sandbox) -> Places:
    """What each worker holds, by Serve."""
    held: dict[str, list[str]] = {}
    for name, app in sandbox.hive.serve.details()["applications"].items():
        for deployment in app["deployments"].values():
            for replica in deployment["replicas"]:
                if replica["state"] == "RUNNING":
                    held.setdefault(replica["node_id"], []).append(name)
    return sorted(tuple(sorted(models)) for models in held.values())
