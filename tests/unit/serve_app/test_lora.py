"""What vLLM is told about adapters, and what their slots take; vLLM's own layers: test_weights_against_vllm."""

from typing import Any

import pytest

from serve_app import lora
from serve_app.weights import Tensor


@pytest.mark.parametrize(("rank", "allowed"), [(1, 1), (2, 8), (8, 8), (9, 16), (257, 320), (512, 512)])
def test_a_rank_is_rounded_up_to_one_that_vllm_allows(rank: int, allowed: int) -> None:
    assert lora.allowed_rank(rank) == allowed


def test_a_rank_beyond_vllms_is_refused() -> None:
    with pytest.raises(lora.RankError, match=r"rank 513.*512 at most\. FIX: "):
        lora.engine_kwargs(1, [513])


@pytest.mark.parametrize(
    ("name", "dtype", "shape", "config", "numbers"),
    [
        ("a.q_proj.weight", "BF16", (64, 32), {}, 32 + 64),
        ("a.qkv_proj.weight", "BF16", (96, 32), {}, 3 * 32 + 96),
        ("a.gate_up_proj.weight", "BF16", (128, 32), {}, 2 * 32 + 128),
        ("a.norm.weight", "BF16", (32,), {}, 0),
        ("a.q_proj.bias", "BF16", (64,), {}, 0),
        ("a.conv1d.weight", "BF16", (64, 1, 4), {}, 0),
        ("v.patch_embed.proj.weight", "BF16", (64, 3, 2, 14, 14), {}, 0),
        ("a.experts.down_proj", "BF16", (8, 64, 32), {}, 8 * (64 + 32)),
        ("a.experts.gate_up_proj_blocks", "U8", (4, 128, 2, 16), {}, 4 * (2 * 64 + 128)),
        ("a.q_proj.qweight", "I32", (32, 8), {"quantization_config": {"quant_method": "awq", "bits": 4}}, 32 + 64),
        ("a.q_proj.qweight", "I32", (8, 64), {"quantization_config": {"quant_method": "gptq", "bits": 8}}, 32 + 64),
        ("a.q_proj.weight_packed", "I32", (64, 4), {"quantization_config": {}}, 32 + 64),
        ("a.q_proj.scales", "F16", (4, 64), {}, 0),
        ("a.q_proj.weight", "U8", (1024, 1), {"hidden_size": 32}, 32 + 64),
    ],
)
def test_a_slot_has_room_for_every_matrix(
    name: str, dtype: str, shape: tuple[int, ...], config: dict[str, Any], numbers: int
) -> None:
    tensor = Tensor(name, dtype, shape, 1)
    head = config.get("hidden_size", 0)
    assert lora.slot_bytes([tensor], config, slots=2, rank=8, dtype="auto") == (numbers + head) * 2 * 8 * 2
    assert lora.slot_bytes([tensor], config, slots=1, rank=1, dtype="float32") == (numbers + head) * 4
