"""Models that come, change and go by the command: what is asked is written into the values file, and made so."""

import contextlib
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import yaml

from hive import views
from hive.commands.shared import INTERRUPTED
from hive.local import driver
from tests.local.conftest import Sandbox, make_sandbox, tiny, wait_for

pytestmark = [pytest.mark.serving, pytest.mark.timeout(600)]
FLAGS = ("--vram", "2560Mi", "--max-model-len", "256", "--max-num-seqs", "4", "--set", "cpu=0.1")
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
        [sys.executable, "-m", "hive.cli", "scale", "second", "2"],
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


def test_doctor_finds_nothing_wrong_and_tries_everything(sandbox: Sandbox) -> None:
    done = sandbox.command("doctor", "--deep", "--json")
    found = [finding for group in json.loads(done.stdout) for finding in group["findings"]]
    assert done.returncode == 0, [finding for finding in found if finding["verdict"] != "ok"]
    said = "\n".join(finding["what"] for finding in found)
    for words in ("first serves, 1 of 1", "answers on its REST API", "can grant", "MiB/s each", "second answered in"):
        assert words in said
    url, headers = sandbox.hive.dashboard()
    assert httpx.get(f"{url}/api/jobs/", headers=headers, timeout=30).json() == [], "its job is cleared away"


def test_bench_measures_what_was_asked(sandbox: Sandbox) -> None:
    size = ("--requests", "6", "--concurrency", "3", "--input-tokens", "32", "--output-tokens", "8")
    found = json.loads(run(sandbox, "bench", "first", *size, "--json"))
    assert (found["answered"], found["errors"]) == (6, {})
    assert (found["input_tokens"], found["output_tokens"]) == (6 * 32, 6 * 8)
    assert 0 < found["time_to_first_token"]["p50"] <= found["latency"]["p50"] <= found["latency"]["p99"]
    (node,) = sandbox.hive.states()
    assert found["ran_on"][0].startswith(f"{node}: host")
    for arguments, words in (
        (("third",), "there is no model 'third'"),
        (("first", "--input-tokens", "600"), "more than first takes (512)"),
    ):
        done = sandbox.command("bench", *arguments)
        assert (done.returncode, words in done.stderr) == (1, True)


def test_vram_is_printed_once_where_there_is_no_terminal(sandbox: Sandbox) -> None:
    (node,) = found = json.loads(run(sandbox, "vram", "--json"))
    assert {lease["model"] for lease in found[node]["leases"]} == {"first", "second"}
    for arguments in (("vram",), ("vram", "--live")):
        assert "first (ACTIVE" in run(sandbox, *arguments)


def test_vram_is_drawn_live_until_ctrl_c(sandbox: Sandbox) -> None:
    ours, its = pty.openpty()
    env = os.environ | {"HIVE_STATE_DIR": str(sandbox.folder), "COLUMNS": "120", "TERM": "xterm"}
    with subprocess.Popen(
        [sys.executable, "-m", "hive.cli", "vram", "--live"], env=env, stdin=its, stdout=its, stderr=its
    ) as process:
        os.close(its)
        shown = b""
        while shown.count(b"Ctrl-C ends it") < 3:
            shown += os.read(ours, 65536)
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(OSError):  # there is nobody at the other end any more
            while os.read(ours, 65536):
                pass
        assert process.wait(30) == 0
    os.close(ours)
    for words in ("first", "in use", "leased", "█"):
        assert words.encode() in shown


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
