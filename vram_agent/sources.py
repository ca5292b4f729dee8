"""Which devices this node has."""

import os

from vram_agent.devices import HostSource, Kind, NoDeviceError, Source
from vram_agent.nvml import NvmlSource


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
