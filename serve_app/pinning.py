"""Which GPUs an engine sees, and how much of each PyTorch may take. Functions of data; needs neither Ray nor torch."""

from serve_app.sizing import CUDA_CONTEXT_BYTES
from vram_agent.api import Device, Enforcement


def torch_fraction(device: Device, budget: int) -> float:
    """The part of the device that a budget (bytes) leaves to PyTorch: the CUDA context is outside its count."""
    return (budget - CUDA_CONTEXT_BYTES) / device.total


def gpu_environment(devices: tuple[str, ...], device: Device, budget: int) -> dict[str, str]:
    """Environment of a process on these GPUs; `device` is one of them, as the agent shows it.

    torch refuses what passes the fraction before it calls the driver. Where the driver itself limits the container, a
    fraction would be one of that limit, so there is none.
    """
    env = {"CUDA_VISIBLE_DEVICES": ",".join(devices)}
    if device.enforcement is Enforcement.TORCH:
        env["PYTORCH_CUDA_ALLOC_CONF"] = f"per_process_memory_fraction:{torch_fraction(device, budget):.6f}"
    return env
