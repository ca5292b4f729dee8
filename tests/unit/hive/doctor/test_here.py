"""`hive doctor` where no Hive runs, and what a values file has that does not run."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hive.cli import app
from hive.doctor.deep import answered
from hive.doctor.finding import Verdict
from hive.doctor.here import unapplied
from tests.unit.hive.doctor.objects import only
from tests.unit.hive.doctor.test_release import app as entry


def test_without_a_hive_the_machine_is_checked_and_the_exit_code_says_whether_one_can_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HIVE_STATE_DIR", str(tmp_path))
    done = CliRunner().invoke(app, ["doctor", "--json"])
    groups = {group["name"]: group["findings"] for group in json.loads(done.stdout)}
    assert list(groups) == ["Machine", "Hive"]
    assert groups["Hive"][0]["what"] == "no Hive runs here, so only this machine was checked"
    failed = [one for findings in groups.values() for one in findings if one["verdict"] == "failed"]
    assert done.exit_code == (1 if failed else 0)
    shown = CliRunner().invoke(app, ["doctor"])
    assert shown.exit_code == done.exit_code
    assert f"{len(failed)} failed" in shown.stdout


def test_an_edit_of_the_values_that_does_not_run_yet_is_said() -> None:
    runs, asked = {"applications": [entry("m", vramMib=1)]}, {"applications": [entry("m", vramMib=2)]}
    finding = only(unapplied("values.yaml", runs, asked))
    assert finding.verdict is Verdict.WARNING
    assert "m restarts" in finding.what
    assert finding.fix == "hive up -f values.yaml"
    assert only(unapplied("values.yaml", asked, asked)).verdict is Verdict.OK


@pytest.mark.parametrize(("status", "verdict"), [(200, Verdict.OK), (404, Verdict.FAILED), (503, Verdict.FAILED)])
def test_an_answer_is_one_or_is_not(status: int, verdict: Verdict) -> None:
    finding = only([answered("m", status, "why", 0.25)])
    assert finding.verdict is verdict
    assert ("why" in finding.what) == (verdict is Verdict.FAILED)
