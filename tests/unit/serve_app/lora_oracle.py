"""Makes small random checkpoints, lets vLLM make LoRA slots for each, and prints the bytes of these.

    python -m tests.unit.serve_app.lora_oracle FOLDER NAME...

prints `{name: bytes}` as JSON, last line of its output. A program of its own, as `vllm_oracle` is, and one device: what
we say of adapters does not depend on how many there are.
"""

import json
import sys
import traceback
from pathlib import Path
from typing import Any

from tests.unit.serve_app.vllm_cases import ALL
from tests.unit.serve_app.vllm_oracle import free_port, make_checkpoint

SLOTS, RANK = 3, 16


def main(folder: Path, names: list[str]) -> dict[str, int | str]:
    from vllm.config import VllmConfig, set_current_vllm_config
    from vllm.distributed import ensure_model_parallel_initialized, init_distributed_environment
    from vllm.model_executor.models import registry

    registry._run_in_subprocess = lambda look: look()
    found: dict[str, int | str] = {}
    with set_current_vllm_config(VllmConfig()):
        init_distributed_environment(1, 0, f"tcp://127.0.0.1:{free_port()}", 0, "gloo")
        ensure_model_parallel_initialized(1, 1)
    for name in names:
        make_checkpoint(ALL[name], folder / name)
        try:
            found[name] = _slot_bytes(folder / name, ALL[name].dtype)
        except Exception:
            found[name] = traceback.format_exc()
    return found


def _slot_bytes(folder: Path, dtype: str) -> int:
    import torch
    from vllm.config import set_current_vllm_config
    from vllm.engine.arg_utils import EngineArgs
    from vllm.lora.model_manager import create_lora_manager
    from vllm.model_executor.model_loader.utils import initialize_model
    from vllm.utils.torch_utils import set_default_torch_dtype

    config = EngineArgs(
        model=str(folder),
        dtype=dtype,
        enable_lora=True,
        max_loras=SLOTS,
        max_lora_rank=RANK,
        skip_tokenizer_init=True,
        enforce_eager=True,
    ).create_engine_config()
    device = torch.device("cpu")
    with set_current_vllm_config(config), set_default_torch_dtype(config.model_config.dtype), device:
        model: Any = initialize_model(vllm_config=config)
        vocabulary = config.model_config.get_vocab_size()
        manager = create_lora_manager(model, 4, 64, vocabulary, config.lora_config, config, device)
    slots = [
        tensor
        for module in manager.modules.values()
        for name, value in vars(module).items()
        if name.endswith(("lora_a_stacked", "lora_b_stacked"))
        for tensor in (value if isinstance(value, tuple) else (value,))
    ]
    return sum({tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in slots}.values())


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), sys.argv[2:])))
