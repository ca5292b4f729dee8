"""The `hive` command against a release, as a person uses it from outside: through the kubeconfig alone. The tests share
one cluster and run in order."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from hive.rendering import ROOT
from tests.cluster.conftest import BOTH, LARGE, NAMESPACE, RELEASE, SMALL, Cluster, values, wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]
ENGINE = ("--set", "engine.enforce_eager=true", "--set", "engine.worker_extension_cls=serve_app.amx.WithAmx")
TINY = ("--max-model-len", "512", "--max-num-seqs", "4", "--set", "cpu=0.1", *ENGINE)


class Hive:
    """The command, with nothing of this project's own folders around it."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster, self.folder = cluster, folder

    def run(self, *arguments: str, release: str = RELEASE) -> subprocess.CompletedProcess[str]:
        return self.python("-m", "hive.cli", "--release", release, "--namespace", NAMESPACE, *arguments)

    def python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {
            "KUBECONFIG": str(self.cluster.node.kubeconfig),
            "HIVE_STATE_DIR": str(self.folder),
            "PYTHONPATH": str(ROOT),
            "COLUMNS": "300",
        }
        command = [sys.executable, *arguments]
        return subprocess.run(
            command, env=environment, cwd=self.folder, capture_output=True, text=True, check=False, timeout=800
        )

    def __call__(self, *arguments: str) -> str:
        done = self.run(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def json(self, *arguments: str) -> Any:
        return json.loads(self(*arguments, "--json"))


@pytest.fixture(scope="module")
def hive(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Hive:
    folder = tmp_path_factory.mktemp("command")
    (folder / "models").symlink_to(cluster.folder / "models")  # from which a ./folder can be sized
    return Hive(cluster, folder)


@pytest.fixture(scope="module", autouse=True)
def up(hive: Hive) -> str:
    """Both models serve; installed by the command itself where nothing is yet."""
    hive.cluster.asked = {"models": BOTH}
    return hive("up", "-f", str(values(BOTH, hive.cluster.folder)))


def test_up_waits_until_every_model_serves_and_says_where(hive: Hive, up: str) -> None:
    assert "models: left, right" in up
    assert hive.cluster.answers("left")
    assert hive.cluster.answers("right")
    again = hive.cluster.pids()
    hive("up", "-f", str(values(BOTH, hive.cluster.folder)))
    assert hive.cluster.pids() == again


def test_status_shows_models_nodes_and_devices(hive: Hive) -> None:
    status = hive.json("status")
    assert {app["name"]: app["status"] for app in status["applications"]} == dict.fromkeys(BOTH, "RUNNING")
    ((node, state),) = status["vram"].items()
    assert {device["id"] for device in state["devices"]} == {LARGE, SMALL}
    assert {replica["node"] for app in status["applications"] for replica in app["replicas"]} == {node}
    shown = hive("status")
    for words in (LARGE, SMALL, "left", "right", "ACTIVE", f"http://{RELEASE}-gateway.{NAMESPACE}/v1"):
        assert words in shown


def test_doctor_finds_nothing_wrong_and_tries_everything(hive: Hive) -> None:
    done = hive.run("doctor", "--deep", "--json")
    found = [finding for group in json.loads(done.stdout) for finding in group["findings"]]
    assert done.returncode == 0, [finding for finding in found if finding["verdict"] != "ok"]
    said = "\n".join(finding["what"] for finding in found)
    for words in (
        "Kubernetes v1.34",
        "rayservices.ray.io serves v1",
        "the RayService has the models of the release",
        "all Ray pods are of the template that is asked for",
        "pods run",
        f"{LARGE}: ",
        "Ray Serve has the config",
        "left serves, 1 of 1",
        "on node1 offers 7.25 GiB; its agent can grant 7.25 GiB",
        "MiB/s each",
        "right answered in",
    ):
        assert words in said


def test_doctor_before_an_install_says_what_is_missing(hive: Hive) -> None:
    """No device plugin is in this cluster."""
    done = hive.run("doctor", release="other")
    assert done.returncode == 1
    for words in ("no release other in namespace", "failed   no node offers nvidia.com/gpu", "FIX: install NVIDIA's"):
        assert words in done.stdout


def test_bench_and_vram_reach_the_cluster(hive: Hive) -> None:
    found = hive.json("bench", "left", "--requests", "4", "--input-tokens", "16", "--output-tokens", "4")
    assert (found["answered"], found["output_tokens"]) == (4, 16)
    (device,) = hive.cluster.devices("left")
    assert device in found["ran_on"][0]
    ((_, state),) = hive.json("vram").items()
    assert {lease["model"] for lease in state["leases"]} == set(BOTH)


def test_scale_is_a_revision_of_the_release_that_can_be_rolled_back(hive: Hive) -> None:
    cluster = hive.cluster
    before, revision = cluster.pids(), cluster.revision()
    said = hive("scale", "left", "2")
    assert f"revision {revision + 1}" in said
    assert f"helm get values {RELEASE} -n {NAMESPACE}" in said
    assert before["left"] < cluster.pids()["left"]
    fields = cluster.service()["metadata"]["managedFields"]
    applied = {one["manager"] for one in fields if one["operation"] == "Apply"}
    assert applied == {"helm"}, "the helm of a person could not go on"
    history = cluster.helm("history", RELEASE, "-n", NAMESPACE, "--max", "1", "-o", "json")
    assert "models.left.replicas: 2" in json.loads(history.stdout)[0]["description"]
    done = cluster.helm("rollback", RELEASE, str(revision), "-n", NAMESPACE)
    assert done.returncode == 0, done.stderr
    wait_for("one replica is left", lambda: len(cluster.pids()["left"]) == 1)
    assert cluster.pids()["right"] == before["right"]


def test_deploy_adds_a_model_to_the_file_and_the_release_and_shutdown_turns_it_off(hive: Hive) -> None:
    cluster = hive.cluster
    before = cluster.pids()
    file = values(BOTH, cluster.folder)
    hive("deploy", "third", "./tiny", "--vram", "3Gi", *TINY, "-f", str(file))
    assert cluster.answers("third")
    assert yaml.safe_load(file.read_text())["models"]["third"]["vram"] == "3Gi"
    listed = {one["name"]: (one["listed"], one["running"], one["max_model_len"]) for one in hive.json("models")}
    assert listed == dict.fromkeys(["left", "right", "third"], (True, 1, 512))
    hive("shutdown", "third")
    wait_for("its lease is gone", lambda: set(cluster.pids()) == set(BOTH))
    assert {one["name"]: one["state"] for one in hive.json("models")}["third"] == "OFF"
    assert cluster.pids() == before


def test_models_that_were_turned_off_come_back_where_they_fit_best(hive: Hive) -> None:
    """Which replica of `left` stayed before is Ray's choice; from here on it is on the small device again."""
    cluster = hive.cluster
    hive("shutdown", "left", "right")
    wait_for("their leases are gone", lambda: not cluster.pids())
    for name, device in (("left", SMALL), ("right", LARGE)):
        hive("scale", name, "1")
        assert cluster.answers(name)
        assert cluster.devices(name) == {device}


def test_what_has_no_room_is_refused_with_nothing_changed(hive: Hive) -> None:
    revision = hive.cluster.revision()
    done = hive.run("deploy", "big", "./tiny", "--vram", "90Gi", *TINY)
    assert done.returncode == 1
    assert "replica 1 of big (90.00 GiB) has no room" in done.stderr
    assert "FIX: " in done.stderr
    assert hive.cluster.revision() == revision


def test_plan_says_what_a_file_would_do_to_the_release(hive: Hive) -> None:
    file = values({"right": BOTH["right"] | {"maxModelLen": 256}}, hive.cluster.folder)
    plan = json.loads(hive.run("plan", "-f", str(file), "--from-cluster", "--json").stdout)
    assert [(change["model"], change["effect"]) for change in plan["changes"]] == [
        ("left", "stops"),
        ("right", "restarts"),
    ]
    assert {device["id"] for device in plan["devices"]} == {LARGE, SMALL}


def test_chat_and_logs_come_through_the_api_server(hive: Hive) -> None:
    assert hive("chat", "left", "hello", "--max-tokens", "3").startswith("hello")
    logs = hive("logs", "left")
    assert "Resolved architecture" in logs
    done = hive.run("logs", "nobody")
    assert (done.returncode, "those that are: left, right" in done.stderr) == (1, True)


# A program of a user: what the client does to a release. `third` is there, turned off, with less CPU than a default.
PROGRAM = """
import json
from hive import HiveError, RayHive

mine = RayHive("hive", "llm")
trial = mine.deploy_model("third", "./tiny", test_mode=True, max_num_seqs=2, max_model_len=256)
try:
    mine.deploy_model("huge", "./tiny", vram_weights_gb=4096)
except HiveError as error:
    refused = str(error)
done = mine.deploy_model("third", "./tiny")
states = mine.get_vram_state()
answers = mine.inference_batch(["hello", "you"], "third", max_tokens=3)
mine.shutdown("third")
print(json.dumps({
    "trial": trial.answer,
    "refused": refused,
    "bytes": done.vram,
    "leases": {lease.model: lease.bytes for state in states.values() for lease in state.leases},
    "answers": answers,
}))
"""


def test_ray_hive_does_to_a_release_what_it_does_on_one_machine(hive: Hive) -> None:
    cluster = hive.cluster
    before = cluster.pids()
    done = hive.python("-c", PROGRAM)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["trial"]
    assert "FIX: lower vram" in found["refused"]
    assert found["leases"].keys() == {"left", "right", "third"}
    assert found["leases"]["third"] == found["bytes"]
    assert len(found["answers"]) == 2
    assert cluster.pids() == before


def test_a_release_that_is_not_there_is_said(hive: Hive) -> None:
    done = hive.run("status", release="other")
    assert done.returncode == 1
    assert "ERROR: " in done.stderr
    assert "other" in done.stderr
