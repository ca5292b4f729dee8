"""Our bound of what LoRA slots take against vLLM's own layers."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from serve_app.checkpoint import read_folder
from serve_app.lora import slot_bytes
from tests.unit.serve_app.lora_oracle import RANK, SLOTS
from tests.unit.serve_app.vllm_cases import ALL
from tests.unit.serve_app.vllm_oracle import ENVIRONMENT, MARKS

pytestmark = MARKS
ROOT = Path(__file__).parents[3]
# One of each way in which a checkpoint lays out its matrices: apart, tied, fused, heads fewer, quantised. No experts:
# vLLM's CPU build makes no slots for them.
NAMES = [
    "llama", "llama tied", "llama F32 in F32", "llama awq", "llama gptq", "llama int4 groups", "qwen2 biases", "qwen3",
    "phi3", "phi", "gemma2", "opt", "starcoder2",
]  # fmt: skip


@pytest.fixture(scope="module", name="oracle")
def _oracle(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, int | str]]:
    folder = tmp_path_factory.mktemp("checkpoints")
    done = subprocess.run(
        [sys.executable, "-m", "tests.unit.serve_app.lora_oracle", str(folder), *NAMES],
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return folder, json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", NAMES)
def test_the_bound_is_never_less_than_vllms_slots_and_not_far_above(
    oracle: tuple[Path, dict[str, int | str]], name: str
) -> None:
    folder, found = oracle
    vllm = found[name]
    assert isinstance(vllm, int), vllm
    checkpoint = read_folder(folder / name)
    ours = slot_bytes(checkpoint.tensors, checkpoint.config, SLOTS, RANK, ALL[name].dtype)
    assert 0 < vllm <= ours <= 3 * vllm
