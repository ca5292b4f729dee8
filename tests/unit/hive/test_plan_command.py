"""`hive plan` from the command line, with checkpoints of a few bytes and a hub that does not answer."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from hive import values_file
from hive.changes import Effect
from hive.cli import app
from hive.errors import HiveError
from hive.local.checks import digest
from hive.local.run import Run, folders
from hive.local.target import LocalHive
from hive.plan import reading
from hive.plan.planning import plan
from hive.rendering import Json, read_values, render
from hive.target import Edit
from serve_app import checkpoint, sizing
from serve_app.args import ModelArgs
from serve_app.versions import engine_versions
from tests.unit.hive.planned import make_model
from vram_agent.api import GIB, Device, Enforcement, Lease, LeaseState, State

Plan = Callable[..., Result]
VALUES = """\
# What we serve.
models:
  chat:               # for people
    source: ./m       # of last week
    maxModelLen: 1024
    maxNumSeqs: 4
  search: {source: ./m, vram: 4Gi}
workerGroups:
  gpu: {replicas: 2}
gateway: {anonymous: true}
"""


@pytest.fixture(name="values")
def _values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A values file, whose model is in the state's folder."""
    make_model(tmp_path / "state" / "models" / "m")
    monkeypatch.setenv("HIVE_STATE_DIR", str(tmp_path / "state"))
    file = tmp_path / "values.yaml"
    file.write_text(VALUES)
    return file


@pytest.fixture(name="run")
def _run(values: Path) -> Plan:
    return lambda *said: CliRunner().invoke(app, ["plan", "-f", str(values), *said])


def test_a_file_that_fits_ends_well_and_names_every_model_and_gpu(run: Plan) -> None:
    result = run("--gpus", "24GiB,12GiB")
    assert result.exit_code == 0, result.output
    for words in ("chat", "search", "GPU 0", "GPU 1", "Fits.", "not in the values"):
        assert words in result.output


def test_one_that_does_not_fit_ends_with_1_and_ways_out(run: Plan) -> None:
    result = run("--gpus", "5GiB,3GiB", "--json")
    assert result.exit_code == 1
    assert "ERROR: 1 of 1 replica of search (4.00 GiB) has no room" in result.stderr
    found = json.loads(result.stdout)
    assert not found["fits"]
    assert found["advice"]
    assert found["unplaced"] == [{"model": "search", "replicas": 1}]


def test_write_fills_in_what_is_missing_and_keeps_every_other_byte(run: Plan, values: Path) -> None:
    with pytest.raises(HiveError, match="vram"):
        render(values)
    assert run("--write").exit_code == 0
    lines = values.read_text().splitlines(keepends=True)
    added = [line for line in lines if line.startswith("    vram: ")]
    assert len(added) == 1
    lines.remove(added[0])
    assert "".join(lines) == VALUES
    assert render(values)
    before = values.read_text()
    assert run("--write").exit_code == 0
    assert values.read_text() == before


def test_a_hub_that_does_not_answer_is_told_and_the_rest_is_planned(
    run: Plan, values: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(repository: str) -> Any:
        raise checkpoint.CheckpointError(f"{repository} is gated on the hub. FIX: accept its terms there")

    monkeypatch.setattr(checkpoint, "read_hub", refuse)
    values.write_text(VALUES.replace("search: {source: ./m, vram: 4Gi}", "search: {source: a/b, vram: 4Gi}"))
    result = run("--gpus", "24GiB,24GiB")
    assert result.exit_code == 1
    assert "ERROR: models.search: a/b is gated on the hub\nFIX: accept its terms there" in result.stderr
    assert "search" in result.stdout
    values.write_text(VALUES.replace("search: {source: ./m, vram: 4Gi}", "search: {source: a/b}"))
    found = json.loads(run("--gpus", "24GiB,24GiB", "--json", "--write").stdout)
    assert {model["name"]: model["vram_mib"] is None for model in found["models"]} == {"chat": False, "search": True}
    assert [held["model"] for device in found["devices"] for held in device["replicas"]] == ["chat"]
    assert "vram" in yaml.safe_load(values.read_text())["models"]["chat"]


def test_the_picture_and_the_table_are_written(run: Plan, tmp_path: Path) -> None:
    result = run("--gpus", "24GiB,24GiB", "--markdown", "--svg", str(tmp_path / "plan.svg"))
    assert result.exit_code == 0
    assert result.stdout.startswith("**hive plan: Fits.**\n\n| model |")
    assert (tmp_path / "plan.svg").read_text().startswith("<svg ")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (["--gpus", "24"], "ERROR: --gpus: '24' is no size of a GPU\nFIX: write it like --gpus 24GiB,24GiB,12GiB"),
        (["--gpus", "24GiB", "--from-cluster"], "keep one of them"),
        (["--json", "--markdown"], "keep one of them"),
        (["--from-cluster"], "ERROR: no Hive runs here"),
        (["--svg", "x.svg"], "ERROR: --svg draws GPUs"),
        (["--gpus", "24GiB,24GiB", "--svg", "/nowhere/x.svg"], "ERROR: /nowhere/x.svg: No such file"),
    ],
)
def test_mistakes_are_told_with_the_mend(run: Plan, said: list[str], words: str) -> None:
    result = run(*said)
    assert result.exit_code == 1
    assert words in result.stderr
    assert "FIX: " in result.stderr


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("models:\n  a: {source: ./m}\n", "models:\n  a: {source: ./m, vram: 5Mi}\n"),
        ("models: {a: {source: './m' }}", "models: {a: {source: './m', vram: 5Mi }}"),
        ("models:\n  a:\n    source: ./m", "models:\n  a:\n    source: ./m\n    vram: 5Mi\n"),
        ("models:\r\n  a:\r\n    source: ./m\r\n", "models:\r\n  a:\r\n    source: ./m\r\n    vram: 5Mi\r\n"),
        (
            "# é\nmodels:\n    a:\n        env: {x: '1'}\n        source: ./m # é\n# end\n",
            "# é\nmodels:\n    a:\n        env: {x: '1'}\n        source: ./m # é\n        vram: 5Mi\n# end\n",
        ),
    ],
)
def test_a_budget_goes_below_the_source(before: str, after: str) -> None:
    assert values_file.edit(before, [Edit(("models", "a", "vram"), "5Mi")]) == after


# -- beside a running Hive -------------------------------------------------------------------------------------------


def device(name: str, foreign: int = 0) -> Device:
    return Device(
        id=name, kind="nvml", name="NVIDIA L4", enforcement=Enforcement.TORCH, total=24 * GIB, reserved=GIB // 2,
        safety=GIB // 4, headroom=GIB // 2, foreign=foreign, leased=0, free=0, sampled=0.0,
    )  # fmt: skip


def lease(model: str, name: str) -> Lease:
    return Lease(
        id=model, model=model, state=LeaseState.ACTIVE, bytes=4 * GIB, devices=(name,), pid=1, pids=(1,), used={},
        charged={}, place=None, since=1.0,
    )  # fmt: skip


class Running(LocalHive):
    """The Hive of this machine, with what its parts would answer."""

    def states(self) -> dict[str, State]:
        return self.answers  # type: ignore[attr-defined,no-any-return]

    def deployed(self) -> Json:
        return self.serves  # type: ignore[attr-defined,no-any-return]


def running(values: Path, leases: list[Lease], overheads: dict[str, int] | None = None) -> Running:
    """A Hive that runs this file on two GPUs, one of which others use."""
    deployed = render(values)
    devices = (device("GPU-a"), device("GPU-b", foreign=3 * GIB))
    state = State(node="n", devices=devices, leases=tuple(leases), events=(), overheads=overheads or {})
    hive = Running(Run(str(values), digest(deployed), "", "", "", ""), folders())
    object.__setattr__(hive, "answers", {"n": state})
    object.__setattr__(hive, "serves", deployed.serve_config)
    return hive


def test_beside_a_running_hive_what_is_not_touched_stays_and_the_rest_is_told(values: Path) -> None:
    values.write_text(VALUES.replace("source: ./m  ", "vram: 4Gi\n    source: ./m  "))
    hive = running(values, [lease("chat", "GPU-b"), lease("search", "GPU-a")])
    values.write_text(values.read_text().replace("search: {source: ./m, vram: 4Gi}", "code: {source: ./m, vram: 6Gi}"))
    asked, changes = reading.upgrade(reading.read(read_values(values), None, hive), hive)
    assert [(change.model, change.effect) for change in changes] == [("code", Effect.ADD), ("search", Effect.REMOVE)]
    found = plan(asked)
    held = {one.id: [(held.model, held.runs) for held in one.replicas] for one in found.devices}
    assert held == {"GPU-a": [], "GPU-b": [("chat", True), ("code", False)]}
    assert found.devices[1].free == int((24 - 0.5 - 0.25 - 3 - 4 - 6) * GIB)


def test_an_edit_of_the_pods_restarts_all(values: Path) -> None:
    values.write_text(VALUES.replace("source: ./m  ", "vram: 4Gi\n    source: ./m  "))
    hive = running(values, [lease("chat", "GPU-a")])
    values.write_text(values.read_text() + "ports: {serve: 8123}\n")
    asked, changes = reading.upgrade(reading.read(read_values(values), None, hive), hive)
    assert [(change.model, change.effect) for change in changes] == [("chat", Effect.RESTART)]
    assert "all of Ray must be started anew" in changes[0].details
    assert asked.running == ()


def test_what_the_agent_measured_of_this_very_engine_takes_the_place_of_the_model(values: Path, tmp_path: Path) -> None:
    values.write_text(VALUES.replace("source: ./m  ", "vram: 4Gi\n    source: ./m  "))
    models = tmp_path / "state" / "models"
    found = checkpoint.read_folder(models / "m")
    (chat, _) = render(values).serve_config["applications"]
    kwargs = ModelArgs.model_validate(chat["args"]).engine_kwargs()
    fingerprint = sizing.fingerprint(found, kwargs, "NVIDIA L4", engine_versions())
    hive = running(values, [], overheads={fingerprint: GIB})
    chat_model, search_model = plan(reading.read(read_values(values), None, hive)).models
    assert (chat_model.overhead, chat_model.overhead_measured) == (GIB + sizing.SLACK_BYTES, True)
    assert not search_model.overhead_measured
