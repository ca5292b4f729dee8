"""What /proc says of processes. Reads only files that any user may read, so the agent needs no ptrace rights."""

from collections import defaultdict
from pathlib import Path

from vram_agent.ledger import Process

PROC = Path("/proc")
KIB = 1024


def start_time(pid: int, root: Path = PROC) -> int | None:
    """Clock ticks from boot to the process's start; None when it is gone or a zombie (which holds no memory)."""
    parsed = _stat(root / str(pid))
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


def with_descendants(roots: set[Process], root: Path = PROC) -> set[Process]:
    """The live ones of `roots` and every live process that descends from them.

    A child whose parent died is no longer reached from it, so callers pass the set that they got last time.
    """
    alive: dict[int, int] = {}
    children: dict[int, list[int]] = defaultdict(list)
    for entry in root.iterdir():
        if entry.name.isdigit() and (parsed := _stat(entry)) is not None:
            parent, start = parsed
            alive[int(entry.name)] = start
            children[parent].append(int(entry.name))
    found: set[Process] = set()
    todo = [process.pid for process in roots if alive.get(process.pid) == process.start]
    while todo:
        pid = todo.pop()
        process = Process(pid=pid, start=alive[pid])
        if process not in found:
            found.add(process)
            todo.extend(children[pid])
    return found


def _stat(folder: Path) -> tuple[int, int] | None:
    """(parent's PID, start time) of a live process. Fields after the name, which may hold spaces: proc_pid_stat(5)."""
    try:
        after_name = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    state, parent, start = after_name[0], int(after_name[1]), int(after_name[19])
    return None if state in "ZX" else (parent, start)
