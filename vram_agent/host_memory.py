"""How much memory the `host` device has, in bytes: the machine's, or less where a memory cgroup sets a smaller limit.

A container or a systemd slice is killed at its cgroup's limit, whatever /proc/meminfo says, so the limit is the size
that counts. Only reads files; `root` is another folder in tests.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from vram_agent.processes import kib_fields

ROOT = Path("/")


@dataclass(frozen=True)
class HostMemory:
    """Bytes. `used` leaves out what the kernel drops by itself: it can be had."""

    total: int
    used: int


@dataclass(frozen=True)
class _Files:
    """What the two versions of memory cgroups call the same things."""

    limit: str
    usage: str
    droppable: tuple[str, str]  # keys of memory.stat, descendants included


V1 = _Files("memory.limit_in_bytes", "memory.usage_in_bytes", ("total_inactive_file", "total_active_file"))
V2 = _Files("memory.max", "memory.current", ("inactive_file", "active_file"))


def read(root: Path = ROOT) -> HostMemory:
    """The memory that this process and those beside it can have now.

    Raises:
        OSError: the proc file system can't be read.
    """
    machine = kib_fields(root / "proc/meminfo")
    total, available = machine["MemTotal"], machine["MemAvailable"]
    limited = [memory for memory in _cgroups(root) if memory.total < total]
    if not limited:
        return HostMemory(total=total, used=total - available)
    tightest = min(limited, key=lambda memory: memory.total)
    # A machine that is itself short of memory can't give what a cgroup allows.
    return HostMemory(total=tightest.total, used=max(tightest.used, tightest.total - available))


def _cgroups(root: Path) -> Iterator[HostMemory]:
    """Limit and use of this process's memory cgroup and of all above it that have a limit."""
    found = _place(root)
    if found is None:
        return
    files, top, folder = found
    while True:
        if (memory := _limited(folder, files)) is not None:
            yield memory
        if folder == top:
            return
        folder = folder.parent


def _place(root: Path) -> tuple[_Files, Path, Path] | None:
    """The kind of this process's memory cgroup, the mount that shows it, and its folder there.

    None when there is no such mount, and when process 1 is outside of it: then this is a container that shares its
    node's PIDs (the chart's agent), and its cgroup holds nobody else.
    """
    own, first = _memberships(root / "proc/self/cgroup"), _memberships(root / "proc/1/cgroup")
    for files, controller in ((V1, "memory"), (V2, "")):
        mount = _mount(root, controller)
        if mount is None or controller not in own:
            continue
        shown, point = mount
        paths = [members.get(controller, PurePosixPath("/..")) for members in (own, first)]
        if any(".." in path.parts or not path.is_relative_to(shown) for path in paths):
            return None
        return files, point, point / paths[0].relative_to(shown)
    return None


def _memberships(path: Path) -> dict[str, PurePosixPath]:
    """The paths in /proc/PID/cgroup by controller; version 2's has the name "". Empty when it can't be read."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    fields = [line.split(":", 2) for line in lines]
    return {controller: PurePosixPath(where) for _, names, where in fields for controller in names.split(",")}


def _mount(root: Path, controller: str) -> tuple[PurePosixPath, Path] | None:
    """(the cgroup that the mount shows, where it is mounted): proc_pid_mountinfo(5)."""
    for line in (root / "proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        if (controller and kind == "cgroup" and controller in options.split(",")) or (
            not controller and kind == "cgroup2"
        ):
            shown, point = before.split(" ")[3:5]
            return PurePosixPath(shown), root / point.lstrip("/")
    return None


def _limited(folder: Path, files: _Files) -> HostMemory | None:
    """A cgroup's limit and its use; None where it has no limit (`max`, or no such file at version 2's root)."""
    try:
        limit = (folder / files.limit).read_text().strip()
        if limit == "max":
            return None
        stat = dict(line.split(" ", 1) for line in (folder / "memory.stat").read_text().splitlines())
        usage = int((folder / files.usage).read_text())
    except OSError:
        return None
    return HostMemory(total=int(limit), used=max(0, usage - sum(int(stat[key]) for key in files.droppable)))
