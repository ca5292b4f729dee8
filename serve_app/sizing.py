"""How a replica's budget is divided: weights + overhead + KV cache. Pure functions of numbers and of a folder's files.

    kv_cache = budget - weights - overhead

Weights are those of the fullest rank: exact, or an upper bound (module `weights`). The overhead is a model, documented
at its constants; after the start the agent measures what is really used, and a replica over its budget does not serve.
"""

from dataclasses import dataclass
from pathlib import Path

from serve_app import checkpoint, weights
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


class BudgetError(ValueError):
    """The budget can't hold the model; says which `vram` would."""


@dataclass(frozen=True)
class Split:
    """Bytes of each device that one replica uses."""

    weights: int
    overhead: int
    kv_cache: int


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
        CheckpointError: see `checkpoint.read_folder`.
    """
    overhead = host_overhead(folder) if device_kind == "host" else CUDA_OVERHEAD_BYTES
    found = checkpoint.read_folder(folder)
    return split(budget, weights.fullest_rank(found.tensors, found.config, tensor_parallel).bytes, overhead)


def split(budget: int, share: int, overhead: int) -> Split:
    """Divide a budget (bytes of each device) that holds this share of the weights.

    Raises:
        BudgetError: nothing useful is left for the KV cache.
    """
    kv_cache = budget - share - overhead
    if kv_cache < MIN_KV_CACHE_BYTES:
        enough = -(-(share + overhead + MIN_KV_CACHE_BYTES) // MIB)
        raise BudgetError(
            f"vram is {human(budget)}, but weights take {human(share)} and everything around them {human(overhead)}; "
            f"nothing is left for the KV cache. FIX: set vram to more than {enough}Mi"
        )
    return Split(weights=share, overhead=overhead, kv_cache=kv_cache)
