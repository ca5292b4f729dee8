"""Models that come, change and go by the command: what is asked is written into the values file, and made so."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from hive import views
from hive.commands.shared import INTERRUPTED
from hive.local import driver
from tests.local.conftest import Sandbox, make_sandbox, tiny, wait_for

pytestmark = [pytest.mark.serving, pytest.mark.timeout(600)]
FLAGS = ("--vram", "2560Mi", "--max-model-len", "256", "--max-num-seqs", "4", "--set", "cpu=0.1")
# A shell's background jobs, and what they start, ignore Ctrl-C.
WITH_CTRL_C = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from hive.cli import app
app()
"""
COMMENT = "# Edited by people as well.\n"


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A running Hive with the model `first`; ended afterwards, whatever happened."""
    sandbox = make_sandbox(tmp_path_factory.mktemp("command"))
    try:
        file = sandbox.values({"first": tiny()})
        file.write_text(COMMENT + file.read_text())
        done = sandbox.command("up", "-f", str(file))
        assert done.returncode == 0, done.stdout + done.stderr
        yield sandbox
    finally:
        driver.stop(sandbox.where, print)
        shutil.rmtree(sandbox.where.ray, ignore_errors=True)


def text(sandbox: Sandbox) -> str:
    return (sandbox.folder / "values.yaml").read_text()


def entries(sandbox: Sandbox) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(text(sandbox))["models"]
    return found


def run(sandbox: Sandbox, *arguments: str) -> str:
    done = sandbox.command(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_deploy_writes_the_entry_and_returns_when_it_answers(sandbox: Sandbox) -> None:
    before, file = sandbox.pids()["first"], text(sandbox)
    run(sandbox, "deploy", "second", "./tiny", *FLAGS)
    assert sandbox.chat("second") in ("length", "stop")
    assert entries(sandbox)["second"] == {
        "source": "./tiny", "vram": "2560Mi", "maxModelLen": 256, "maxNumSeqs": 4, "cpu": 0.1,
    }  # fmt: skip
    assert sandbox.pids()["first"] == before
    assert set(file.splitlines()) < set(text(sandbox).splitlines())
    assert text(sandbox).startswith(COMMENT)


def test_scale_adds_a_replica_and_leaves_the_others(sandbox: Sandbox) -> None:
    before = sandbox.pids()
    run(sandbox, "scale", "second", "2")
    after = sandbox.pids()
    assert before["second"] < after["second"]
    assert len(after["second"]) == 2
    assert after["first"] == before["first"]
    run(sandbox, "scale", "second", "1")
    assert len(sandbox.pids()["second"]) == 1


def test_ctrl_c_ends_the_waiting_and_not_the_model(sandbox: Sandbox) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WITH_CTRL_C, "scale", "second", "2"],
        env=os.environ | {"HIVE_STATE_DIR": str(sandbox.folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert any("STARTING" in line for line in process.stdout), "it waits"
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
    assert process.returncode == INTERRUPTED, said
    assert said == "second goes on to 2 replicas: hive status\n"
    wait_for("both replicas serve", lambda: len(sandbox.pids()["second"] - {None}) == 2)
    run(sandbox, "scale", "second", "1")


def test_status_joins_every_replica_with_its_lease(sandbox: Sandbox) -> None:
    hive = sandbox.hive
    wait_for("the lease of the replica that went is gone", lambda: len(hive.state().leases) == 2)
    for app in hive.applications():
        for replica, lease in views.leases_of(app, hive.states()):
            assert replica is not None
            assert lease is not None
            assert (replica.node, replica.pid) == (lease.node, lease.lease.pid)
    shown = run(sandbox, "status")
    for words in ("first", "second", "ACTIVE", hive.gateway_url()):
        assert words in shown


def test_models_joins_entries_and_what_the_gateway_lists(sandbox: Sandbox) -> None:
    found = {one["name"]: one for one in json.loads(run(sandbox, "models", "--json"))}
    assert {name: (one["state"], one["listed"], one["max_model_len"]) for name, one in found.items()} == {
        "first": ("RUNNING", True, 512),
        "second": ("RUNNING", True, 256),
    }


def test_logs_are_those_of_the_replicas(sandbox: Sandbox) -> None:
    assert "Resolved architecture" in run(sandbox, "logs", "first")
    done = sandbox.command("logs", "third")
    assert (done.returncode, "those that are: first, second" in done.stderr) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("deploy", "third", "./nowhere", *FLAGS), "/models/nowhere holds no model (no config.json)"),
        (("deploy", "third", "./tiny", "--vram", "900Gi", "--set", "cpu=0.1"), "has no room"),
        (("deploy", "third", "./tiny", *FLAGS, "--set", "nonsense=1"), "there is no key models.third.nonsense"),
        (("deploy", "third", "./tiny", *FLAGS, "--set", "nonsense"), "--set nonsense"),
        (("scale", "third", "1"), "the values have no model 'third'"),
        (("shutdown", "third"), "the values have no model 'third'"),
    ],
)
def test_what_can_not_be_says_why_and_leaves_all_as_it_was(
    sandbox: Sandbox, arguments: tuple[str, ...], words: str
) -> None:
    pids, file = sandbox.pids(), text(sandbox)
    done = sandbox.command(*arguments)
    assert done.returncode == 1
    assert words in done.stderr
    assert "FIX: " in done.stderr
    assert text(sandbox) == file
    assert sandbox.pids() == pids


def test_a_budget_that_is_not_said_is_reckoned(sandbox: Sandbox) -> None:
    """A smaller one than the second has: the entry is edited, and what else it says stays."""
    run(sandbox, "shutdown", "second")
    assert set(sandbox.pids()) == {"first"}
    assert entries(sandbox)["second"]["replicas"] == 0
    said = run(sandbox, "deploy", "third", "./tiny", *FLAGS[2:])
    assert "third: vram" in said
    assert entries(sandbox)["third"]["vram"].endswith("Mi")
    assert sandbox.chat("third") in ("length", "stop")


def test_shutdown_of_all_asks_first_and_keeps_the_entries(sandbox: Sandbox) -> None:
    assert sandbox.command("shutdown").returncode != 0, "nobody answered"
    assert set(sandbox.pids()) == {"first", "third"}
    run(sandbox, "shutdown", "--yes")
    assert sandbox.pids() == {}
    assert {name: entry["replicas"] for name, entry in entries(sandbox).items()} == dict.fromkeys(
        ["first", "second", "third"], 0
    )
    assert sandbox.hive.state().leases == ()
