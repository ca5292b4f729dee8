"""What vLLM itself says about KV caches: starts a real engine on the CPU for each case and reports what it did.

A program of its own, because vLLM holds its settings for a process's whole life. Cases come as JSON on stdin, answers
go as JSON to the file named by the first argument. It may import vLLM's internals; nothing else of Hive may.
"""

import contextlib
import gc
import json
import os
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from vllm.distributed import cleanup_dist_env_and_memory
from vllm.engine.arg_utils import EngineArgs
from vllm.model_executor.models import registry
from vllm.multimodal import encoder_budget
from vllm.multimodal.registry import MultiModalRegistry
from vllm.triton_utils import triton
from vllm.v1.attention.backend import MultipleOf
from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend
from vllm.v1.engine import core
from vllm.v1.executor.abstract import Executor

# vLLM collects seven times for each engine, and what torch and transformers have imported is a heap of seconds.
gc.collect = lambda generation=2: 0


@contextlib.contextmanager
def facts_of(device: str) -> Iterator[None]:
    """Run vLLM's code for the CPU with the facts that decide about the cache on this kind of device.

    `nvml`: FLASH_ATTN takes any multiple of 16 tokens, latent attention any block, and two batches are in flight.
    This CPU's instructions, which would change the type of recurrent state and the block of latent attention, don't
    count.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(torch.cpu, "_is_avx512_bf16_supported", return_value=False))
        stack.enter_context(mock.patch.object(torch.cpu, "_is_amx_tile_supported", return_value=device == "nvml"))
        # A process for each architecture, only to look at its class, takes eight seconds; and no kernel runs here.
        stack.enter_context(mock.patch.object(registry, "_run_in_subprocess", lambda look: look()))
        # No model brings its tokenizer or its processor.
        processor = mock.MagicMock()
        processor.info.supported_mm_limits = processor.info.allowed_mm_limits = {"audio": 1}
        stack.enter_context(mock.patch.object(MultiModalRegistry, "create_processor", return_value=processor))
        stack.enter_context(mock.patch.object(encoder_budget, "get_mm_max_toks_per_item", return_value={"audio": 1500}))
        stack.enter_context(mock.patch.object(triton, "set_allocator", print, create=True))
        if device == "nvml":
            sizes = staticmethod(lambda: [MultipleOf(16)])
            stack.enter_context(mock.patch.object(CPUAttentionBackend, "get_supported_kernel_block_sizes", sizes))
        yield


def report(case: dict[str, Any]) -> dict[str, Any]:
    """One engine, from its config.json to its allocated cache."""
    with tempfile.TemporaryDirectory() as folder, facts_of(case["device"]):
        (Path(folder) / "config.json").write_text(json.dumps(case["config"]))
        parallel = {"distributed_executor_backend": "external_launcher"} if case["tensor_parallel"] > 1 else {}
        args = EngineArgs(
            model=folder,
            skip_tokenizer_init=True,
            load_format="dummy",
            enforce_eager=True,
            mm_device_do_normalize=False,
            language_model_only=not case["config"].get("is_encoder_decoder"),
            tensor_parallel_size=case["tensor_parallel"],
            kv_cache_memory_bytes=case["budget"],
            **parallel,
            **case["engine"],
        )
        config = args.create_engine_config()
        if case["device"] == "nvml":
            config.scheduler_config.async_scheduling = True
        engine = None
        try:
            with mock.patch.object(core, "get_kv_cache_configs", wraps=core.get_kv_cache_configs) as plan:
                engine = core.EngineCore(config, Executor.get_class(config), log_stats=False)
            (specs,) = plan.call_args.args[1]
            return {"pages": sorted(spec.page_size_bytes for spec in specs.values())} | outcome(engine)
        finally:
            if engine is not None:
                engine.shutdown()
            cleanup_dist_env_and_memory()


def outcome(engine: Any) -> dict[str, Any]:
    cache = engine.vllm_config.cache_config
    runner = engine.model_executor.driver_worker.worker.model_runner
    storages = {tensor.untyped_storage().data_ptr(): tensor for tensor in tensors(runner.kv_caches)}
    scheduled = engine.scheduler.kv_cache_config
    return {
        "groups": sorted(len(group.layer_names) for group in scheduled.kv_cache_groups),
        "bytes_per_block": scheduled.kv_cache_tensors[0].size // scheduled.num_blocks if storages else 0,
        "blocks": scheduled.num_blocks,
        "bytes": sum(tensor.untyped_storage().nbytes() for tensor in storages.values()),
        "tokens": cache.kv_cache_size_tokens or 0,
        "concurrency": cache.kv_cache_max_concurrency or 0.0,
    }


def tensors(caches: Any) -> Iterator[torch.Tensor]:
    for cache in caches:
        if isinstance(cache, torch.Tensor):
            yield cache
        else:
            yield from tensors(cache)


def main() -> None:
    cases = json.load(sys.stdin)
    answers = {}
    for case in cases:
        os.environ["MASTER_PORT"] = str(case["port"])
        try:
            answers[case["name"]] = report(case)
        except Exception:
            answers[case["name"]] = {"error": traceback.format_exc()}
        print(case["name"], answers[case["name"]], file=sys.stderr, flush=True)
    Path(sys.argv[1]).write_text(json.dumps(answers))


if __name__ == "__main__":
    main()
