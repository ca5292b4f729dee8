"""Processes of a local Hive: nothing that it starts is lost, and ports have owners."""

import os
import socket
import sys
from pathlib import Path

import psutil
import pytest

from hive.errors import HiveError
from hive.local import processes
from hive.local.run import Folders, Run, Started, born, load

# Starts a child in a session of its own that ignores SIGTERM, tells both PIDs, and waits.
STUBBORN = """
import os, signal, subprocess, sys
code = "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('x', flush=True); signal.pause()"
child = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stdout=subprocess.PIPE)
child.stdout.readline()
open(sys.argv[1], "w").write(str(child.pid))
os.rename(sys.argv[1], sys.argv[1] + ".ready")
signal.pause()
"""


def test_strays_are_found_by_their_mark_and_end_even_if_stubborn(tmp_path: Path) -> None:
    where = Folders(tmp_path)
    ready = tmp_path / "pid.ready"
    command = [sys.executable, "-c", STUBBORN, str(tmp_path / "pid")]
    started = processes.start("parent", command, dict(os.environ), where)
    processes.wait_until(ready.exists, started, where, 20)
    child = int(ready.read_text())
    assert {p.pid for p in processes.strays(where)} == {started.pid, child}
    processes.end(processes.strays(where), 0.5)
    assert processes.strays(where) == []
    assert started.process() is None


def test_a_clock_that_is_set_right_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel says when it booted by the time of day."""
    me = Started("agent", os.getpid(), born(psutil.Process()))
    boot = psutil.boot_time()
    monkeypatch.setattr("psutil._pslinux.boot_time", lambda: boot + 100)
    assert psutil.boot_time() == boot + 100
    assert me.process() is not None


def test_a_part_that_ends_early_is_reported_with_its_last_words(tmp_path: Path) -> None:
    where = Folders(tmp_path)
    command = [sys.executable, "-c", "print('the reason'); raise SystemExit(1)"]
    started = processes.start("head", command, dict(os.environ), where)
    with pytest.raises(HiveError, match=r"head ended(.|\n)*the reason"):
        processes.wait_until(lambda: False, started, where, 20)


def test_a_taken_port_has_an_owner_and_a_free_one_none() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        owner = processes.port_owner(port)
        assert owner is not None
        assert f"pid {os.getpid()}" in owner
    assert processes.port_owner(port) is None


def test_a_run_is_found_again_and_its_dead_are_told(tmp_path: Path) -> None:
    where = Folders(tmp_path)
    assert load(where) is None
    run = Run("values.yaml", "digest", "http://d", "http://a", "http://s", "http://g")
    run.processes.append(processes.start("agent", [sys.executable, "-c", ""], dict(os.environ), where))
    run.save(where)
    found = load(where)
    assert found == run
    while not found.dead():  # one that has just begun may not show whose it is yet
        processes.end(processes.strays(where), 5)
    assert [started.name for started in found.dead()] == ["agent"]


def test_socket_paths_stay_short_however_deep_the_checkout(tmp_path: Path) -> None:
    deep = Folders(tmp_path / ("x" * 100) / ".hive")
    assert len(str(deep.socket)) < 107
    assert deep.socket != Folders(tmp_path).socket
