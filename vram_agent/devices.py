"""The devices of this node behind one interface: `nvml` for NVIDIA GPUs, `host` for the RAM of a machine without.

Both report integers of bytes. `host` takes a GPU's place where there is none, so that everything above runs the same.
"""

import logging
import os
import platform
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from vram_agent import processes
from vram_agent.ledger import DeviceInfo, Sample

log = logging.getLogger("vram_agent")
HOST_ID = "host"
Kind = Literal["auto", "nvml", "host"]


class Source(Protocol):
    """Where samples come from."""

    def devices(self) -> list[DeviceInfo]:
        """The devices that there are; the same for as long as the agent runs."""

    def sample(self, pids: Collection[int], now: float) -> Mapping[str, Sample]:
        """One reading of every device. `pids` are the leases' processes, for sources that can't list all of them."""


class NoDeviceError(Exception):
    """This node has no device of the wanted kind; says what to do."""


class HostSource:
    """RAM as one device. Its `used` is MemTotal - MemAvailable, and a process's bytes are its anonymous and shared
    pages: what would have to be swapped or killed to get the memory back. Mapped files are left out, because the
    kernel drops them by itself (proc(5), RssAnon, RssShmem, RssFile).

    Args:
        root: the proc file system; another one in tests.
    """

    def __init__(self, root: Path = Path("/proc")) -> None:
        self.root = root

    def devices(self) -> list[DeviceInfo]:
        return [DeviceInfo(id=HOST_ID, kind="host", name=f"RAM of {platform.node()}")]

    def sample(self, pids: Collection[int], now: float) -> Mapping[str, Sample]:
        memory = processes.kib_fields(self.root / "meminfo")
        by_pid = {pid: size for pid in pids if (size := processes.resident(pid, self.root)) is not None}
        total = memory["MemTotal"]
        return {
            HOST_ID: Sample(
                total=total,
                reserved=0,
                used=total - memory["MemAvailable"],
                by_pid=by_pid,
                taken=now,
            )
        }


class NvmlSource:
    """NVIDIA GPUs through nvidia-ml-py. A GPU that can't be read gets a sample with an error; the rest go on.

    Raises:
        NoDeviceError: there is no driver here, or it shows no GPU.
    """

    def __init__(self) -> None:
        import pynvml

        self.nvml: Any = pynvml
        self.handles: dict[str, Any] = {}
        try:
            pynvml.nvmlInit()
            count = pynvml.nvmlDeviceGetCount()
        except pynvml.NVMLError as error:
            raise NoDeviceError(f"NVML: {error}. FIX: install the NVIDIA driver, or use the kind `host`.") from error
        for index in range(count):
            try:
                handle = pynvml.nvmlDeviceGetHandleByIndex(index)
                self.handles[pynvml.nvmlDeviceGetUUID(handle)] = handle
            except pynvml.NVMLError as error:
                log.error("GPU %s is left out until the agent starts again: NVML: %s", index, error)
        if not self.handles:
            raise NoDeviceError("NVML shows no GPU on this node. FIX: check `nvidia-smi`, or use the kind `host`.")

    def devices(self) -> list[DeviceInfo]:
        return [DeviceInfo(id=uuid, kind="nvml", name=self._name(handle)) for uuid, handle in self.handles.items()]

    def sample(self, pids: Collection[int], now: float) -> Mapping[str, Sample]:  # noqa: ARG002 (NVML lists them)
        return {uuid: self._sample_one(handle, now) for uuid, handle in self.handles.items()}

    def _sample_one(self, handle: object, now: float) -> Sample:
        nvml = self.nvml
        try:
            # Whether v2's `used` holds `reserved` differs between drivers; total, free and reserved do not.
            memory = nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2)
            listed = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
        except nvml.NVMLError as error:
            return Sample(total=0, reserved=0, used=0, by_pid={}, taken=now, error=f"NVML: {error}")
        by_pid = {process.pid: process.usedGpuMemory for process in listed}
        if any(size is None for size in by_pid.values()):
            reason = "NVML gives no per-process memory here (MIG or vGPU mode)"
            return Sample(total=memory.total, reserved=memory.reserved, used=0, by_pid={}, taken=now, error=reason)
        used = memory.total - memory.free - memory.reserved
        return Sample(total=memory.total, reserved=memory.reserved, used=used, by_pid=by_pid, taken=now)

    def _name(self, handle: object) -> str:
        try:
            return str(self.nvml.nvmlDeviceGetName(handle))
        except self.nvml.NVMLError:
            return "NVIDIA GPU"


def open_source(kind: Kind) -> Source:
    """The source of the wanted kind; `auto` takes NVML where it shows a GPU, and the host's RAM elsewhere.

    Raises:
        NoDeviceError: `nvml` was asked for and there is no GPU.
    """
    if kind == "host":
        return HostSource()
    try:
        return NvmlSource()
    except NoDeviceError:
        # A node with the driver's device files but a broken NVML must not pass for a machine without a GPU.
        if kind == "nvml" or os.path.exists("/dev/nvidiactl"):
            raise
        return HostSource()
