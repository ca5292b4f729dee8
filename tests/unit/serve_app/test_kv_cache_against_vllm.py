"""Our arithmetic against vLLM: both are given the same config.json and arguments, and must agree to the byte.

vLLM starts a real engine for each case (kv_cache_oracle.py). Where they disagree, vLLM has changed or we are wrong.
"""

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from serve_app.kv_cache import DEVICES, KvCache
from serve_app.kv_layers import ARCHITECTURES
from tests.unit.serve_app.kv_cache_cases import CASES, Case

pytestmark = [pytest.mark.serving, pytest.mark.timeout(600)]
ORACLE = Path(__file__).with_name("kv_cache_oracle.py")
ENVIRONMENT = {
    "CUDA_VISIBLE_DEVICES": "",
    "HF_HUB_OFFLINE": "1",
    "MASTER_ADDR": "127.0.0.1",
    "OMP_NUM_THREADS": "1",
    "TORCHDYNAMO_DISABLE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_LOGGING_LEVEL": "ERROR",
}
# Asked once more, with the least bytes that can do, and with one byte less.
TIGHT = [
    case for case in CASES if case.name in ("llama-3.1-8b", "gemma-3-270m nvml", "jamba", "mamba2-130m", "whisper-tiny")
]
Answers = dict[str, list[dict[str, Any]]]


def arguments(case: Case) -> dict[str, Any]:
    """vLLM's arguments, and ours: they have the same names."""
    asked = {
        "max_model_len": case.max_model_len,
        "max_num_batched_tokens": case.max_num_batched_tokens,
        "dtype": case.dtype,
        "kv_cache_dtype": case.kv_cache_dtype,
        "mamba_ssm_cache_dtype": case.mamba_ssm_cache_dtype,
        "block_size": case.block_size,
        "enable_prefix_caching": case.enable_prefix_caching,
    }
    return {key: value for key, value in asked.items() if value is not None}


def cache_of(case: Case) -> KvCache:
    return KvCache.of(case.config, device=case.device, tensor_parallel=case.tensor_parallel, **arguments(case))


def tight(case: Case, less: int) -> Case:
    return replace(case, name=f"{case.name}, {less} bytes less", budget=cache_of(case).needed(1) - less)


def question(case: Case) -> dict[str, Any]:
    # The oracle has no GPU whose default it could take.
    default = {} if case.device == "host" else {"block_size": DEVICES[case.device].block_size}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return {
        "name": case.name,
        "config": case.config,
        "device": case.device,
        "tensor_parallel": case.tensor_parallel,
        "budget": case.budget,
        "port": port,
        "engine": default | arguments(case) | {"max_num_seqs": 4},
    }


def ask(cases: list[Case], ranks: int, folder: Path) -> Answers:
    """Each case's answers, one of each rank."""
    questions = json.dumps([question(case) for case in cases])
    oracles = []
    for rank in range(ranks):
        place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks)}
        oracles.append(
            subprocess.Popen(
                [sys.executable, ORACLE, folder / f"{ranks}-{rank}.json"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=(folder / f"{ranks}-{rank}.log").open("w"),
                env=os.environ | ENVIRONMENT | place,
                text=True,
            )
        )
    for oracle in oracles:
        assert oracle.stdin is not None
        oracle.stdin.write(questions)
        oracle.stdin.close()
    for rank, oracle in enumerate(oracles):
        assert oracle.wait() == 0, (folder / f"{ranks}-{rank}.log").read_text()[-4000:]
    reports = [json.loads((folder / f"{ranks}-{rank}.json").read_text()) for rank in range(ranks)]
    return {case.name: [report[case.name] for report in reports] for case in cases}


@pytest.fixture(scope="session")
def vllm_says(tmp_path_factory: pytest.TempPathFactory) -> Answers:
    folder = tmp_path_factory.mktemp("oracle")
    answers: Answers = {}
    cases = [*CASES, *(tight(case, less) for case in TIGHT for less in (0, 1))]
    for ranks in sorted({case.tensor_parallel for case in cases}):
        answers |= ask([case for case in cases if case.tensor_parallel == ranks], ranks, folder)
    return answers


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_we_agree_to_the_byte(case: Case, vllm_says: Answers) -> None:
    cache = cache_of(case)
    fit = cache.fit(case.budget)
    ours = {
        "pages": sorted(page.bytes for page in cache.pages),
        "groups": sorted(len(group.pages) for group in cache.groups),
        "bytes_per_block": cache.bytes_per_block,
        "blocks": fit.blocks,
        "bytes": fit.bytes,
        "tokens": fit.tokens,
        "concurrency": fit.concurrency,
    }
    assert [ours] * case.tensor_parallel == vllm_says[case.name]


@pytest.mark.parametrize("case", TIGHT, ids=lambda case: case.name)
def test_vllm_starts_with_what_is_needed_and_not_with_a_byte_less(case: Case, vllm_says: Answers) -> None:
    (enough,), (short,) = (vllm_says[tight(case, less).name] for less in (0, 1))
    assert enough["bytes"] == cache_of(case).needed(1)
    assert "To serve at least one request" in short["error"]


def test_every_architecture_that_we_know_is_compared() -> None:
    assert set(ARCHITECTURES) == {case.config["architectures"][0] for case in CASES}
