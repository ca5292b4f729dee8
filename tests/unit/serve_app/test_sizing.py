"""Weights + overhead + KV cache = budget, to the byte."""

import json
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app import sizing
from serve_app.sizing import MIN_KV_CACHE_BYTES, BudgetError, split
from vram_agent.api import GIB, MIB


def write_safetensors(path: Path, *sizes: int) -> None:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    start = 0
    for number, size in enumerate(sizes):
        header[f"t{number}"] = {"dtype": "U8", "shape": [size], "data_offsets": [start, start + size]}
        start += size
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"\0" * start)


def test_weights_are_the_tensors_bytes_without_headers(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "model-1.safetensors", 100, 23)
    write_safetensors(tmp_path / "model-2.safetensors", 7)
    (tmp_path / "pytorch_model.bin").write_bytes(b"x" * 999)
    assert sizing.weight_bytes(tmp_path) == 130


def test_other_formats_count_by_file_size(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"x" * 50)
    (tmp_path / "config.json").write_text("{}")
    assert sizing.weight_bytes(tmp_path) == 50


def test_a_folder_without_weights_and_a_damaged_file_are_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="has no weights"):
        sizing.weight_bytes(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", 1 << 40))
    with pytest.raises(ValueError, match="damaged"):
        sizing.weight_bytes(tmp_path)


@given(
    budget=st.integers(1, 200 * GIB),
    weights=st.integers(0, 300 * GIB),
    overhead=st.integers(0, 8 * GIB),
    tensor_parallel=st.integers(1, 8),
)
def test_the_parts_are_the_budget_and_the_mend_is_enough(
    budget: int, weights: int, overhead: int, tensor_parallel: int
) -> None:
    try:
        found = split(budget, weights, overhead, tensor_parallel)
    except BudgetError as error:
        enough = int(str(error).rpartition("more than ")[2].removesuffix("Mi"))
        assert budget < enough * MIB
        split((enough + 1) * MIB, weights, overhead, tensor_parallel)
    else:
        assert found.weights + found.overhead + found.kv_cache == budget
        assert found.weights * tensor_parallel >= weights
        assert found.kv_cache >= MIN_KV_CACHE_BYTES


def test_a_larger_tokenizer_needs_more_ram(tmp_path: Path) -> None:
    bare = sizing.host_overhead(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes(b"x" * MIB)
    assert sizing.host_overhead(tmp_path) == bare + sizing.HOST_TOKENIZER_FACTOR * MIB


def test_a_budget_too_small_for_the_model_says_what_would_do(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "model.safetensors", 4096)
    for kind in ("nvml", "host"):
        with pytest.raises(BudgetError, match="FIX: set vram to more than"):
            sizing.divide(tmp_path, kind, GIB, 1)
        assert sizing.divide(tmp_path, kind, 8 * GIB, 1).weights == 4096
