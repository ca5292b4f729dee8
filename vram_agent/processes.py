"""What /proc says of processes. Reads only files that any user may read, so the agent needs no ptrace rights."""

import os
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from vram_agent.records import Process

PROC = Path("/proc")
KIB = 1024
STAT_BYTES = 1024  # more than /proc/PID/stat ever has
TICKS = os.sysconf("SC_CLK_TCK")  # in a second


class Listed(NamedTuple):
    """One live process in a listing."""

    parent: int
    group: int
    session: int
    start: int  # clock ticks since boot


Listing = Mapping[int, Listed]  # by PID


def now() -> int:
    """Clock ticks since boot: a process that starts from now on has this start time or a later one."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * TICKS)


def start_time(pid: int, root: Path = PROC) -> int | None:
    """Clock ticks from boot to the process's start; None when it is gone or a zombie (which holds no memory)."""
    parsed = _stat(f"{root}/{pid}/stat")
    return None if parsed is None else parsed.start


def find(pid: int) -> Process | None:
    """The live process with this PID."""
    start = start_time(pid)
    return None if start is None else Process(pid=pid, start=start)


def group(pid: int) -> int:
    """The process group that the process is in; 0 when it is gone."""
    parsed = _stat(f"{PROC}/{pid}/stat")
    return 0 if parsed is None else parsed.group


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


def is_init(pid: int, root: Path = PROC) -> bool:
    """Whether it is the first process of its PID namespace, which takes the children of the dead."""
    try:
        lines = (root / str(pid) / "status").read_text(errors="replace").splitlines()
    except OSError:
        return False
    return any(line.startswith("NSpid:") and line.split()[-1] == "1" for line in lines)


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
        for pid, process in listed.items():
            self.children[process.parent].append(pid)

    def of(self, roots: set[Process]) -> set[Process]:
        """The live ones of `roots` and every live process that descends from them.

        A child whose parent died is no longer reached from it, so callers pass the set that they got last time.
        """
        found: set[Process] = set()
        todo = [root.pid for root in roots if root.pid in self.listed and self.listed[root.pid].start == root.start]
        while todo:
            pid = todo.pop()
            process = Process(pid=pid, start=self.listed[pid].start)
            if process not in found:
                found.add(process)
                todo.extend(self.children.get(pid, ()))
        return found

    def strays(self, since: int) -> dict[Process, int]:
        """Processes that lost their parent and started at or after `since` (clock ticks), with their groups.

        A process is born into its parent's session, or leads one of its own. One that does neither has another parent
        than it was born to.
        """
        found = {}
        for pid, (parent, group, session, start) in self.listed.items():
            if start < since or session == pid:
                continue
            foster = self.listed.get(parent)
            if foster is None or foster.session != session or is_init(parent):
                found[Process(pid=pid, start=start)] = group
        return found


def _stat(path: str) -> Listed | None:
    """A live process. Fields after the name, which may hold spaces: proc_pid_stat(5)."""
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
    if after_name[0] in b"ZX":
        return None
    return Listed(
        parent=int(after_name[1]), group=int(after_name[2]), session=int(after_name[3]), start=int(after_name[19])
    )
