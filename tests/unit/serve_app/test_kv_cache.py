"""The KV cache of known models, by hand; what must hold for all; what is refused."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.kv_cache import KvCache
from serve_app.kv_layers import ARCHITECTURES, ENCODER, Kind, UnknownArchitectureError, layers
from tests.unit.serve_app.kv_cache_cases import CASES, Case

LLAMA_8B = {
    "architectures": ["LlamaForCausalLM"],
    "num_hidden_layers": 32,
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
}
LLAMA_70B = LLAMA_8B | {"num_hidden_layers": 80, "hidden_size": 8192, "num_attention_heads": 64}
QWEN_05B = LLAMA_8B | {
    "architectures": ["Qwen2ForCausalLM"],
    "num_hidden_layers": 24,
    "hidden_size": 896,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
}
DEEPSEEK_V3 = LLAMA_8B | {
    "architectures": ["DeepseekV3ForCausalLM"],
    "num_hidden_layers": 61,
    "num_attention_heads": 128,
    "num_key_value_heads": 128,
    "kv_lora_rank": 512,
    "qk_rope_head_dim": 64,
}
MIXED = {"layer_types": ["full_attention", "sliding_attention"] * 12}
MISTRAL = LLAMA_8B | {"architectures": ["MistralForCausalLM"]}


def cache(config: dict[str, Any], **more: Any) -> KvCache:
    return KvCache.of(config, **{"device": "nvml", "max_model_len": 8192, "max_num_batched_tokens": 2048} | more)


def of(case: Case, **more: Any) -> KvCache:
    named = {"block_size": case.block_size, "kv_cache_dtype": case.kv_cache_dtype, "device": case.device}
    return cache(case.config, **named | {"tensor_parallel": case.tensor_parallel} | more)


@pytest.mark.parametrize(
    ("config", "bytes_per_token"),
    [(LLAMA_8B, 131_072), (LLAMA_70B, 327_680), (QWEN_05B, 12_288), (DEEPSEEK_V3, 70_272)],
    ids=["llama-3.1-8b", "llama-3.1-70b", "qwen2.5-0.5b", "deepseek-v3"],
)
def test_published_models_take_what_is_known_for_a_token(config: dict[str, Any], bytes_per_token: int) -> None:
    assert cache(config, block_size=16).bytes_per_block == 16 * bytes_per_token


def test_a_gibibyte_of_llama_8b_is_512_blocks_of_16_tokens() -> None:
    fit = cache(LLAMA_8B).fit(2**30)
    assert (fit.blocks, fit.bytes, fit.tokens, fit.concurrency, fit.requests) == (512, 2**30, 8192, 1.0, 0)


def test_a_window_keeps_no_more_than_the_window_and_what_is_in_flight() -> None:
    full, window = cache(MISTRAL | {"sliding_window": None}), cache(MISTRAL | {"sliding_window": 1024})
    assert full.blocks_per_request == 8192 // 16
    assert window.blocks_per_request == -(-(1024 - 1 + 2 * 2048) // 16) + 1


def test_a_window_that_is_not_said_is_the_one_that_transformers_takes() -> None:
    assert cache(MISTRAL) == cache(MISTRAL | {"sliding_window": 4096})


def test_fp8_takes_half_and_two_devices_take_half_each() -> None:
    whole = cache(LLAMA_8B).bytes_per_block
    assert cache(LLAMA_8B, kv_cache_dtype="fp8").bytes_per_block == whole / 2
    assert cache(LLAMA_8B, tensor_parallel=2).bytes_per_block == whole / 2
    assert cache(LLAMA_8B, tensor_parallel=16).bytes_per_block == whole / 8, "no device has less than one head"


def test_a_latent_is_the_same_on_every_device() -> None:
    assert cache(DEEPSEEK_V3, tensor_parallel=8) == cache(DEEPSEEK_V3)


def test_a_model_that_only_encodes_keeps_nothing() -> None:
    bert = cache({"architectures": ["BertModel"]})
    assert (bert.needed(100), bert.fit(2**30).bytes) == (0, 0)


def test_prefix_caching_keeps_one_more_state() -> None:
    (case,) = (case for case in CASES if case.name == "jamba")
    states = sum(layer.kind is Kind.STATE for layer in layers(case.config))
    on, off = (of(case, enable_prefix_caching=value).blocks_per_request for value in (True, False))
    assert on - off == states


KEEPING = [case for case in CASES if layers(case.config)]
any_case = st.sampled_from(KEEPING)
lengths = st.integers(1, 300_000)
batches = st.integers(1, 40_000)


@given(any_case, lengths, batches, st.integers(1, 300))
def test_what_is_needed_is_enough_and_a_block_less_is_not(case: Case, length: int, batch: int, requests: int) -> None:
    kv = of(case, max_model_len=length, max_num_batched_tokens=batch)
    needed = kv.needed(requests)
    enough, short = kv.fit(needed), kv.fit(needed - kv.bytes_per_block)
    assert enough.requests == requests
    assert enough.concurrency >= requests
    assert enough.bytes == needed
    assert short.requests == requests - 1


@given(any_case, lengths, batches, st.integers(0, 2**36), st.integers(0, 2**24))
def test_more_bytes_never_hold_less(case: Case, length: int, batch: int, budget: int, more: int) -> None:
    kv = of(case, max_model_len=length, max_num_batched_tokens=batch)
    small, large = kv.fit(budget), kv.fit(budget + more)
    assert small.bytes <= budget
    assert budget - small.bytes < kv.bytes_per_block
    assert (small.blocks, small.tokens, small.requests) <= (large.blocks, large.tokens, large.requests)


@given(any_case, lengths, batches, st.integers(0, 5000), st.integers(0, 5000))
def test_longer_requests_and_wider_batches_never_need_less(
    case: Case, length: int, batch: int, longer: int, wider: int
) -> None:
    kv = of(case, max_model_len=length, max_num_batched_tokens=batch)
    assert kv.needed(1) <= of(case, max_model_len=length + longer, max_num_batched_tokens=batch + wider).needed(1)


@given(any_case, st.sampled_from(["bfloat16", "fp8"]))
def test_smaller_elements_never_need_more(case: Case, dtype: str) -> None:
    small, large = of(case, kv_cache_dtype="fp8", block_size=64), of(case, kv_cache_dtype=dtype, block_size=64)
    assert small.bytes_per_block <= large.bytes_per_block


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({}, "a config without architectures"),
        ({"architectures": ["TotallyNewForCausalLM"]}, "TotallyNewForCausalLM"),
        (LLAMA_8B | {"num_hidden_layers": None}, "does not say 'num_hidden_layers'"),
        (LLAMA_8B | {"layer_types": ["sparse_attention"] * 32}, "a layer of type 'sparse_attention'"),
        (LLAMA_8B | {"layer_types": ["linear_attention"] * 32}, "recurrent state in an architecture"),
        (QWEN_05B | {"use_sliding_window": True}, "use_sliding_window"),
        (DEEPSEEK_V3 | {"index_topk": 2048}, "DeepseekV3ForCausalLM with index_topk"),
        (QWEN_05B | MIXED | {"architectures": ["MixtralForCausalLM"]}, "layers of the types"),
        (LLAMA_8B | {"quantization_config": {"kv_cache_scheme": {"num_bits": 8}}}, "its own KV cache type"),
        (LLAMA_8B | {"quantization_config": {"quantization": {"kv_cache_quant_algo": "FP8"}}}, "its own KV cache"),
        (MISTRAL | MIXED | {"sliding_window": None}, "a sliding window of no length"),
    ],
)
def test_what_is_not_known_is_refused_with_a_way_out(config: dict[str, Any], said: str) -> None:
    with pytest.raises(UnknownArchitectureError, match=r"FIX: give vram and the KV bytes by hand") as refused:
        cache(config)
    assert said in str(refused.value)


def test_an_unknown_type_of_element_is_refused() -> None:
    for argument in ("kv_cache_dtype", "dtype", "mamba_ssm_cache_dtype"):
        with pytest.raises(UnknownArchitectureError, match="elements of the type 'nvfp4'"):
            cache(LLAMA_8B, **{argument: "nvfp4"})


def test_a_checkpoint_with_its_own_type_is_known_when_the_arguments_say_it() -> None:
    quantised = LLAMA_8B | {"quantization_config": {"kv_cache_scheme": {"num_bits": 8}}}
    assert cache(quantised, kv_cache_dtype="fp8") == cache(LLAMA_8B, kv_cache_dtype="fp8")


@pytest.mark.parametrize("name", [name for name, known in ARCHITECTURES.items() if known is not ENCODER])
def test_a_config_with_nothing_in_it_is_never_guessed(name: str) -> None:
    with pytest.raises(UnknownArchitectureError, match="does not say"):
        layers({"architectures": [name]})
