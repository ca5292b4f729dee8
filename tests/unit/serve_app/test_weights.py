"""The rules, one by one and as laws."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.checkpoint import BITS
from serve_app.layout import KNOWN
from serve_app.weights import ATTENTION_SCALES_BYTES, CAST_BYTES, RankWeights, Tensor, fullest_rank

LLAMA = {"architectures": ["LlamaForCausalLM"], "num_attention_heads": 16, "num_key_value_heads": 4}
DEEPSEEK = {"architectures": ["DeepseekV3ForCausalLM"], "num_attention_heads": 16, "num_hidden_layers": 3}
GPT_OSS = LLAMA | {"architectures": ["GptOssForCausalLM"], "quantization_config": {"quant_method": "mxfp4"}}
FP8 = {"quantization_config": {"quant_method": "fp8"}}
LAYER = "model.layers.0"


def tensor(name: str, *shape: int, dtype: str = "BF16") -> Tensor:
    bits = BITS[dtype]
    for side in shape:
        bits *= side
    return Tensor(name, dtype, shape, bits // 8)


def on_rank(found: Tensor, config: dict[str, Any] = LLAMA, ranks: int = 4, dtype: str = "auto") -> RankWeights:
    return fullest_rank([found], config, ranks, dtype)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (tensor(f"{LAYER}.self_attn.q_proj.weight", 64, 64), 64 * 64 * 2 // 4),
        (tensor(f"{LAYER}.self_attn.q_proj.bias", 64), 64 * 2 // 4),
        (tensor(f"{LAYER}.mlp.down_proj.weight", 64, 128), 64 * 128 * 2 // 4),
        (tensor(f"{LAYER}.mlp.down_proj.bias", 64), 64 * 2),
        (tensor(f"{LAYER}.input_layernorm.weight", 64), 64 * 2),
        (tensor(f"{LAYER}.mlp.gate.weight", 8, 64), 8 * 64 * 2),
        (tensor(f"{LAYER}.mlp.experts.3.up_proj.weight", 32, 64), 32 * 64 * 2 // 4),
        (tensor("model.embed_tokens.weight", 1000, 64), 1024 * 64 * 2 // 4),
        (tensor("lm_head.weight", 1024, 64), 1024 * 64 * 2 // 4),
        (tensor(f"{LAYER}.self_attn.rotary_emb.inv_freq", 64, dtype="F32"), 0),
        (tensor(f"{LAYER}.self_attn.q_proj.weight", 0, 64), 0),
    ],
    ids=lambda value: value.name if isinstance(value, Tensor) else None,
)
def test_a_tensor_is_split_or_whole_or_not_loaded(found: Tensor, expected: int) -> None:
    assert on_rank(found) == RankWeights(expected, exact=True)


@pytest.mark.parametrize(("ranks", "heads"), [(1, 4), (2, 2), (4, 1), (8, 1), (16, 1)])
def test_a_rank_holds_one_kv_head_at_least(ranks: int, heads: int) -> None:
    k_proj = tensor(f"{LAYER}.self_attn.k_proj.weight", 4 * 8, 64)
    assert on_rank(k_proj, ranks=ranks).bytes == heads * 8 * 64 * 2
    fused = tensor(f"{LAYER}.self_attn.qkv_proj.weight", (16 + 2 * 4) * 8, 64)
    assert on_rank(fused, ranks=ranks).bytes == (16 // ranks + 2 * heads) * 8 * 64 * 2


def test_a_config_without_kv_heads_is_no_licence_to_split_them() -> None:
    """transformers knows a default for each of these; it is Python code, not in the checkpoint."""
    k_proj = tensor(f"{LAYER}.self_attn.k_proj.weight", 32, 64)
    vision = {"architectures": ["Gemma3ForConditionalGeneration"], "text_config": {"hidden_size": 64}}
    assert on_rank(k_proj, vision) == RankWeights(k_proj.bytes, exact=False)
    assert on_rank(k_proj, vision, ranks=1) == RankWeights(k_proj.bytes, exact=True)
    stored_wider = tensor(f"{LAYER}.self_attn.k_proj.weight", 32, 64, dtype="F32")
    assert on_rank(stored_wider, vision) == RankWeights(k_proj.bytes, exact=False)
    old_llama = {"architectures": ["LlamaForCausalLM"], "num_attention_heads": 4}
    assert on_rank(k_proj, old_llama) == RankWeights(k_proj.bytes // 4, exact=True)


@pytest.mark.parametrize(("dtype", "bytes_each"), [("auto", 2), ("half", 2), ("bfloat16", 2), ("float32", 4)])
@pytest.mark.parametrize("stored", ["F32", "BF16", "F16", "F64"])
def test_floating_tensors_take_the_engines_dtype(stored: str, dtype: str, bytes_each: int) -> None:
    norm = tensor("model.norm.weight", 64, dtype=stored)
    assert on_rank(norm, dtype=dtype) == RankWeights(64 * bytes_each, exact=True)


def test_a_dtype_that_no_engine_has_is_refused() -> None:
    with pytest.raises(ValueError, match="FIX: one of auto, half"):
        fullest_rank([], LLAMA, 1, "int3")


def test_a_head_beside_tied_embeddings_counts_but_may_go() -> None:
    head = tensor("lm_head.weight", 1024, 64)
    assert on_rank(head, LLAMA | {"tie_word_embeddings": True}) == RankWeights(1024 * 64 * 2 // 4, exact=False)
    assert on_rank(head, LLAMA | {"tie_word_embeddings": False}) == RankWeights(1024 * 64 * 2 // 4, exact=True)


def test_layers_behind_the_last_are_a_draft_model() -> None:
    expert = "mlp.experts.0.up_proj.weight"
    last, extra = tensor(f"model.layers.2.{expert}", 32, 64), tensor(f"model.layers.3.{expert}", 32, 64)
    config = DEEPSEEK | {"num_nextn_predict_layers": 1}
    assert on_rank(last, config).bytes == 32 * 64 * 2 // 4
    assert on_rank(extra, config) == RankWeights(0, exact=True)
    assert on_rank(extra, DEEPSEEK).bytes > 0


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        # column: outputs are split, and with them scales per output and per block; one block may be on two ranks
        (tensor("a.mlp.up_proj.weight", 512, 256, dtype="F8_E4M3"), 512 * 256 // 4),
        (tensor("a.mlp.up_proj.weight_scale_inv", 6, 8, dtype="F32"), 2 * 8 * 4),
        (tensor("a.mlp.up_proj.weight_scale", 512, 1), 512 * 4 // 4),
        (tensor("a.mlp.up_proj.weight_scale", dtype="F32"), 4),
        (tensor("a.mlp.up_proj.input_scale", 1, dtype="F32"), 4),
        (tensor("a.mlp.up_proj.weight_scale", 512, 16, dtype="F8_E8M0"), 512 * 16 // 4),
        # row: inputs are split, scales per output are whole
        (tensor("a.mlp.down_proj.weight", 256, 512, dtype="F8_E4M3"), 256 * 512 // 4),
        (tensor("a.mlp.down_proj.weight_scale", 256, 1), 256 * 4),
        (tensor("a.mlp.down_proj.weight_scale_inv", 2, 4, dtype="F32"), 2 * 4 * 4 // 2),
        # 4-bit integers
        (tensor("a.mlp.up_proj.qweight", 256, 64, dtype="I32"), 256 * 64 * 4 // 4),
        (tensor("a.mlp.up_proj.qzeros", 8, 64, dtype="I32"), 8 * 64 * 4 // 4),
        (tensor("a.mlp.up_proj.scales", 8, 512, dtype="F16"), 8 * 512 * 2 // 4),
        (tensor("a.mlp.up_proj.g_idx", 256, dtype="I32"), 256 * 4),
        (tensor("a.mlp.up_proj.weight_packed", 512, 32, dtype="I32"), 512 * 32 * 4 // 4),
        (tensor("a.mlp.up_proj.weight_shape", 2, dtype="I64"), 16),
        # bitsandbytes: scales of 8 bits are unpacked to F32
        (tensor("a.mlp.up_proj.weight", 1024, 1, dtype="U8"), 1024 // 4),
        (tensor("a.mlp.up_proj.weight.absmax", 32, dtype="U8"), 32 * 4 // 4),
        # MLA: codes and their 16-bit copy
        (tensor("a.self_attn.kv_b_proj.weight", 256, 128, dtype="F8_E4M3"), 256 * 128 * (1 + 2) // 4),
        # a quantised vocabulary is whole, padded along either side
        (tensor("lm_head.qweight", 64, 1000, dtype="I32"), 64 * 1024 * 4),
    ],
    ids=lambda value: f"{value.name} {value.dtype} {value.shape}" if isinstance(value, Tensor) else None,
)
def test_quantised_tensors_keep_their_bytes(found: Tensor, expected: int) -> None:
    assert on_rank(found, LLAMA | FP8) == RankWeights(expected + ATTENTION_SCALES_BYTES, exact=False)


def test_scales_of_packed_integers_are_in_the_engines_dtype() -> None:
    scale = tensor("a.mlp.up_proj.weight_scale", 512, 16)
    packed = LLAMA | {"quantization_config": {"quant_method": "compressed-tensors", "format": "pack-quantized"}}
    assert on_rank(scale, packed).bytes == 512 * 16 * 2 // 4 + ATTENTION_SCALES_BYTES
    assert on_rank(scale, LLAMA | FP8).bytes == 512 * 16 * 4 // 4 + ATTENTION_SCALES_BYTES


@pytest.mark.parametrize(("ranks", "padded"), [(1, 2944), (2, 1536), (4, 768), (8, 384)])
def test_gpt_oss_is_padded_for_its_kernels(ranks: int, padded: int) -> None:
    """gpt-oss-20b: 2880 to 3072 channels, 2880 / ranks to a multiple of 128."""
    blocks = tensor(f"{LAYER}.mlp.experts.down_proj_blocks", 2, 2880, 90, 16, dtype="U8")
    assert on_rank(blocks, GPT_OSS, ranks).bytes - ATTENTION_SCALES_BYTES == 2 * 3072 * padded // 2
    scales = tensor(f"{LAYER}.mlp.experts.gate_up_proj_scales", 2, 5760, 90, dtype="U8")
    assert on_rank(scales, GPT_OSS, ranks).bytes - ATTENTION_SCALES_BYTES == 2 * 2 * padded * 3072 // 32
    bias = tensor(f"{LAYER}.mlp.experts.down_proj_bias", 2, 2880)
    assert on_rank(bias, GPT_OSS, ranks).bytes - ATTENTION_SCALES_BYTES == 2 * 3072 * 4


def test_an_unknown_quantised_model_counts_copies_too() -> None:
    kv_b_proj = tensor(f"{LAYER}.self_attn.kv_b_proj.weight", 256, 128, dtype="F8_E4M3")
    assert on_rank(kv_b_proj, FP8) == RankWeights(256 * 128 * (1 + 2) + ATTENTION_SCALES_BYTES, exact=False)
    absmax = tensor(f"{LAYER}.mlp.up_proj.weight.absmax", 32, dtype="U8")
    assert on_rank(absmax, FP8) == RankWeights(32 * 4 + ATTENTION_SCALES_BYTES, exact=False)


def test_what_no_rule_knows_is_whole_on_every_rank() -> None:
    new = tensor(f"{LAYER}.self_attn.novelty.weight", 64, 64)
    assert on_rank(new) == RankWeights(new.bytes, exact=False)
    q_proj = tensor(f"{LAYER}.self_attn.q_proj.weight", 64, 64)
    assert on_rank(q_proj, {"architectures": ["NoSuchForCausalLM"]}) == RankWeights(q_proj.bytes, exact=False)
    assert on_rank(q_proj, {}) == RankWeights(q_proj.bytes, exact=False)
    opaque = Tensor("pytorch_model.bin", "OPAQUE", (999,), 999)
    assert on_rank(opaque) == RankWeights(999, exact=False)


def test_an_unknown_model_counts_what_vllm_may_make_of_it() -> None:
    unknown = {"vocab_size": 1000}
    assert on_rank(tensor("words.weight", 1000, 8), unknown).bytes == 1024 * 8 * 2
    assert on_rank(tensor("lm_head.weight", 999, 8), unknown).bytes == 1024 * 8 * 2
    assert on_rank(tensor("a.router.weight", 4, 8), unknown).bytes == 4 * 8 * 4
    assert on_rank(tensor("a.gate.weight", 4, 8), unknown).bytes == 4 * 8 * 4
    assert on_rank(tensor("a.gate_proj.weight", 4, 8), unknown).bytes == 4 * 8 * 2
    assert on_rank(tensor("a.weight", 4, 8, dtype="F32"), unknown).bytes == 4 * 8 * 4
    assert on_rank(tensor("a.rotary_emb.inv_freq", 8, dtype="F32"), unknown).bytes == 0


MODULES = st.sampled_from(
    ["embed_tokens", "lm_head", "model.norm", "novelty"]
    + [f"{LAYER}.self_attn.{name}" for name in ("q_proj", "k_proj", "v_proj", "o_proj", "qkv_proj", "kv_b_proj")]
    + [f"{LAYER}.mlp.{name}" for name in ("gate", "gate_proj", "down_proj", "experts.0.up_proj", "experts.down_proj")]
)
PARAMETERS = st.sampled_from(
    ["weight", "bias", "qweight", "qzeros", "scales", "weight_scale", "weight_packed", "g_idx"]
)
# Sides that 8 ranks and 24 heads share without a rest: vLLM refuses others.
SHAPES = st.lists(st.integers(1, 4).map(lambda count: 192 * count), min_size=1, max_size=2)
TENSORS = st.lists(
    st.builds(
        lambda module, parameter, shape, dtype: tensor(f"{module}.{parameter}", *shape, dtype=dtype),
        MODULES,
        PARAMETERS,
        SHAPES,
        st.sampled_from(sorted(BITS)),
    ),
    max_size=8,
)
CONFIGS = st.builds(
    lambda architecture, quantised: LLAMA | {"architectures": [architecture]} | (FP8 if quantised else {}),
    st.sampled_from([*sorted(KNOWN), "NoSuchForCausalLM"]),
    st.booleans(),
)


@given(tensors=TENSORS, config=CONFIGS)
def test_more_ranks_hold_less_each_and_never_less_together(tensors: list[Tensor], config: dict[str, Any]) -> None:
    on_each = {ranks: fullest_rank(tensors, config, ranks).bytes for ranks in (1, 2, 4, 8)}
    assert on_each[1] >= on_each[2] >= on_each[4] >= on_each[8]
    assert all(ranks * found >= on_each[1] for ranks, found in on_each.items())


@given(tensors=TENSORS, config=CONFIGS, dtype=st.sampled_from(["auto", "float32"]))
def test_alone_a_rank_holds_every_tensor(tensors: list[Tensor], config: dict[str, Any], dtype: str) -> None:
    """In the engine's dtype where it is floating, in the file's where it is not, and more only where it is padded or
    copied."""
    found = fullest_rank(tensors, config, 1, dtype)
    assert found.bytes >= sum(loaded(each, dtype) for each in tensors)
    plain = [each for each in tensors if each.dtype in CAST_BYTES and each.name.endswith(("proj.weight", "norm.bias"))]
    assert fullest_rank(plain, LLAMA, 1, dtype) == RankWeights(sum(loaded(each, dtype) for each in plain), exact=True)


def loaded(found: Tensor, dtype: str) -> int:
    if found.dtype not in CAST_BYTES:
        return found.bytes
    return found.bytes // CAST_BYTES[found.dtype] * (4 if dtype == "float32" else 2)


@given(tensors=TENSORS, config=CONFIGS, ranks=st.sampled_from([1, 2, 4, 8]))
def test_a_model_is_the_sum_of_its_tensors(tensors: list[Tensor], config: dict[str, Any], ranks: int) -> None:
    bare = fullest_rank([], config, ranks).bytes
    parts = [fullest_rank([each], config, ranks).bytes - bare for each in tensors]
    assert fullest_rank(tensors, config, ranks).bytes == sum(parts) + bare
