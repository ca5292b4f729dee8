"""Weights + overhead + KV cache = budget, to the byte."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from serve_app import sizing
from serve_app.sizing import MIN_KV_CACHE_BYTES, BudgetError, split
from vram_agent.api import GIB, MIB


@given(
    budget=st.integers(1, 200 * GIB),
    weights=st.integers(0, 300 * GIB),
    overhead=st.integers(0, 8 * GIB),
)
def test_the_parts_are_the_budget_and_the_mend_is_enough(budget: int, weights: int, overhead: int) -> None:
    try:
        found = split(budget, weights, overhead)
    except BudgetError as error:
        enough = int(str(error).rpartition("more than ")[2].removesuffix("Mi"))
        assert budget < enough * MIB
        split((enough + 1) * MIB, weights, overhead)
    else:
        assert found.weights + found.overhead + found.kv_cache == budget
        assert found.weights == weights
        assert found.kv_cache >= MIN_KV_CACHE_BYTES


def test_a_larger_tokenizer_needs_more_ram(tmp_path: Path) -> None:
    bare = sizing.host_overhead(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes(b"x" * MIB)
    assert sizing.host_overhead(tmp_path) == bare + sizing.HOST_TOKENIZER_FACTOR * MIB


def test_a_budget_too_small_for_the_model_says_what_would_do(tmp_path: Path) -> None:
    """A layer of a known model is on both ranks by half, its norm whole."""
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"], "num_attention_heads": 4}))
    layer = {"mlp.down_proj.weight": np.zeros((64, 96), np.float16), "norm.weight": np.zeros(64, np.float16)}
    save_file(layer, tmp_path / "model.safetensors")
    for kind in ("nvml", "host"):
        with pytest.raises(BudgetError, match="FIX: set vram to more than"):
            sizing.divide(tmp_path, kind, GIB, 1)
        assert sizing.divide(tmp_path, kind, 8 * GIB, 1).weights == 2 * 64 * 96 + 2 * 64
        assert sizing.divide(tmp_path, kind, 8 * GIB, 2).weights == 64 * 96 + 2 * 64
