"""How a replica's budget is divided: weights + overhead + KV cache. Functions of data.

    kv_cache = budget - weights - overhead

Weights are those of the fullest rank: exact, or an upper bound (module `weights`), and the slots of LoRA adapters with
them, an upper bound (module `lora`). The KV cache is exact where the
architecture is known (`kv_cache`). The overhead is a model, documented at its constants, until the VRAM agent has
measured an engine of the same fingerprint; a replica over its budget does not serve.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from serve_app import lora, weights
from serve_app.checkpoint import Checkpoint
from serve_app.kv_cache import KvCache
from serve_app.kv_layers import UnknownArchitectureError
from vram_agent.api import GIB, MIB, human

# NVML. The agent's measurements replace what is reckoned here.
# The CUDA context with its modules. H100, driver 580: 676 MiB once cuBLAS is loaded (`make gpu-check`); RTX PRO 6000,
# driver 615: under 816 MiB (what a limit of 30000 MiB left).
CUDA_CONTEXT_BYTES = 832 * MIB
# Graphs of all batch sizes; vLLM logs 0.5 to 1 GiB for models of 8 billion parameters, 0.25 GiB for 1.5 billion.
CUDA_GRAPHS_BYTES = 1 * GIB
NCCL_BYTES = 512 * MIB  # buffers between the devices of one replica
# What grows later: modules loaded lazily, fragments. vLLM keeps 150 MiB for it (gpu_worker.py).
SLACK_BYTES = 256 * MIB
# vLLM's own defaults (engine/arg_utils.py, get_batch_defaults): the larger ones where they differ between GPUs.
MAX_NUM_BATCHED_TOKENS = {"nvml": 8192, "host": 4096}
MAX_NUM_SEQS = 256
# Rows of one token that live at once in the widest layer: the residual stream and its norm and projection, and the
# MLP's gate, up and product. And of one sequence in the sampler, float32: logits, probabilities, and them sorted.
STREAM_ROWS, MLP_ROWS, SAMPLER_ROWS = 3, 3, 3

# Host RAM: the replica, vLLM's EngineCore and its worker each import torch and vLLM. Measured with vLLM 0.29 and torch
# 2.13 on x86-64: 625 to 702 MiB of anonymous memory each; and 65 times the size of tokenizer.json for the tokenizers
# that they keep (Gemma 3: 31.8 MiB on disk, 2.07 GiB more than with a tokenizer of 7 KiB).
HOST_PROCESS_BYTES = 720 * MIB
HOST_PROCESSES = 3
HOST_TOKENIZER_FACTOR = 72

MIN_KV_CACHE_BYTES = 16 * MIB  # also for models that keep nothing: vLLM wants a figure


class BudgetError(ValueError):
    """The budget can't hold the model; says which `vram` would."""


@dataclass(frozen=True)
class Engine:
    """vLLM's arguments that decide how much memory it takes; names and meanings are vLLM's."""

    max_model_len: int | None  # tokens; None: not said, and not in the config either
    max_num_seqs: int
    max_num_batched_tokens: int
    tensor_parallel: int
    dtype: str
    kv_cache_dtype: str
    block_size: int | None
    enable_prefix_caching: bool | None
    mamba_ssm_cache_dtype: str
    enforce_eager: bool
    lora_slots: int  # 0: no adapters
    lora_rank: int

    @classmethod
    def of(cls, kwargs: Mapping[str, Any], config: Mapping[str, Any], device_kind: str) -> Self:
        """From the engine's keyword arguments, with vLLM's defaults for the rest."""
        text = _text(config)
        known = text.get("max_position_embeddings") or text.get("n_positions") or text.get("max_target_positions")
        return cls(
            max_model_len=kwargs.get("max_model_len") or known,
            max_num_seqs=kwargs.get("max_num_seqs") or MAX_NUM_SEQS,
            max_num_batched_tokens=kwargs.get("max_num_batched_tokens") or MAX_NUM_BATCHED_TOKENS[device_kind],
            tensor_parallel=kwargs.get("tensor_parallel_size", 1),
            dtype=kwargs.get("dtype", "auto"),
            kv_cache_dtype=kwargs.get("kv_cache_dtype", "auto"),
            block_size=kwargs.get("block_size"),
            enable_prefix_caching=kwargs.get("enable_prefix_caching"),
            mamba_ssm_cache_dtype=kwargs.get("mamba_ssm_cache_dtype", "auto"),
            enforce_eager=kwargs.get("enforce_eager", device_kind == "host"),
            lora_slots=kwargs.get("max_loras", lora.DEFAULT_SLOTS) if kwargs.get("enable_lora") else 0,
            lora_rank=kwargs.get("max_lora_rank", lora.DEFAULT_RANK),
        )


@dataclass(frozen=True)
class Split:
    """Bytes of each device that one replica uses."""

    weights: int
    overhead: int
    kv_cache: int


def divide(
    found: Checkpoint, engine: Engine, device_kind: str, budget: int, measured_overhead: int | None = None
) -> Split:
    """The division of a budget (bytes of each device).

    Args:
        device_kind: `host` or `nvml`.
        measured_overhead: what the agent measured for this `fingerprint`, bytes.

    Raises:
        BudgetError: it does not fit: the KV cache must hold one request of the full length.
    """
    least = required(found, engine, device_kind, requests=1, measured_overhead=measured_overhead)
    return split(budget, least.weights, least.overhead, least.kv_cache)


def required(
    found: Checkpoint, engine: Engine, device_kind: str, requests: int, measured_overhead: int | None = None
) -> Split:
    """What so many requests of the full length at once need; the sum of the parts is the budget for it."""
    loaded = weights.fullest_rank(found.tensors, found.config, engine.tensor_parallel, engine.dtype).bytes
    return Split(
        weights=loaded + adapters(found, engine, device_kind),
        overhead=overhead(found, engine, device_kind, measured_overhead),
        kv_cache=needed_kv_cache(found, engine, device_kind, requests),
    )


def adapters(found: Checkpoint, engine: Engine, device_kind: str) -> int:
    """Bytes of the LoRA slots. vLLM keeps a copy of each adapter in host RAM too; on `host` that is the same memory."""
    if not engine.lora_slots:
        return 0
    slots = lora.slot_bytes(found.tensors, found.config, engine.lora_slots, engine.lora_rank, engine.dtype)
    return slots * 2 if device_kind == "host" else slots


def kv_cache(found: Checkpoint, engine: Engine, device_kind: str) -> KvCache | None:
    """The KV cache of this engine; None where the architecture or the length is not known."""
    if engine.max_model_len is None:
        return None
    try:
        return KvCache.of(
            found.config,
            device=device_kind,
            max_model_len=engine.max_model_len,
            max_num_batched_tokens=engine.max_num_batched_tokens,
            tensor_parallel=engine.tensor_parallel,
            dtype=engine.dtype,
            kv_cache_dtype=engine.kv_cache_dtype,
            block_size=engine.block_size,
            enable_prefix_caching=engine.enable_prefix_caching,
            mamba_ssm_cache_dtype=engine.mamba_ssm_cache_dtype,
        )
    except UnknownArchitectureError:
        return None


def needed_kv_cache(found: Checkpoint, engine: Engine, device_kind: str, requests: int) -> int:
    """Bytes of KV cache for so many requests of the full length; the least that makes sense where that is not known."""
    cache = kv_cache(found, engine, device_kind)
    return max(MIN_KV_CACHE_BYTES, 0 if cache is None else cache.needed(requests))


def overhead(found: Checkpoint, engine: Engine, device_kind: str, measured: int | None = None) -> int:
    """Bytes beside weights and KV cache: measured, or modelled.

    On `nvml`: CUDA context + activations of one full batch + the sampler's rows + CUDA graphs + NCCL + slack.
    On `host`: what the processes of a replica import and the tokenizers that they keep.
    """
    if device_kind == "host":
        return HOST_PROCESSES * HOST_PROCESS_BYTES + HOST_TOKENIZER_FACTOR * found.tokenizer_bytes
    if measured is not None:
        return measured + SLACK_BYTES
    return (
        CUDA_CONTEXT_BYTES
        + _activations(found.config, engine)
        + (0 if engine.enforce_eager else CUDA_GRAPHS_BYTES)
        + (NCCL_BYTES if engine.tensor_parallel > 1 else 0)
        + SLACK_BYTES
    )


def fingerprint(
    found: Checkpoint, kwargs: Mapping[str, Any], device_name: str, versions: Mapping[str, str | None]
) -> str:
    """Stands for everything that decides the overhead. Two engines with the same one need the same.

    Args:
        kwargs: the engine's keyword arguments that the entry asks for; those that only shape text are left out.
        device_name: like `NVIDIA L4`.
        versions: of what runs the engine, by package.
    """
    said = {key: value for key, value in kwargs.items() if key not in {"chat_template", "override_generation_config"}}
    content = [dict(found.config), sum(tensor.bytes for tensor in found.tensors), said, device_name, dict(versions)]
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:32]


def split(budget: int, share: int, around: int, least_kv_cache: int) -> Split:
    """Divide a budget (bytes of each device) that holds this share of the weights and this overhead.

    Raises:
        BudgetError: too little is left for the KV cache.
    """
    left = budget - share - around
    if left < least_kv_cache:
        enough = -(-(share + around + least_kv_cache) // MIB)
        raise BudgetError(
            f"vram is {human(budget)}, but weights take {human(share)}, everything around them {human(around)}, "
            f"and the KV cache of one request of the full length {human(least_kv_cache)}. "
            f"FIX: set vram to at least {enough}Mi, or lower maxModelLen"
        )
    return Split(weights=share, overhead=around, kv_cache=left)


def _activations(config: Mapping[str, Any], engine: Engine) -> int:
    """Bytes that one full batch takes while it passes through, on one device."""
    text = _text(config)
    hidden = text.get("hidden_size") or text.get("n_embd") or text.get("d_model") or 0
    experts = (text.get("moe_intermediate_size") or 0) * (text.get("num_experts_per_tok") or 1)
    inner = max(text.get("intermediate_size") or text.get("d_ff") or 4 * hidden, experts) // engine.tensor_parallel
    element = weights.LOADED_BYTES.get(engine.dtype, 2)
    batch = engine.max_num_batched_tokens * (STREAM_ROWS * hidden + MLP_ROWS * inner) * element
    # What passes between the two matrices of a LoRA adapter, in float32.
    adapted = engine.max_num_batched_tokens * lora.MOST_FUSED * engine.lora_rank * 4 if engine.lora_slots else 0
    return int(batch + adapted + engine.max_num_seqs * (text.get("vocab_size") or 0) * SAMPLER_ROWS * 4)


def _text(config: Mapping[str, Any]) -> dict[str, Any]:
    """The language model's part of a config.json, over the whole."""
    return dict(config) | dict(config.get("text_config") or {})
