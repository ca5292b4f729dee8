"""How a replica's budget is divided: weights + overhead + KV cache. Pure functions of numbers and of a folder's files.

    kv_cache = budget - weights - overhead

Weights are exact (the tensors' bytes, from the safetensors headers). The overhead is a model, documented at its
constants; after the start the agent measures what is really used, and a replica over its budget does not serve.
"""

import json
import struct
from dataclasses import dataclass
from pathlib import Path

from vram_agent.api import GIB, MIB, human

# NVML: CUDA context, activations of one full batch, CUDA graphs. vLLM's own default leaves 8 % of a card for these;
# 2 GiB is that share of a 24 GiB card.
CUDA_CONTEXT_BYTES = 600 * MIB
CUDA_OVERHEAD_BYTES = 2 * GIB

# Host RAM: the replica, vLLM's EngineCore and its worker each import torch and vLLM. Measured with vLLM 0.29 and torch
# 2.13 on x86-64: 625 to 702 MiB of anonymous memory each; and 65 times the size of tokenizer.json for the tokenizers
# that they keep (Gemma 3: 31.8 MiB on disk, 2.07 GiB more than with a tokenizer of 7 KiB).
HOST_PROCESS_BYTES = 720 * MIB
HOST_PROCESSES = 3
HOST_TOKENIZER_FACTOR = 72

MIN_KV_CACHE_BYTES = 16 * MIB
WEIGHT_SUFFIXES = (".bin", ".pt", ".pth", ".gguf")


class BudgetError(ValueError):
    """The budget can't hold the model; says which `vram` would."""


@dataclass(frozen=True)
class Split:
    """Bytes of each device that one replica uses."""

    weights: int
    overhead: int
    kv_cache: int


def weight_bytes(folder: Path) -> int:
    """Bytes of all tensors of the checkpoint.

    Raises:
        FileNotFoundError: the folder has no weights.
        ValueError: a safetensors file is damaged.
    """
    safetensors = sorted(folder.glob("*.safetensors"))
    if safetensors:
        return sum(_tensor_bytes(path) for path in safetensors)
    others = [path for path in folder.iterdir() if path.suffix in WEIGHT_SUFFIXES]
    if not others:
        raise FileNotFoundError(
            f"{folder} has no weights (*.safetensors, {', '.join('*' + s for s in WEIGHT_SUFFIXES)})"
        )
    return sum(path.stat().st_size for path in others)


def host_overhead(folder: Path) -> int:
    """Bytes of RAM that a replica needs beside weights and KV cache when the host's RAM is the device."""
    tokenizer = folder / "tokenizer.json"
    size = tokenizer.stat().st_size if tokenizer.exists() else 0
    return HOST_PROCESSES * HOST_PROCESS_BYTES + HOST_TOKENIZER_FACTOR * size


def divide(folder: Path, device_kind: str, budget: int, tensor_parallel: int) -> Split:
    """The division of a budget (bytes of each device) for the checkpoint in this folder.

    Args:
        device_kind: `host` or `nvml`.

    Raises:
        BudgetError: it does not fit.
        FileNotFoundError, ValueError: see `weight_bytes`.
    """
    overhead = host_overhead(folder) if device_kind == "host" else CUDA_OVERHEAD_BYTES
    return split(budget, weight_bytes(folder), overhead, tensor_parallel)


def split(budget: int, weights: int, overhead: int, tensor_parallel: int = 1) -> Split:
    """Divide a budget (bytes of each device).

    Raises:
        BudgetError: nothing useful is left for the KV cache.
    """
    share = -(-weights // tensor_parallel)
    kv_cache = budget - share - overhead
    if kv_cache < MIN_KV_CACHE_BYTES:
        enough = -(-(share + overhead + MIN_KV_CACHE_BYTES) // MIB)
        raise BudgetError(
            f"vram is {human(budget)}, but weights take {human(share)} and everything around them {human(overhead)}; "
            f"nothing is left for the KV cache. FIX: set vram to more than {enough}Mi"
        )
    return Split(weights=share, overhead=overhead, kv_cache=kv_cache)


def _tensor_bytes(path: Path) -> int:
    """From the header of one safetensors file: 8 bytes of length (little endian), then JSON with the data offsets."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > path.stat().st_size:
            raise ValueError(f"{path} is damaged: its header says {length} bytes")
        header = json.loads(file.read(length))
    return sum(
        end - start
        for key, tensor in header.items()
        if key != "__metadata__"
        for start, end in [tensor["data_offsets"]]
    )
