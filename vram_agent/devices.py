"""The devices of this node behind one interface: `nvml` for NVIDIA GPUs, `host` for the RAM of a machine without.

Both report integers of bytes. `host` takes a GPU's place where there is none, so that everything above runs the same.
"""

import platform
from collections.abc import Collection
from pathlib import Path
from typing import Literal, Protocol

from vram_agent import host_memory, processes
from vram_agent.records import DeviceInfo, Sample

HOST_ID = "host"
Kind = Literal["auto", "nvml", "host"]


class Source(Protocol):
    """Where samples come from. `sample` and `limit` are called from a thread for each device, and may hang there."""

    def devices(self) -> list[DeviceInfo]:
        """The devices that there are; the same for as long as the agent runs."""

    def sample(self, device: str, pids: Collection[int], now: float) -> Sample:
        """One reading of a device. `pids` are the leases' processes, for sources that can't list all of them."""

    def limit(self, device: str, cgroup: str, size: int) -> None:
        """Where the driver can: let all processes of a cgroup have no more than `size` bytes of the device together,
        or any number when `size` is 0. Called for devices with `Enforcement.DRIVER` alone.

        Raises:
            LimitError: the driver refuses.
        """


class NoDeviceError(Exception):
    """This node has no device of the wanted kind; says what to do."""


class LimitError(Exception):
    """The driver does not take the limit."""


class HostSource:
    """RAM as one device: the machine's, or its cgroup's (`host_memory`). A process's bytes are its anonymous and shared
    pages: what would have to be swapped or killed to get the memory back. Mapped files are left out, because the
    kernel drops them by itself (proc(5), RssAnon, RssShmem, RssFile).

    Args:
        root: the file system with proc and sys; another one in tests.
    """

    def __init__(self, root: Path = host_memory.ROOT) -> None:
        self.root = root

    def devices(self) -> list[DeviceInfo]:
        return [DeviceInfo(id=HOST_ID, kind="host", name=f"RAM of {platform.node()}")]

    def sample(self, device: str, pids: Collection[int], now: float) -> Sample:  # noqa: ARG002 (there is one)
        memory = host_memory.read(self.root)
        by_pid = {pid: size for pid in pids if (size := processes.resident(pid, self.root / "proc")) is not None}
        return Sample(total=memory.total, reserved=0, used=memory.used, by_pid=by_pid, taken=now)

    def limit(self, device: str, cgroup: str, size: int) -> None:  # noqa: ARG002
        raise LimitError("the agent sets no limits on RAM")
