"""What a local Hive needs of its machine."""

import os
import socket
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from hive.doctor import machine
from hive.doctor.finding import Finding, Verdict
from hive.doctor.machine import Machine
from hive.local.run import Folders, Started, born
from tests.unit.hive.doctor.objects import only, verdicts
from vram_agent.api import GIB

OK, WARNING, FAILED = Verdict
GOOD = Machine(
    system="Linux",
    python=(3, 12),
    packages={"ray": "2.60.0", "vllm": "0.29.0"},
    has_driver=False,
    gpus=(),
    has_libnuma=True,
    ram_free=16 * GIB,
    disk_free=100 * GIB,
)


def bad(machine_: Machine, *, runs: bool = False) -> list[Finding]:
    """What is wrong with it."""
    found = list(machine.fit(machine_, runs=runs))
    verdicts(found)
    return [finding for finding in found if finding.verdict is not OK]


def test_a_good_machine_has_nothing_wrong() -> None:
    assert bad(GOOD) == []
    assert bad(replace(GOOD, has_driver=True, gpus=("H100",), has_libnuma=False)) == []


@pytest.mark.parametrize(
    ("change", "verdict", "words"),
    [
        ({"system": "Darwin"}, FAILED, "Darwin"),
        ({"python": (3, 14)}, FAILED, "Python 3.14"),
        ({"python": (3, 10)}, FAILED, "Python 3.10"),
        ({"packages": {"ray": "2.60.0"}}, FAILED, "vllm not installed"),
        ({"has_libnuma": False}, FAILED, "libnuma"),
        ({"has_driver": True, "gpus": "Driver/library version mismatch"}, FAILED, "mismatch"),
        ({"has_driver": True, "gpus": ()}, FAILED, "no GPU"),
        ({"ram_free": GIB}, WARNING, "1.00 GiB of RAM"),
        ({"disk_free": GIB}, WARNING, "1.00 GiB of disk"),
    ],
)
def test_each_lack_is_named(change: dict[str, object], verdict: Verdict, words: str) -> None:
    (finding,) = bad(replace(GOOD, **change))  # type: ignore[arg-type]
    assert (finding.verdict, words in finding.what) == (verdict, True)


def test_ram_that_a_running_hive_has_is_not_missing() -> None:
    assert bad(replace(GOOD, ram_free=GIB), runs=True) == []


def test_this_machine_can_be_looked_at(tmp_path: Path) -> None:
    found = machine.read(Folders(tmp_path / "not" / "yet"))
    assert found.ram_free > 0
    assert found.disk_free > 0


def test_a_taken_port_is_named_with_its_owner() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        finding = only(machine.ports(machine.owners({"serve": port})))
        assert finding.verdict is WARNING
        assert str(port) in finding.what
        assert "ports.serve" in finding.fix
    assert only(machine.ports(machine.owners({"serve": port}))).verdict is OK


def test_dead_parts_are_named_and_the_mend_depends_on_which() -> None:
    alive = Started("agent", os.getpid(), born(psutil.Process()))
    dead = replace(alive, born=0.0)
    logs = Path("logs")
    assert only(machine.parts([alive], logs)).verdict is OK
    assert "starts it again" in only(machine.parts([dead], logs)).fix
    assert "hive down" in only(machine.parts([alive, replace(dead, name="worker-0")], logs)).fix


def test_models_are_listed(tmp_path: Path) -> None:
    assert only(machine.folders(tmp_path)).verdict is WARNING
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "config.json").touch()
    assert only(machine.folders(tmp_path)).what.endswith("holds tiny")
