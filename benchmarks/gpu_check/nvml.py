"""NVML as the check reads it, apart from the agent's own code: a judge must not share the bugs of the judged."""

import ctypes
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import pynvml

PAUSE = 0.001  # seconds between two readings of a watch
CGROUPS = b"/sys/fs/cgroup"


@dataclass(frozen=True)
class Memory:
    """Bytes. v1 has no `reserved`."""

    total: int
    free: int
    used: int
    reserved: int = 0


class Gpu:
    """One GPU.

    Args:
        handle: NVML's.
    """

    def __init__(self, handle: Any) -> None:
        self.handle = handle
        self.uuid: str = pynvml.nvmlDeviceGetUUID(handle)
        self.name: str = pynvml.nvmlDeviceGetName(handle)

    def v1(self) -> Memory:
        found = pynvml.nvmlDeviceGetMemoryInfo(self.handle)
        return Memory(found.total, found.free, found.used)

    def v2(self) -> Memory:
        found = pynvml.nvmlDeviceGetMemoryInfo(self.handle, version=pynvml.nvmlMemory_v2)
        return Memory(found.total, found.free, found.used, found.reserved)

    def used(self) -> int:
        """Bytes in use by anybody, without what the driver keeps."""
        found = self.v2()
        return found.total - found.free - found.reserved

    def by_pid(self) -> dict[int, int | None]:
        """Bytes of every process that computes."""
        return {p.pid: p.usedGpuMemory for p in pynvml.nvmlDeviceGetComputeRunningProcesses_v3(self.handle)}

    def limits(self) -> str:
        """Whether the driver has memory limits for cgroups, in words."""
        asked = pynvml.c_nvmlGetMemoryLimits_v1_t()
        asked.nameSpace = CGROUPS
        try:
            pynvml.nvmlDeviceGetMemoryLimits_v1(self.handle, asked)
        except pynvml.NVMLError_FunctionNotFound:
            return "the driver's library has no such function"
        except pynvml.NVMLError as error:
            return f"the driver has the function and says: {error}"
        free = asked.hardLimit == ctypes.c_ulonglong(-1).value
        return "the driver has them; " + ("none is set here" if free else f"{asked.hardLimit} bytes here")


def gpus() -> list[Gpu]:
    """Every GPU that the driver shows.

    Raises:
        pynvml.NVMLError: there is no driver, or it fails.
    """
    pynvml.nvmlInit()
    return [Gpu(pynvml.nvmlDeviceGetHandleByIndex(index)) for index in range(pynvml.nvmlDeviceGetCount())]


def driver() -> str:
    return str(pynvml.nvmlSystemGetDriverVersion())


class Watch:
    """Reads one process's bytes as often as it can, in a thread, from entry to exit. Times are of the monotonic clock.

    Args:
        measure: the process's bytes on the GPU.
        pid: the process.
        rest: bytes that may be left of it, where they are not measured to the byte.
    """

    def __init__(self, measure: Callable[[], int], pid: int, rest: int = 0) -> None:
        self.measure = measure
        self.pid = pid
        self.rest = rest
        self.peak = 0
        self.readings = 0
        self.error: str | None = None
        self.dead: float | None = None  # when it was no longer in /proc
        self.freed: float | None = None  # since when its bytes were not seen
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        while not self._over.wait(PAUSE):
            try:
                size = self.measure()
            except pynvml.NVMLError as error:
                self.error = f"NVML: {error}"
                return
            now = time.monotonic()
            self.readings += 1
            self.peak = max(self.peak, size)
            if size > self.rest:
                self.freed = None
            elif self.freed is None:
                self.freed = now
            if self.dead is None and not alive(self.pid):
                self.dead = now


def alive(pid: int) -> bool:
    """Whether it is in /proc and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
