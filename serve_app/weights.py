"""Bytes that a model's weights take on one tensor-parallel rank, from the checkpoint's tensors and config alone. Pure.

`layout` says what vLLM makes of a tensor: split over the ranks, whole on each, or not loaded; here the sums are done.
What `layout` does not know counts whole on every rank, so the answer is then an upper bound.

Counted is what vLLM's modules hold when they are built, and what it adds to it after loading where that is known to be
more (`_mla_copy`, `_mxfp4_share`). Not counted: buffers that are in no checkpoint (rotary tables), LoRA slots (`lora`),
draft models, a vision tower that `mm_encoder_tp_mode: data` puts whole on every rank, and what kernels pad or repack.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, prod
from typing import Any

from serve_app.layout import KNOWN, ONE_KV_HEAD_PER_HEAD, RULES, VOCABULARY, Place

# `dtype` of the engine -> bytes of a floating parameter, and of an element of keys and values. `auto` is never 4: vLLM
# loads F32 checkpoints in 16 bits (vllm/config/model.py, _resolve_auto_dtype).
LOADED_BYTES = {"auto": 2, "half": 2, "float16": 2, "bfloat16": 2, "float": 4, "float32": 4}
# dtypes of safetensors that vLLM casts; every other one keeps its bytes.
CAST_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
F32_BYTES = 4

# vllm/model_executor/layers/vocab_parallel_embedding.py, DEFAULT_VOCAB_PADDING_SIZE.
VOCAB_PADDING = 64
# vllm/model_executor/layers/fused_moe/oracle/mxfp4.py, the largest paddings of its CUDA kernels; gpt-oss-20b takes 9 %
# more than its file by them.
MXFP4_INTERMEDIATE_PADDING = 128
MXFP4_HIDDEN_PADDING = 256
MXFP4_BLOCK = 32
# Scales of attention in one layer of a quantised model, a few numbers that are in no file
# (vllm/model_executor/layers/quantization/kv_cache.py).
ATTENTION_SCALES_BYTES = 64


@dataclass(frozen=True)
class Tensor:
    """One tensor of a checkpoint, as its header names it.

    `bytes` is its size in the file. A file whose inside is unknown is one tensor of dtype `OPAQUE`.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int


@dataclass(frozen=True)
class RankWeights:
    """The rank that holds most."""

    bytes: int
    exact: bool
    """False: an upper bound."""


# Parameters of one module. Codes are what the scales scale.
_CODES = ("weight", "qweight", "weight_packed", "blocks")
_SCALES = (
    "scales",
    "qzeros",
    "weight_scale",
    "weight_scale_inv",
    "weight_scale_2",
    "weight_zero_point",
    "weight.absmax",
    "weight.nested_absmax",
)
_SMALL = (
    "g_idx",
    "weight_g_idx",
    "weight_shape",
    "weight_global_scale",
    "input_scale",
    "input_global_scale",
    "weight.quant_map",
    "weight.nested_quant_map",
    r"weight.quant_state.bitsandbytes__\w+",
)
_PARAMETER = re.compile(rf"(.*?)[._](bias|inv_freq|{'|'.join(_CODES + _SCALES + _SMALL)})")


def fullest_rank(
    tensors: Iterable[Tensor], config: Mapping[str, Any], tensor_parallel: int, dtype: str = "auto"
) -> RankWeights:
    """Bytes of the rank that holds most.

    Args:
        config: the checkpoint's config.json.
        tensor_parallel: ranks.
        dtype: the engine's `dtype`.

    Raises:
        ValueError: the engine has no such dtype.
    """
    if dtype not in LOADED_BYTES:
        raise ValueError(f"dtype {dtype!r} is unknown. FIX: one of {', '.join(LOADED_BYTES)}")
    model = _Model(config, tensor_parallel, LOADED_BYTES[dtype])
    parts = [model.tensor(tensor) for tensor in tensors]
    return RankWeights(
        bytes=sum(part.bytes for part in parts) + model.bytes_in_no_file,
        exact=all(part.exact for part in parts) and not model.bytes_in_no_file,
    )


class _Model:
    """What the rules need to know of the model and the engine."""

    def __init__(self, config: Mapping[str, Any], ranks: int, loaded_bytes: int) -> None:
        self._ranks = ranks
        self._loaded_bytes = loaded_bytes
        architecture = next(iter(config.get("architectures") or ()), "")
        own = KNOWN.get(architecture)
        self._rules = None if own is None else own + RULES
        quantisation = config.get("quantization_config") or {}
        self._quantisation = quantisation.get("quant_method")
        self._packed = quantisation.get("format") == "pack-quantized"
        text = config.get("text_config") or config
        self._heads, self._kv_heads = _heads(text, architecture)
        self._layers = layers = int(text.get("num_hidden_layers") or text.get("n_layer") or 0)
        self._mtp_layers = int(text.get("num_nextn_predict_layers") or 0)
        self._vocabulary = int(text.get("vocab_size") or 0)
        self._tied = bool(config.get("tie_word_embeddings", text.get("tie_word_embeddings")))
        self.bytes_in_no_file = max(layers, 1) * ATTENTION_SCALES_BYTES if self._quantisation else 0

    def tensor(self, tensor: Tensor) -> RankWeights:
        """The part of one tensor on the fullest rank."""
        module, parameter = parse(tensor.name)
        if self._rules is None:
            return RankWeights(self._unknown(tensor, module), exact=False)
        place = next((rule.place for rule in self._rules if rule.fits(module)), None)
        if place is Place.SKIP or self._is_mtp(module) or not tensor.bytes:
            return RankWeights(0, exact=True)
        if place is None:
            return RankWeights(self._unknown(tensor, module), exact=False)
        if self._quantisation == "mxfp4" and parameter == "bias" and _is_stacked_experts(module):
            # Padded as the blocks are, and in F32 for some kernels.
            numbers = prod(tensor.shape[:-1]) * _padded(tensor.shape[-1], MXFP4_HIDDEN_PADDING)
            return RankWeights(numbers * F32_BYTES, exact=False)
        if tensor.dtype not in CAST_BYTES or parameter not in ("weight", "bias"):
            return RankWeights(self._quantised(tensor, module, parameter, place), exact=False)
        f32 = place in (Place.WHOLE_F32, Place.COLUMN_F32)
        size = prod(tensor.shape) * (F32_BYTES if f32 else self._loaded_bytes)
        share = self._share(tensor, module, parameter, place)
        # A head beside tied embeddings is loaded, and dropped again where its numbers are the embeddings'
        # (vllm/model_executor/model_loader/weight_tying.py). A header doesn't tell.
        untied = self._tied and place is Place.VOCAB and module.endswith(("lm_head", "embed_out"))
        guessed = share == 1 and self._ranks > 1 and place in (Place.KV, Place.QKV) and not self._kv_heads
        return RankWeights(ceil(size * share), exact=not (untied or guessed))

    def _share(self, tensor: Tensor, module: str, parameter: str, place: Place) -> Fraction:
        """The part of a tensor on one rank."""
        if place in (Place.WHOLE, Place.WHOLE_F32) or (place is Place.ROW and parameter == "bias"):
            return Fraction(1)
        if place is Place.VOCAB:
            return Fraction(_padded(tensor.shape[0], VOCAB_PADDING), tensor.shape[0] * self._ranks)
        if place in (Place.KV, Place.QKV) and not _in_tower(module):
            if not self._kv_heads:
                return Fraction(1)
            kv_heads = max(Fraction(1), Fraction(self._kv_heads, self._ranks))
            if place is Place.KV:
                return kv_heads / self._kv_heads
            return (Fraction(self._heads, self._ranks) + 2 * kv_heads) / (self._heads + 2 * self._kv_heads)
        return Fraction(1, self._ranks)

    def _quantised(self, tensor: Tensor, module: str, parameter: str, place: Place) -> int:
        """Codes keep their bytes, and so do scales of 8 bits. Scales of 4-bit integers are in the engine's dtype, other
        floating ones may be in F32; bitsandbytes unpacks its own to F32."""
        size = tensor.bytes
        if tensor.dtype in CAST_BYTES:
            integers = parameter == "scales" or self._packed
            size = prod(tensor.shape) * (self._loaded_bytes if integers else F32_BYTES)
        elif parameter == "weight.absmax":
            size = prod(tensor.shape) * F32_BYTES
        if prod(tensor.shape) <= 2:
            return size
        if place is Place.VOCAB:
            return ceil(size * max(Fraction(_padded(side, VOCAB_PADDING), side) for side in tensor.shape))
        if self._quantisation == "mxfp4" and parameter in ("blocks", "scales") and _is_stacked_experts(module):
            return ceil(size * self._mxfp4_share(tensor, module))
        if parameter in _CODES or parameter == "bias":
            share = self._share(tensor, module, parameter, place)
            return ceil(size * share) + ceil(self._mla_copy(tensor, module) * share)
        return ceil(size * self._scales_share(tensor, module, place)) if parameter in _SCALES else size

    def _scales_share(self, tensor: Tensor, module: str, place: Place) -> Fraction:
        """Scales per output of a split by inputs are whole. A block that a rank shares with another is on both; which
        side is split differs between formats, so the worse one counts."""
        sides = [side for side in tensor.shape[-2:] if side > 1]
        if place is Place.ROW and len(sides) < 2:
            return Fraction(1)
        share = self._share(tensor, module, "weight", place)
        return max((Fraction(ceil(side * share), side) for side in sides), default=Fraction(1))

    def _mla_copy(self, tensor: Tensor, module: str) -> int:
        """MLA multiplies in 16 bits: beside quantised codes of kv_b_proj vLLM keeps them dequantised
        (vllm/model_executor/layers/attention/mla_attention.py, process_weights_after_loading)."""
        if not module.endswith("kv_b_proj"):
            return 0
        numbers = prod(tensor.shape) if tensor.dtype in ("I8", "F8_E4M3", "F8_E5M2") else 2 * tensor.bytes
        return numbers * self._loaded_bytes

    def _mxfp4_share(self, tensor: Tensor, module: str) -> Fraction:
        """Experts of gpt-oss, blocks of (experts, outputs, inputs / 32, 16 bytes), padded after the split."""
        outputs, inputs = tensor.shape[1], tensor.shape[2] * MXFP4_BLOCK
        gate_up = module.endswith("gate_up_proj")
        intermediate, hidden = (outputs // 2, inputs) if gate_up else (inputs, outputs)
        padded = _padded(ceil(Fraction(intermediate, self._ranks)), MXFP4_INTERMEDIATE_PADDING)
        return Fraction(padded * _padded(hidden, MXFP4_HIDDEN_PADDING), intermediate * hidden)

    def _unknown(self, tensor: Tensor, module: str) -> int:
        """The whole tensor, padded where it may be an embedding, in F32 where some models hold it so."""
        if module.endswith("rotary_emb"):
            return 0
        size = tensor.bytes
        if tensor.dtype in CAST_BYTES:
            f32 = re.search(r"gate\b|router|correction|A_log|scale|pooler|classifier|score", tensor.name)
            size = prod(tensor.shape) * max(CAST_BYTES[tensor.dtype], self._loaded_bytes, F32_BYTES if f32 else 0)
        elif tensor.name.endswith("absmax"):
            size = prod(tensor.shape) * F32_BYTES
        elif self._quantisation:
            size += self._mla_copy(tensor, module)
        rows = max(tensor.shape[0], 1) if tensor.shape else 1
        if rows == self._vocabulary or "embed" in module or VOCABULARY.fits(module):
            return ceil(size * Fraction(_padded(rows, VOCAB_PADDING), rows))
        return size

    def _is_mtp(self, module: str) -> bool:
        """DeepSeek's and GLM's extra layers stand behind the last one."""
        layer = re.search(r"(^|\.)layers\.(\d+)\.", module)
        return layer is not None and self._layers <= int(layer[2]) < self._layers + self._mtp_layers


def parse(name: str) -> tuple[str, str]:
    """Module and parameter: `a.weight` is ('a', 'weight'), `a.b_bias` ('a.b', 'bias'), `sinks` ('sinks', 'weight')."""
    found = _PARAMETER.fullmatch(name)
    return (found[1], found[2]) if found else (name, "weight")


def _heads(text: Mapping[str, Any], architecture: str) -> tuple[int, int]:
    """Heads of the queries and of keys and values; 0 where the config does not say.

    Falcon: vllm/model_executor/models/falcon.py, FalconAttention.
    """
    heads = int(text.get("num_attention_heads") or text.get("n_head") or 0)
    if "new_decoder_architecture" in text and not text["new_decoder_architecture"]:
        return heads, 1 if text.get("multi_query") else heads
    kv_heads = int(text.get("num_key_value_heads") or text.get("num_kv_heads") or 0)
    if not kv_heads and architecture in ONE_KV_HEAD_PER_HEAD:
        return heads, heads
    return heads, kv_heads if heads else 0


def _in_tower(module: str) -> bool:
    """Vision towers have as many K and V heads as heads."""
    return re.search(r"(^|[._])(vision|visual)", module) is not None


def _is_stacked_experts(module: str) -> bool:
    return re.search(r"(^|\.)experts\.(gate_up|down)_proj$", module) is not None


def _padded(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple
