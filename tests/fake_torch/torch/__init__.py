"""As much of torch as the engine of the GPU check calls. Sizes behave as torch's caching allocator makes them: memory
is reserved in whole pieces, kept when a tensor dies, given back by `empty_cache`; a fraction of the GPU bounds it.

FAKE_TORCH_BREAKS names what goes wrong, with commas: `cap` (the fraction is not honoured), `context` (it is too large),
`uuid` (the wrong GPU is seen).
"""

import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fake_gpu

__version__ = "2.99.0+fake"
version = SimpleNamespace(cuda="13.9")
uint8, float16 = SimpleNamespace(itemsize=1), SimpleNamespace(itemsize=2)

MIB = 1024 * 1024
PIECE = 2 * MIB
BREAKS = os.environ.get("FAKE_TORCH_BREAKS", "").split(",")
CONTEXT = (900 if "context" in BREAKS else 430) * MIB
LIBRARIES = 40 * MIB  # more context, once something is computed
NOT_TORCHS = 300 * MIB  # of the GPU's memory, which CUDA does not show
STEP = 0.005  # seconds of a product


class Cuda:
    """torch.cuda, and the allocator behind it."""

    class OutOfMemoryError(RuntimeError):
        pass

    def __init__(self) -> None:
        self.allocated = 0
        self.reserved = 0
        self.outside = 0

    def is_available(self) -> bool:
        return bool(self._visible())

    def device_count(self) -> int:
        return len(self._visible())

    def get_device_properties(self, index: int) -> Any:
        gpu = self._visible()[index]
        uuid = "00000000-dead" if "uuid" in BREAKS else gpu.uuid.removeprefix("GPU-")
        return SimpleNamespace(uuid=uuid, total_memory=gpu.total - NOT_TORCHS)

    def memory_reserved(self) -> int:
        return self.reserved

    def synchronize(self) -> None:
        pass

    def empty_cache(self) -> None:
        self.reserved = self.allocated
        self._hold(0)

    def take(self, size: int) -> None:
        """Memory for a tensor.

        Raises:
            OutOfMemoryError: beyond the fraction, or the GPU has no more.
        """
        self.outside = self.outside or CONTEXT
        more = max(0, self.allocated + size - self.reserved)
        allowed = self._fraction() * self.get_device_properties(0).total_memory
        if self.reserved + more > allowed and "cap" not in BREAKS:
            raise self.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {size} bytes.\nSecond line")
        self._hold(more)
        self.allocated += size

    def _hold(self, more: int) -> None:
        gpu = self._visible()[0]
        if not fake_gpu.hold(_state(), gpu.index, os.getpid(), self.outside + self.reserved + more):
            raise self.OutOfMemoryError("CUDA out of memory.")
        self.reserved += more

    def _fraction(self) -> float:
        options = os.environ.get("PYTORCH_CUDA_ALLOC_CONF", "")
        return float(dict(one.split(":") for one in options.split(",") if one).get("per_process_memory_fraction", 1))

    def _visible(self) -> list[fake_gpu.Gpu]:
        wanted = os.environ.get("CUDA_VISIBLE_DEVICES")
        return [gpu for gpu in fake_gpu.gpus(_state()) if wanted is None or gpu.uuid in wanted.split(",")]


cuda = Cuda()


class Tensor:
    def __init__(self, size: int) -> None:
        self.size = -(-size // PIECE) * PIECE
        cuda.take(self.size)

    def __del__(self) -> None:
        cuda.allocated -= self.size


def empty(*shape: int, dtype: Any, device: str) -> Tensor:
    size = dtype.itemsize
    for side in shape:
        size *= side
    return Tensor(size)


ones = empty


def matmul(left: Tensor, right: Tensor, *, out: Tensor) -> None:
    if cuda.outside == CONTEXT:
        cuda.outside += LIBRARIES
        cuda.empty_cache()
    time.sleep(STEP)


def _state() -> Path:
    return Path(os.environ["FAKE_NVML_STATE"])
