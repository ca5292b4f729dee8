"""NVIDIA GPUs through nvidia-ml-py (its module is called pynvml)."""

import ctypes
import logging
import threading
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, TypeVar

from vram_agent.api import Enforcement
from vram_agent.devices import LimitError, NoDeviceError
from vram_agent.records import DeviceInfo, Sample

T = TypeVar("T")
log = logging.getLogger("vram_agent")
CGROUPS = Path("/sys/fs/cgroup")
NO_LIMIT = ctypes.c_ulonglong(-1).value  # NVML_DEVICE_MEMORY_LIMIT_MAX
# Xids that a program causes by its own mistake; the GPU is well. NVIDIA's k8s-device-plugin ignores the same ones.
HARMLESS_XIDS = frozenset({13, 31, 43, 45, 68, 109})


class NvmlSource:
    """Every GPU that the driver shows. One that can't be read gets samples with an error; the rest go on.

    Args:
        cgroups: where the host's cgroup tree (version 2) is mounted, for the driver's limits.

    Raises:
        NoDeviceError: there is no driver here, or it shows no GPU.
    """

    def __init__(self, cgroups: Path = CGROUPS) -> None:
        import pynvml

        self.nvml: Any = pynvml
        self.cgroups = cgroups
        self.handles: dict[str, Any] = {}
        self.infos: list[DeviceInfo] = []
        self.xids: dict[str, int] = {}  # the first critical one of each GPU; it stays until the agent starts again
        self._xids_read = 0.0
        self._xid_lock = threading.Lock()
        try:
            pynvml.nvmlInit()
            count = pynvml.nvmlDeviceGetCount()
        except pynvml.NVMLError as error:
            raise NoDeviceError(f"NVML: {error}. FIX: install the NVIDIA driver, or use the kind `host`.") from error
        if not count:
            raise NoDeviceError("NVML shows no GPU on this node. FIX: check `nvidia-smi`, or use the kind `host`.")
        for index in range(count):
            self._open(index)
        self._events = self._register_events()

    def devices(self) -> list[DeviceInfo]:
        return self.infos

    def sample(self, device: str, pids: Collection[int], now: float) -> Sample:  # noqa: ARG002 (NVML lists them)
        handle = self.handles[device]
        try:
            self._collect_xids(now)
            if self._mig(handle):
                return _unusable("MIG mode is on; Hive leases whole GPUs. FIX: nvidia-smi -mig 0", now)
            if (xid := self.xids.get(device)) is not None:
                return _unusable(
                    f"the driver reported Xid {xid} for it. FIX: see `dmesg`, reset the GPU or restart the node, "
                    "then restart the agent",
                    now,
                )
            # Whether v2's `used` holds `reserved` differs between drivers; total, free and reserved do not.
            memory = self.nvml.nvmlDeviceGetMemoryInfo(handle, version=self.nvml.nvmlMemory_v2)
            by_pid = self._by_pid(handle)
        except self.nvml.NVMLError as error:
            return _unusable(f"NVML: {error}", now)
        if any(size is None for size in by_pid.values()):
            return _unusable("NVML gives no per-process memory here (vGPU mode)", now)
        used = memory.total - memory.free - memory.reserved
        if used < 0:
            figures = f"total {memory.total}, free {memory.free}, reserved {memory.reserved}"
            return _unusable(f"NVML contradicts itself: {figures}", now)
        sizes = {pid: size for pid, size in by_pid.items() if size is not None}
        return Sample(total=memory.total, reserved=memory.reserved, used=used, by_pid=sizes, taken=now)

    def limit(self, device: str, cgroup: str, size: int) -> None:
        """Soft and hard limit are the same: nothing that was promised is taken back under pressure."""
        limits = self.nvml.c_nvmlSetMemoryLimits_v1_t()
        limits.nameSpace = str(self._folder(cgroup)).encode()
        limits.softLimit = size
        limits.hardLimit = size or NO_LIMIT
        try:
            self.nvml.nvmlDeviceSetMemoryLimits_v1(self.handles[device], limits)
        except self.nvml.NVMLError as error:
            raise LimitError(f"NVML: {error}") from error

    # -- inside ------------------------------------------------------------------------------------------------

    def _open(self, index: int) -> None:
        try:
            handle = self.nvml.nvmlDeviceGetHandleByIndex(index)
            uuid = self.nvml.nvmlDeviceGetUUID(handle)
        except self.nvml.NVMLError as error:
            reason = f"the agent could not open it: NVML: {error}. FIX: see `nvidia-smi`, then restart the agent"
            log.error("GPU %s: %s", index, reason)
            self.infos.append(DeviceInfo(id=f"index-{index}", kind="nvml", name="NVIDIA GPU", lost=reason))
            return
        self.handles[uuid] = handle
        name = self._ask("NVIDIA GPU", self.nvml.nvmlDeviceGetName, handle)
        limited = self._ask(False, self._can_limit, handle)
        enforcement = Enforcement.DRIVER if limited else Enforcement.TORCH
        self.infos.append(DeviceInfo(id=uuid, kind="nvml", name=name, enforcement=enforcement))

    def _ask(self, otherwise: T, function: Callable[..., T], *arguments: object) -> T:
        """What NVML answers, where this driver and this GPU can answer."""
        try:
            return function(*arguments)
        except self.nvml.NVMLError:
            return otherwise

    def _can_limit(self, handle: object) -> bool:
        """Driver R615, nvidia-ml-py 13.615 and later, and a cgroup tree that the agent was given to write to."""
        if not hasattr(self.nvml, "c_nvmlGetMemoryLimits_v1_t"):
            return False
        limits = self.nvml.c_nvmlGetMemoryLimits_v1_t()
        limits.nameSpace = str(self.cgroups).encode()
        self.nvml.nvmlDeviceGetMemoryLimits_v1(handle, limits)
        return (self.cgroups / "kubepods").exists() or (self.cgroups / "kubepods.slice").exists()

    def _mig(self, handle: object) -> bool:
        current, _ = self._ask((0, 0), self.nvml.nvmlDeviceGetMigMode, handle)
        return bool(current == self.nvml.NVML_DEVICE_MIG_ENABLE)

    def _by_pid(self, handle: object) -> dict[int, int | None]:
        """Bytes of every process, host PIDs. One that computes and draws is in two lists with the same figure; under
        MPS the clients are in a list of their own."""
        found: dict[int, int | None] = {}
        others = (
            self.nvml.nvmlDeviceGetGraphicsRunningProcesses_v3,
            self.nvml.nvmlDeviceGetMPSComputeRunningProcesses_v3,
        )
        for function in others:
            listed: list[Any] = self._ask([], function, handle)
            found |= {p.pid: p.usedGpuMemory for p in listed}
        return found | {p.pid: p.usedGpuMemory for p in self.nvml.nvmlDeviceGetComputeRunningProcesses_v3(handle)}

    def _register_events(self) -> Any:
        """The driver's news of critical errors; None where it has none to give."""
        events: Any = self._ask(None, self.nvml.nvmlEventSetCreate)
        if events is not None:
            for handle in self.handles.values():
                self._ask(
                    None, self.nvml.nvmlDeviceRegisterEvents, handle, self.nvml.nvmlEventTypeXidCriticalError, events
                )
        return events

    def _collect_xids(self, now: float) -> None:
        """Note what has arrived since the last time; waits for nothing. Once for all GPUs of one round."""
        with self._xid_lock:
            if now == self._xids_read:
                return
            self._xids_read = now
            while self._events is not None:
                try:
                    event = self.nvml.nvmlEventSetWait_v2(self._events, 0)
                except self.nvml.NVMLError_Timeout:
                    return
                except self.nvml.NVMLError as error:
                    log.error("the driver's errors are not heard any more: NVML: %s", error)
                    self._events = None
                    return
                uuid = self._ask(None, self.nvml.nvmlDeviceGetUUID, event.device)
                if event.eventData not in HARMLESS_XIDS:
                    # A GPU that can't even say its name any more may be any of them.
                    for device in [uuid] if uuid in self.handles else list(self.handles):
                        self.xids.setdefault(device, event.eventData)

    def _folder(self, cgroup: str) -> Path:
        """The folder of a cgroup in the host's tree. /proc tells it relative to the agent's own container
        (../../pod/container), so it is found by its last name, which holds the container's id.

        Raises:
            LimitError: it is no container's, or is gone.
        """
        name = Path(cgroup).name
        found = next(self.cgroups.rglob(name), None) if name not in {"", ".."} else None
        if found is None:
            raise LimitError(f"there is no container with the cgroup {cgroup}")
        return found


def _unusable(reason: str, now: float) -> Sample:
    return Sample(total=0, reserved=0, used=0, by_pid={}, taken=now, error=reason)
