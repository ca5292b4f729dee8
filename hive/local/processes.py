"""Starting and ending the processes of a local Hive, and all that descends from them."""

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import psutil

from hive.errors import HiveError
from hive.local.run import Folders, Started, born

MARK = "HIVE_RUN"  # in the environment of everything that a local Hive starts


def start(name: str, command: list[str], env: Mapping[str, str], where: Folders, folder: Path | None = None) -> Started:
    """Start a daemon in a session of its own; its output goes to logs/NAME.log.

    Args:
        folder: its working directory; None: the state's.
    """
    where.logs.mkdir(parents=True, exist_ok=True)
    with (where.logs / f"{name}.log").open("wb") as log:
        child = subprocess.Popen(
            command,
            env={**env, MARK: str(where.state)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=folder or where.state,
        )
    return Started(name=name, pid=child.pid, born=born(psutil.Process(child.pid)))


def wait_until(ready: Callable[[], bool], started: Started, where: Folders, seconds: float) -> None:
    """Poll until `ready`.

    Raises:
        HiveError: the process ended, or the time is up; with the last lines of its log.
    """
    deadline = time.monotonic() + seconds
    while not ready():
        ended = started.process() is None
        if ended or time.monotonic() > deadline:
            log = where.logs / f"{started.name}.log"
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-8:])
            what = "ended" if ended else f"was not ready after {seconds:.0f} s"
            raise HiveError(f"{started.name} {what}. Its last words:\n{tail}", f"the whole log is {log}")
        time.sleep(0.2)


def end(processes: Iterable[psutil.Process], seconds: float) -> None:
    """Ask to end, wait, then make end."""
    alive = list(processes)
    for process in alive:
        _signal(process.terminate)
    _, alive = psutil.wait_procs(alive, timeout=seconds)
    for process in alive:
        _signal(process.kill)
    psutil.wait_procs(alive, timeout=seconds)


def strays(where: Folders, started: Iterable[Started] = ()) -> list[psutil.Process]:
    """Every live process of this Hive: in the session of one that it started, or with its mark in the environment.

    Neither is enough: a program may leave its session, and one that sets its own title (Ray does) overwrites the mark.
    """
    sessions = {one.pid for one in started}
    found = []
    for process in psutil.process_iter():
        try:
            marked = process.environ().get(MARK) == str(where.state)
            ours = marked or os.getsid(process.pid) in sessions
            if ours and process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, PermissionError, psutil.Error):
            continue
    return found


def port_owner(port: int) -> str | None:
    """Who listens on the port, on any address, in words; None when it can be had. (Ray's GCS takes every address.)"""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))  # noqa: S104  (to see every listener, not to listen)
        except OSError:
            pass
        else:
            return None
    try:
        for connection in psutil.net_connections("tcp"):
            listens = connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port
            if listens and connection.pid:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except (psutil.AccessDenied, psutil.NoSuchProcess):
        pass
    return "another process"


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _signal(send: Callable[[], None]) -> None:
    try:
        send()
    except psutil.NoSuchProcess:
        return
