"""What /proc says of processes. Reads only files that any user may read, so the agent needs no ptrace rights."""

import os
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from vram_agent.records import Process

PROC = Path("/proc")
KIB = 1024
STAT_BYTES = 1024  # more than /proc/PID/stat ever has
Listing = Mapping[int, tuple[int, int]]  # by PID: the parent's PID, and the start in clock ticks since boot


def start_time(pid: int, root: Path = PROC) -> int | None:
    """Clock ticks from boot to the process's start; None when it is gone or a zombie (which holds no memory)."""
    parsed = _stat(f"{root}/{pid}/stat")
    return None if parsed is None else parsed[1]


def find(pid: int) -> Process | None:
    """The live process with this PID."""
    start = start_time(pid)
    return None if start is None else Process(pid=pid, start=start)


def name(pid: int, root: Path = PROC) -> str:
    """The command name, or `?`."""
    try:
        return (root / str(pid) / "comm").read_text(errors="replace").strip()
    except OSError:
        return "?"


def cgroup(pid: int, root: Path = PROC) -> str | None:
    """The process's cgroup (version 2), as a path below the reader's own root; None without one."""
    try:
        lines = (root / str(pid) / "cgroup").read_text().splitlines()
    except OSError:
        return None
    return next((line.removeprefix("0::") for line in lines if line.startswith("0::")), None)


def resident(pid: int, root: Path = PROC) -> int | None:
    """Bytes of anonymous and shared memory of the process; None when it is gone."""
    try:
        fields = kib_fields(root / str(pid) / "status")
    except OSError:
        return None
    return fields.get("RssAnon", 0) + fields.get("RssShmem", 0)


def kib_fields(path: Path) -> dict[str, int]:
    """The `Name:  123 kB` lines of a /proc file, in bytes.

    Raises:
        OSError: the file can't be read.
    """
    fields = {}
    for line in path.read_text(errors="replace").splitlines():  # a process names itself, with any bytes
        key, _, value = line.partition(":")
        number, _, unit = value.strip().partition(" ")
        if unit == "kB" and number.isdecimal():
            fields[key] = int(number) * KIB
    return fields


def listing(root: Path = PROC) -> Listing:
    """Every live process."""
    found = {}
    for entry in os.listdir(root):
        if entry.isdigit() and (parsed := _stat(f"{root}/{entry}/stat")) is not None:
            found[int(entry)] = parsed
    return found


class Families:
    """Who descends from whom, at one moment.

    Args:
        listed: from `listing`.
    """

    def __init__(self, listed: Listing) -> None:
        self.listed = listed
        self.children: dict[int, list[int]] = defaultdict(list)
        for pid, (parent, _) in listed.items():
            self.children[parent].append(pid)

    def of(self, roots: set[Process]) -> set[Process]:
        """The live ones of `roots` and every live process that descends from them.

        A child whose parent died is no longer reached from it, so callers pass the set that they got last time.
        """
        found: set[Process] = set()
        todo = [root.pid for root in roots if root.pid in self.listed and self.listed[root.pid][1] == root.start]
        while todo:
            pid = todo.pop()
            process = Process(pid=pid, start=self.listed[pid][1])
            if process not in found:
                found.add(process)
                todo.extend(self.children.get(pid, ()))
        return found


def _stat(path: str) -> tuple[int, int] | None:
    """(parent's PID, start time) of a live process. Fields after the name, which may hold spaces: proc_pid_stat(5)."""
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        after_name = os.read(file, STAT_BYTES).rpartition(b")")[2].split()
    except OSError:
        return None
    finally:
        os.close(file)
    return None if after_name[0] in b"ZX" else (int(after_name[1]), int(after_name[19]))
