"""The engine that Hive's replica starts, for the other targets: the same arguments and the same environment."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hive.rendering import Rendered
from vram_agent.api import MIB, Device

# Ray sets it for a worker with up to one CPU, which Hive's replicas are (ray/_private/utils.py).
THREADS = {"OMP_NUM_THREADS": "1"}
# What the chart gives all of Ray's processes and that is not about Ray.
SILENCE = {"VLLM_NO_USAGE_STATS": "1"}


@dataclass(frozen=True)
class Engine:
    """One model's engine. `kwargs` are vLLM's arguments."""

    model: str
    folder: Path
    kwargs: Mapping[str, Any]
    env: Mapping[str, str]

    def flags(self) -> list[str]:
        """The arguments as vLLM's command line spells them."""
        return flags(self.kwargs)


def engines(rendered: Rendered, device: Device, models: Path) -> dict[str, Engine]:
    """By model, computed by the replica's own functions; these import Ray and take ten seconds for it."""
    os.environ.setdefault(
        "VLLM_LOGGING_LEVEL", "ERROR"
    )  # of this process; `clean_environment` keeps it from the targets
    from serve_app import checkpoint, model, sizing
    from serve_app.args import ModelArgs

    found = {}
    for app in rendered.serve_config["applications"]:
        args = ModelArgs.model_validate(app["args"])
        folder = model.locate(args.source, models)
        read = checkpoint.read_folder(folder)
        wanted = args.engine_kwargs()
        engine = sizing.Engine.of(wanted, read.config, device.kind)
        budget = args.vram_mib * MIB
        division = sizing.divide(read, engine, device.kind, budget)
        kwargs = model.engine_kwargs(args, wanted, device, division)
        env = model.pin((device.id,), device, budget) | THREADS | SILENCE
        found[args.name] = Engine(args.name, folder, kwargs, env)
    return found


def flags(kwargs: Mapping[str, Any]) -> list[str]:
    """Keyword arguments as flags: `max_model_len=512` is `--max-model-len=512`, and `x=False` is `--no-x`."""
    found = []
    for name, value in kwargs.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            found.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            text = value if isinstance(value, str) else json.dumps(value)
            found.append(f"--{flag}={text}")
    return found
