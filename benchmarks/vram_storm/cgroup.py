"""A memory cgroup of our own, version 1 or 2, whose limit kills on overrun. All sizes in bytes."""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

MOUNT = Path("/sys/fs/cgroup")
REMOVE_DEADLINE = 10.0  # seconds


class NoCgroupError(Exception):
    """None can be made here; says what is missing."""


@dataclass(frozen=True)
class _Version:
    top: Path
    limit: str
    swap: str  # the limit on memory and swap (1), or on swap alone (2)
    usage: str
    droppable: tuple[str, str]
    events: str


V1 = _Version(
    MOUNT / "memory",
    "memory.limit_in_bytes",
    "memory.memsw.limit_in_bytes",
    "memory.usage_in_bytes",
    ("total_inactive_file", "total_active_file"),
    "memory.oom_control",
)
V2 = _Version(
    MOUNT, "memory.max", "memory.swap.max", "memory.current", ("inactive_file", "active_file"), "memory.events"
)


class MemoryCgroup:
    """A context manager: made on entry, emptied by kill -9 and removed on exit.

    Args:
        name: of the folder, at the top of the hierarchy.
        limit: bytes; a process that asks for more than is left gets the kernel's OOM killer.
    """

    def __init__(self, name: str, limit: int) -> None:
        self.version = V2 if (MOUNT / "cgroup.controllers").exists() else V1
        self.folder = self.version.top / name
        self.limit = limit

    def __enter__(self) -> "MemoryCgroup":
        """Make it.

        Raises:
            NoCgroupError: there is no memory controller, or no right to it.
        """
        version = self.version
        try:
            if version is V2:
                (version.top / "cgroup.subtree_control").write_text("+memory")
            self.folder.mkdir()
        except OSError as error:
            raise NoCgroupError(
                f"can't make a memory cgroup at {self.folder}: {error.strerror}. FIX: run as root, with the memory "
                f"controller at {version.top} writable (in a container: --privileged and --cgroupns=host)"
            ) from error
        try:
            (self.folder / version.limit).write_text(str(self.limit))
            with contextlib.suppress(FileNotFoundError):  # no swap in this kernel
                (self.folder / version.swap).write_text(str(self.limit) if version is V1 else "0")
        except OSError as error:
            self.folder.rmdir()
            raise NoCgroupError(f"can't set {error.filename}: {error.strerror}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        end = time.monotonic() + REMOVE_DEADLINE
        while self.folder.exists() and time.monotonic() < end:
            for pid in self.pids():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(OSError):  # busy until the last process is reaped
                self.folder.rmdir()
            time.sleep(0.05)
        if self.folder.exists():
            print(f"WARNING: {self.folder} is still busy and stays", file=sys.stderr)

    def program(self, program: Sequence[str], oom_score: int = 0) -> list[str]:
        """`program`, to be started inside from its first byte. The OOM killer takes those of a high score first."""
        enter = 'echo $$ > "$0" && echo "$1" > /proc/self/oom_score_adj && shift && exec "$@"'
        return ["sh", "-c", enter, str(self.folder / "cgroup.procs"), str(oom_score), *program]

    def pids(self) -> list[int]:
        """Everything inside."""
        return [int(pid) for pid in (self.folder / "cgroup.procs").read_text().split()]

    def used(self) -> int:
        """Bytes in use without the page cache, which the kernel drops before it kills."""
        stat = dict(line.split(" ", 1) for line in (self.folder / "memory.stat").read_text().splitlines())
        usage = int((self.folder / self.version.usage).read_text())
        return usage - sum(int(stat[key]) for key in self.version.droppable)

    def oom_kills(self) -> int:
        """Processes that the kernel has killed at the limit so far."""
        lines = (self.folder / self.version.events).read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
