"""LoRA adapters: what vLLM is told about them, and the memory that their slots take. Pure.

vLLM allocates the slots at start, for `max_loras` adapters of `max_lora_rank`, on every linear layer that it knows how
to adapt, whatever the adapters hold (vllm/lora/layers). A layer of `in` inputs and `out` outputs takes
`rank x (in + out)` numbers per slot; where it makes several outputs at once, one A matrix for each of them.
"""

import re
from collections.abc import Iterable, Mapping
from math import prod
from typing import Any

from serve_app.weights import LOADED_BYTES, Tensor, parse

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # vllm/config/lora.py, MaxLoRARanks
DEFAULT_RANK, DEFAULT_SLOTS = 16, 1  # vllm/config/lora.py

# A checkpoint's tensor that feeds several outputs, and how many A matrices vLLM makes for it at most
# (vllm/lora/layers/column_parallel_linear.py, fused_moe.py). Where a checkpoint has q_proj, k_proj and v_proj apart,
# each has its own anyway.
FUSED = (
    (re.compile(r"gate_up|w13|Wi$|input_linear"), 2),
    (re.compile(r"qkv|query_key_value|c_attn"), 3),
    (re.compile(r"in_proj"), 5),
)
MOST_FUSED = 5
HEAD = re.compile(r"(^|\.)(lm_head|embed_out)$")
CODES = ("weight", "qweight", "weight_packed", "blocks")
MXFP4_BLOCK = 32


class RankError(ValueError):
    """vLLM takes no adapter of this rank."""


def engine_kwargs(adapters: int, ranks: Iterable[int] = ()) -> dict[str, Any]:
    """vLLM's arguments for so many adapters of these ranks: all of them loaded at once.

    Raises:
        RankError: vLLM takes no adapter of such a rank.
    """
    kwargs: dict[str, Any] = {"enable_lora": True, "max_loras": adapters}
    if most := max(ranks, default=0):
        kwargs["max_lora_rank"] = allowed_rank(most)
    return kwargs


def allowed_rank(rank: int) -> int:
    """The least of vLLM's ranks that holds this one.

    Raises:
        RankError: there is none.
    """
    for allowed in RANKS:
        if rank <= allowed:
            return allowed
    raise RankError(f"an adapter has the rank {rank}, and vLLM takes {RANKS[-1]} at most. FIX: use a smaller adapter")


def slot_bytes(tensors: Iterable[Tensor], config: Mapping[str, Any], slots: int, rank: int, dtype: str) -> int:
    """Upper bound of the bytes that the slots take on one device.

    Every matrix counts, those of vision towers too, which vLLM adapts only when asked. Nothing is divided by tensor
    parallelism, which splits only half of each slot.

    Args:
        config: the model's config.json.
        dtype: the engine's.
    """
    matrices = list(tensors)
    numbers = sum(_numbers(tensor, config) for tensor in matrices)
    if not any(HEAD.search(parse(tensor.name)[0]) for tensor in matrices):
        # Logits have a slot of their own where the head is the embeddings (vllm/lora/layers/logits_processor.py).
        text = dict(config) | dict(config.get("text_config") or {})
        numbers += (text.get("vocab_size") or 0) + (text.get("hidden_size") or 0)
    return numbers * slots * rank * LOADED_BYTES[dtype]


def _numbers(tensor: Tensor, config: Mapping[str, Any]) -> int:
    """Numbers of one slot and rank for one tensor of the checkpoint; none for what is no matrix."""
    module, parameter = parse(tensor.name)
    if parameter not in CODES or len(tensor.shape) < 2:
        return 0
    fused = next((matrices for name, matrices in FUSED if name.search(module)), 1)
    if parameter == "blocks" and len(tensor.shape) == 4:
        experts, outputs, blocks, _ = tensor.shape
        return experts * (fused * blocks * MXFP4_BLOCK + outputs)
    if len(tensor.shape) > 3 or (len(tensor.shape) == 3 and tensor.shape[1] == 1):
        return 0  # convolutions
    *stacked, rows, columns = tensor.shape
    packed = _values_per_element(tensor, config)
    if packed > 1 and columns == 1:  # bitsandbytes: flat codes; one side is nearly always the hidden size
        hidden = dict(config) | dict(config.get("text_config") or {})
        side = int(hidden.get("hidden_size") or 1)
        return fused * (side + -(-packed * rows // side))
    gptq = (config.get("quantization_config") or {}).get("quant_method") == "gptq"
    rows, columns = (rows * packed, columns) if gptq else (rows, columns * packed)
    if stacked or parameter == "qweight":  # which side are the inputs differs
        return prod(stacked) * fused * (rows + columns)
    return fused * columns + rows


def _values_per_element(tensor: Tensor, config: Mapping[str, Any]) -> int:
    """Weights in one element of a quantised tensor."""
    if tensor.dtype == "I32":
        return 32 // int((config.get("quantization_config") or {}).get("bits") or 4)
    return 2 if tensor.dtype == "U8" else 1
