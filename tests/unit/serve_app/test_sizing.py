"""Weights + overhead + KV cache = budget, to the byte."""

import dataclasses
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app import sizing
from serve_app.checkpoint import Checkpoint
from serve_app.kv_cache import KvCache
from serve_app.sizing import MIN_KV_CACHE_BYTES, BudgetError, Engine, Split, split
from serve_app.weights import Tensor
from vram_agent.api import GIB, MIB

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
}
# Only the two shapes matter here: one that is split over ranks, one that is not.
FOUND = Checkpoint(
    LLAMA,
    (
        Tensor("model.layers.0.mlp.down_proj.weight", "BF16", (4096, 14336), 2 * 4096 * 14336),
        Tensor("model.norm.weight", "BF16", (4096,), 2 * 4096),
    ),
    tokenizer_bytes=MIB,
)
KWARGS: dict[str, Any] = {"max_model_len": 8192, "max_num_seqs": 16}
PER_TOKEN = 2 * 32 * 8 * 128 * 2  # bytes of KV cache


def engine(kind: str = "nvml", config: dict[str, Any] = LLAMA, **more: Any) -> Engine:
    return Engine.of(KWARGS | more, config, kind)


@given(
    budget=st.integers(1, 200 * GIB),
    share=st.integers(0, 300 * GIB),
    around=st.integers(0, 8 * GIB),
    least=st.integers(MIN_KV_CACHE_BYTES, 40 * GIB),
)
def test_the_parts_are_the_budget_and_the_mend_is_enough(budget: int, share: int, around: int, least: int) -> None:
    try:
        found = split(budget, share, around, least)
    except BudgetError as error:
        enough = int(str(error).partition("at least ")[2].partition("Mi")[0])
        assert budget < enough * MIB
        assert split(enough * MIB, share, around, least).kv_cache < least + MIB
    else:
        assert found.weights + found.overhead + found.kv_cache == budget
        assert found.weights == share
        assert found.kv_cache >= least


@pytest.mark.parametrize("kind", ["nvml", "host"])
@pytest.mark.parametrize("requests", [1, 16])
def test_what_is_required_is_enough_and_vllm_would_say_so(kind: str, requests: int) -> None:
    need = sizing.required(FOUND, engine(kind), kind, requests)
    budget = sum(dataclasses.astuple(need))
    assert sizing.divide(FOUND, engine(kind), kind, budget) == need
    cache = KvCache.of(LLAMA, device=kind, max_model_len=8192, max_num_batched_tokens=8192)
    assert cache.fit(need.kv_cache).requests == requests
    assert need.kv_cache >= requests * 8192 * PER_TOKEN


def test_a_budget_without_room_for_one_full_request_is_refused_with_what_would_do() -> None:
    need = sizing.required(FOUND, engine(), "nvml", 1)
    budget = sum(dataclasses.astuple(need)) - 1
    with pytest.raises(
        BudgetError, match=r"one request of the full length 1\.00 GiB\. FIX: set vram to at least"
    ) as caught:
        sizing.divide(FOUND, engine(), "nvml", budget)
    assert "or lower maxModelLen" in str(caught.value)
    sizing.divide(FOUND, engine(max_model_len=4096), "nvml", budget)


def test_ranks_share_weights_and_cache() -> None:
    one = sizing.required(FOUND, engine(), "nvml", 1)
    two = sizing.required(FOUND, engine(tensor_parallel_size=2), "nvml", 1)
    assert one.weights == 2 * 4096 * 14336 + 2 * 4096
    assert two.weights == 4096 * 14336 + 2 * 4096
    assert two.kv_cache * 2 == one.kv_cache


def test_a_float32_engine_needs_twice_as_much() -> None:
    half, full = (sizing.required(FOUND, engine(dtype=dtype), "nvml", 1) for dtype in ("bfloat16", "float32"))
    assert (full.weights, full.kv_cache) == (2 * half.weights, 2 * half.kv_cache)


def test_an_unknown_architecture_has_the_least_cache_that_makes_sense() -> None:
    found = dataclasses.replace(FOUND, config=LLAMA | {"architectures": ["NobodyKnows"]})
    assert sizing.kv_cache(found, engine(), "nvml") is None
    assert sizing.required(found, engine(), "nvml", 16).kv_cache == MIN_KV_CACHE_BYTES


class TestAdapters:
    LORA: ClassVar[dict[str, Any]] = {"enable_lora": True, "max_loras": 3, "max_lora_rank": 32}

    def test_take_rank_times_inputs_and_outputs_per_slot(self) -> None:
        plain, adapted = (sizing.required(FOUND, engine(**kwargs), "nvml", 1) for kwargs in ({}, self.LORA))
        head = 128256 + 4096
        assert adapted.weights - plain.weights == (4096 + 14336 + head) * 3 * 32 * 2
        assert adapted.overhead - plain.overhead == 8192 * 5 * 32 * 4
        assert adapted.kv_cache == plain.kv_cache

    def test_are_in_host_ram_twice_where_that_is_the_device(self) -> None:
        gpu, host = (sizing.adapters(FOUND, engine(kind, **self.LORA), kind) for kind in ("nvml", "host"))
        assert host == 2 * gpu > 0

    def test_without_them_there_are_no_slots(self) -> None:
        assert sizing.adapters(FOUND, engine(max_loras=3), "nvml") == 0
        assert engine(enable_lora=True).lora_slots == 1


class TestOverhead:
    def test_on_a_gpu_is_the_sum_of_its_parts(self) -> None:
        batch = 8192 * (3 * 4096 + 3 * 14336) * 2
        sampler = 16 * 128256 * 3 * 4
        fixed = sizing.CUDA_CONTEXT_BYTES + sizing.CUDA_GRAPHS_BYTES + sizing.SLACK_BYTES
        assert sizing.overhead(FOUND, engine(), "nvml") == fixed + batch + sampler

    def test_without_graphs_is_less_and_with_two_ranks_has_nccl(self) -> None:
        plain = sizing.overhead(FOUND, engine(), "nvml")
        assert sizing.overhead(FOUND, engine(enforce_eager=True), "nvml") == plain - sizing.CUDA_GRAPHS_BYTES
        two = sizing.overhead(FOUND, engine(tensor_parallel_size=2), "nvml")
        assert two == plain + sizing.NCCL_BYTES - 8192 * 3 * (14336 // 2) * 2

    def test_that_was_measured_takes_the_models_place(self) -> None:
        assert sizing.overhead(FOUND, engine(), "nvml", measured=GIB) == GIB + sizing.SLACK_BYTES
        known = sizing.divide(FOUND, engine(), "nvml", 20 * GIB, measured_overhead=GIB)
        assert known == Split(
            weights=2 * 4096 * 14336 + 2 * 4096,
            overhead=GIB + sizing.SLACK_BYTES,
            kv_cache=19 * GIB - sizing.SLACK_BYTES - 2 * 4096 * 14336 - 2 * 4096,
        )

    def test_of_experts_counts_those_that_a_token_visits(self) -> None:
        moe = LLAMA | {"moe_intermediate_size": 4096, "num_experts_per_tok": 8}
        found = dataclasses.replace(FOUND, config=moe)
        more = 8192 * 3 * (8 * 4096 - 14336) * 2
        assert sizing.overhead(found, engine(config=moe), "nvml") == sizing.overhead(FOUND, engine(), "nvml") + more

    def test_on_the_host_grows_with_the_tokenizer_and_is_never_replaced(self) -> None:
        bare = dataclasses.replace(FOUND, tokenizer_bytes=0)
        more = sizing.overhead(FOUND, engine("host"), "host") - sizing.overhead(bare, engine("host"), "host")
        assert more == sizing.HOST_TOKENIZER_FACTOR * MIB
        assert sizing.overhead(bare, engine("host"), "host", measured=1) == sizing.overhead(
            bare, engine("host"), "host"
        )


class TestFingerprint:
    def test_does_not_change_with_what_only_shapes_text(self) -> None:
        plain = sizing.fingerprint(FOUND, KWARGS, "NVIDIA L4", {"vllm": "1"})
        assert sizing.fingerprint(FOUND, KWARGS | {"chat_template": "x"}, "NVIDIA L4", {"vllm": "1"}) == plain
        assert len(plain) <= 128

    def test_changes_with_model_arguments_device_and_version(self) -> None:
        other = dataclasses.replace(FOUND, config=LLAMA | {"hidden_size": 1})
        prints = {
            sizing.fingerprint(FOUND, KWARGS, "NVIDIA L4", {"vllm": "1"}),
            sizing.fingerprint(other, KWARGS, "NVIDIA L4", {"vllm": "1"}),
            sizing.fingerprint(FOUND, KWARGS | {"max_num_seqs": 17}, "NVIDIA L4", {"vllm": "1"}),
            sizing.fingerprint(FOUND, KWARGS, "NVIDIA L40S", {"vllm": "1"}),
            sizing.fingerprint(FOUND, KWARGS, "NVIDIA L4", {"vllm": "2"}),
        }
        assert len(prints) == 5


def test_lengths_that_nobody_says_are_the_configs() -> None:
    assert Engine.of({}, LLAMA, "nvml").max_model_len == 131072
    assert Engine.of({}, {"text_config": {"max_position_embeddings": 7}}, "nvml").max_model_len == 7
    assert Engine.of({}, {}, "nvml").max_model_len is None
    assert sizing.kv_cache(FOUND, Engine.of({}, {}, "nvml"), "nvml") is None
