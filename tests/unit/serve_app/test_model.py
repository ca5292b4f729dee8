"""The parts of a replica that need no engine: what it asks for, pins, caps and finds."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, HTTPException
from pydantic import ValidationError

from benchmarks.gpu_check import context as gpu_check
from serve_app import checkpoint, model, sizing
from serve_app.args import ModelArgs
from tests.unit.serve_app.test_worker import device
from vram_agent.api import GIB, MIB, Device, Enforcement

ARGS: dict[str, Any] = {
    "name": "m",
    "aliases": [],
    "source": "./m",
    "adapters": {},
    "vramMib": 8192,
    "maxModelLen": 512,
    "maxNumSeqs": None,
    "tensorParallel": 1,
    "chatTemplate": None,
    "defaults": {"maxTokens": 7, "temperature": 0, "topP": None, "truncateInput": False},
    "engine": {"dtype": "float32"},
}
GPU = device("GPU-a", 24 * GIB)
HOST = Device(**GPU.model_dump() | {"id": "host", "kind": "host", "enforcement": Enforcement.NONE})


def args(**more: Any) -> ModelArgs:
    return ModelArgs.model_validate(ARGS | more)


@pytest.mark.parametrize("change", [{"vram": 1}, {"defaults": {"maxToken": 1}}, {"vramMib": 0}, {"source": None}])
def test_unknown_and_wrong_args_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        args(**change)


def test_a_missing_arg_is_refused_because_the_chart_renders_all() -> None:
    with pytest.raises(ValidationError, match="chatTemplate"):
        ModelArgs.model_validate({key: value for key, value in ARGS.items() if key != "chatTemplate"})


def test_engine_arguments_leave_out_what_is_not_said_and_keep_zero() -> None:
    assert args().engine_kwargs() == {
        "max_model_len": 512,
        "tensor_parallel_size": 1,
        "override_generation_config": {"max_new_tokens": 7, "temperature": 0},
        "dtype": "float32",
    }


def test_on_a_gpu_the_engine_gets_exact_kv_bytes_and_a_fraction_inside_the_budget() -> None:
    division = sizing.Split(weights=GIB, overhead=2 * GIB, kv_cache=5 * GIB)
    kwargs = model.engine_kwargs(args(), args().engine_kwargs(), GPU, division)
    assert kwargs["kv_cache_memory_bytes"] == 5 * GIB
    assert kwargs["gpu_memory_utilization"] * GPU.total <= 8192 * MIB - sizing.CUDA_CONTEXT_BYTES
    assert "enforce_eager" not in kwargs


def test_the_engine_key_can_change_a_default_but_never_the_budget() -> None:
    division = sizing.Split(weights=0, overhead=0, kv_cache=123)
    given = args(engine={"enforce_eager": False, "kv_cache_memory_bytes": 9})
    kwargs = model.engine_kwargs(given, given.engine_kwargs(), HOST, division)
    assert kwargs["enforce_eager"] is False
    assert kwargs["kv_cache_memory_bytes"] == 123


def test_pinning_names_the_gpus_and_caps_torch() -> None:
    env = model.pin(("GPU-a", "GPU-b"), GPU, 12 * GIB)
    assert env["CUDA_VISIBLE_DEVICES"] == "GPU-a,GPU-b"
    fraction = float(env["PYTORCH_CUDA_ALLOC_CONF"].removeprefix("per_process_memory_fraction:"))
    assert fraction * GPU.total <= 12 * GIB - sizing.CUDA_CONTEXT_BYTES + MIB
    assert env["TORCHDYNAMO_DISABLE"] == ("0" if shutil.which("cc") or shutil.which("gcc") else "1")
    assert model.pin(("host",), HOST, GIB)["CUDA_VISIBLE_DEVICES"] == ""


def test_where_the_driver_limits_the_container_torch_has_no_cap_of_its_own() -> None:
    limited = GPU.model_copy(update={"enforcement": Enforcement.DRIVER})
    assert "PYTORCH_CUDA_ALLOC_CONF" not in model.pin(("GPU-a",), limited, 12 * GIB)


@pytest.mark.parametrize("enforcement", [Enforcement.TORCH, Enforcement.DRIVER])
def test_the_gpu_check_pins_its_engines_in_the_same_way(enforcement: Enforcement) -> None:
    gpu = GPU.model_copy(update={"enforcement": enforcement})
    of_replica = model.pin((gpu.id,), gpu, 5 * GIB + 7 * MIB)
    del of_replica["TORCHDYNAMO_DISABLE"]  # nothing is compiled there
    assert gpu_check.pin(gpu, 5 * GIB + 7 * MIB) == of_replica


def test_a_source_is_found_in_the_models_volume_or_told_missing(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    with pytest.raises(model.ModelError, match=r"no config\.json.*FIX"):
        model.locate("./m", tmp_path)
    (tmp_path / "m" / "config.json").write_text("{}")
    assert model.locate("./m", tmp_path) == tmp_path / "m"
    assert model.locate(str(tmp_path / "m"), Path("/elsewhere")) == tmp_path / "m"
    with pytest.raises(model.ModelError, match=r"no adapter_config\.json.*FIX"):
        model.locate("./m", tmp_path, checkpoint.ADAPTER_CONFIG)


def test_adapters_are_loaded_together_at_a_rank_that_vllm_allows_and_the_engine_key_wins() -> None:
    given = args(adapters={"sql": "./sql", "o/chat": "o/chat"})
    assert given.engine_kwargs().items() >= {"enable_lora": True, "max_loras": 2}.items()
    assert given.engine_kwargs([8, 12])["max_lora_rank"] == 16
    own = args(adapters=given.adapters, engine={"max_loras": 1, "max_lora_rank": 64})
    assert own.engine_kwargs([8, 12]).items() >= {"max_loras": 1, "max_lora_rank": 64}.items()
    assert "enable_lora" not in args().engine_kwargs()


def test_vllm_is_told_where_each_adapter_is() -> None:
    (sql,) = model.lora_modules(args(), {"sql": Path("/models/sql")})["lora_modules"]
    assert sql == {"name": "sql", "path": "/models/sql", "base_model_name": "m"}
    assert model.lora_modules(args(), {}) == {}


def test_build_refuses_an_argument_that_vllm_does_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[str] = []  # where Serve is, tests/local/test_placement.py has it
    monkeypatch.setattr(model, "wait_for_larger", waited.append)
    model.build(ARGS | {"adapters": {"sql": "./sql"}})
    with pytest.raises(model.ModelError, match=r"models\.m\.engine: .*no_such_argument.*FIX"):
        model.build(ARGS | {"engine": {"no_such_argument": 1}})
    assert waited == ["m"]


async def test_warm_up_asks_what_the_engine_offers_and_fails_with_its_words() -> None:
    app = FastAPI()
    asked = []

    @app.post("/v1/embeddings")
    async def embeddings(body: dict[str, Any]) -> dict[str, Any]:
        asked.append(body)
        return {}

    await model.warm_up(app, args())
    assert asked == [{"model": "m", "input": "Hello"}]

    @app.post("/v1/completions")
    async def completions(body: dict[str, Any]) -> None:
        raise HTTPException(500, f"broken: {body['model']}")

    with pytest.raises(model.ModelError, match=r"/v1/completions answers 500.*broken: m"):
        await model.warm_up(app, args())
