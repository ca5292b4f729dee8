"""Parts of scenarios for the tests of `hive plan`."""

import functools
import json
from pathlib import Path
from typing import Any

from hive.placement import Want
from hive.plan.needs import Need, need
from hive.plan.scenario import Entry, Gpu, Group, Scenario
from hive.rendering import Rendered, render_values
from serve_app.args import ModelArgs
from serve_app.checkpoint import Checkpoint
from serve_app.weights import Tensor
from vram_agent.api import GIB, MIB

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 16,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "vocab_size": 32000,
    "max_position_embeddings": 8192,
}
DEFAULTS = {"maxTokens": None, "temperature": None, "topP": None, "truncateInput": False}


def args(**said: Any) -> ModelArgs:
    usual = {
        "name": "m", "aliases": [], "source": "./m", "adapters": {}, "vramMib": 1, "maxModelLen": 4096,
        "maxNumSeqs": None, "tensorParallel": 1, "chatTemplate": None, "defaults": DEFAULTS, "engine": {},
    }  # fmt: skip
    return ModelArgs.model_validate(usual | said)


@functools.cache
def llama(gib: int = 2, kind: str = "nvml", **said: Any) -> Need:
    """A model with so many GiB of weights."""
    columns = gib * GIB // 2 // 1024
    tensors = (Tensor("model.layers.0.mlp.down_proj.weight", "BF16", (1024, columns), gib * GIB),)
    return need(Checkpoint(CONFIG, tensors, MIB), args(**said), kind, [], None)


@functools.cache
def rendered() -> Rendered:
    return render_values({"models": {}, "gateway": {"anonymous": True}})


def gpu(number: int, gib: int) -> Gpu:
    return Gpu(f"GPU {number}", gib * GIB, 512 * MIB, 256 * MIB, 512 * MIB)


def entry(
    model: str, mib: int, replicas: int = 1, known: Need | None = None, devices: int = 1, most: int = 100
) -> Entry:
    return Entry(Want(model, mib, devices, replicas, most_per_worker=most), f"./{model}", True, need=known)


def scenario(entries: list[Entry], gpus: list[int], groups: list[Group] | None = None) -> Scenario:
    """These models on GPUs of so many GiB, a worker for each unless groups say otherwise."""
    return Scenario(
        rendered=rendered(),
        entries=tuple(entries),
        groups=tuple(groups or [Group("gpu", len(gpus), len(gpus), 1)]),
        gpus=tuple(gpu(number, gib) for number, gib in enumerate(gpus)),
        kind="nvml",
    )


def make_model(folder: Path) -> None:
    """A checkpoint of a few bytes, in the Hugging Face format."""
    folder.mkdir(parents=True)
    folder.joinpath("config.json").write_text(json.dumps(CONFIG))
    tensor = {"dtype": "BF16", "shape": [1024, 4], "data_offsets": [0, 8192]}
    header = json.dumps({"model.layers.0.mlp.down_proj.weight": tensor}).encode()
    folder.joinpath("model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(8192))
