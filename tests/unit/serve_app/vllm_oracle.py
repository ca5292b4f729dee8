"""Makes small random checkpoints with transformers, lets vLLM build each, and prints the bytes of its parameters.

    python -m tests.unit.serve_app.vllm_oracle FOLDER NAME...

prints `{name: {ranks: bytes of the fullest rank}}` as JSON, last line of its output. A program of its own, started with
ENVIRONMENT, since vLLM keeps one parallel world per process: two processes share a gloo world of two, then the first is
alone in a world of one.

Parameters are those that vLLM's modules hold before weights are loaded into them: the CPU build repacks weights after
loading for its own kernels, a GPU holds what is counted here. Each storage counts once.
"""

import json
import multiprocessing
import os
import socket
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multiprocessing.queues import Queue

Tensors = dict[str, Any]
Edit = Callable[[Tensors, dict[str, Any]], None]


@dataclass(frozen=True)
class Case:
    """A model: transformers' config class and its arguments, its architecture, and what else its file has."""

    config: str
    architecture: str
    arguments: Mapping[str, Any]
    edit: Edit | None = None
    dtype: str = "auto"


def _mtp(tensors: Tensors, config: dict[str, Any]) -> None:
    """One more layer, as DeepSeek-V3 and GLM ship it."""
    last, extra = config["num_hidden_layers"] - 1, config["num_hidden_layers"]
    for name in [name for name in tensors if f".layers.{last}." in name]:
        tensors[name.replace(f".layers.{last}.", f".layers.{extra}.")] = tensors[name].clone()
    tensors[f"model.layers.{extra}.eh_proj.weight"] = tensors["lm_head.weight"].clone()
    config["num_nextn_predict_layers"] = 1


def _routed_bias(tensors: Tensors, config: dict[str, Any]) -> None:
    """transformers does not keep the key that tells vLLM of e_score_correction_bias."""
    config["topk_method"] = "noaux_tc"
    _mtp(tensors, config)


def _mtp_module(tensors: Tensors, config: dict[str, Any]) -> None:
    """Qwen3-Next ships it beside the model."""
    tensors["mtp.fc.weight"] = tensors["lm_head.weight"].clone()


def _head(tensors: Tensors, config: dict[str, Any]) -> None:
    """A head of its own though the config says tied."""
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()


def _buffers(tensors: Tensors, config: dict[str, Any]) -> None:
    """What old checkpoints hold beside weights; and no prefix, as in the hub's gpt2."""
    import torch

    for name in list(tensors):
        tensors[name.removeprefix("transformer.")] = tensors.pop(name)
    tensors["h.0.attn.bias"] = torch.ones(1, 1, 128, 128)
    tensors["h.0.attn.masked_bias"] = torch.ones(())


def _inverse_frequencies(tensors: Tensors, config: dict[str, Any]) -> None:
    import torch

    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(8)


def _float32(tensors: Tensors, config: dict[str, Any]) -> None:
    for name in tensors:
        tensors[name] = tensors[name].float()
    config["dtype"] = "float32"


def _linears(tensors: Tensors) -> list[str]:
    """Modules that quantisers take."""
    return [
        name.removesuffix(".weight")
        for name, tensor in tensors.items()
        if name.endswith("proj.weight") and tensor.dim() == 2
    ]


def _fp8_blocks(tensors: Tensors, config: dict[str, Any]) -> None:
    """As DeepSeek-V3 and Qwen3's -FP8 are published."""
    import torch

    for module in _linears(tensors):
        weight = tensors[f"{module}.weight"]
        tensors[f"{module}.weight"] = weight.to(torch.float8_e4m3fn)
        tensors[f"{module}.weight_scale_inv"] = torch.ones(-(-weight.shape[0] // 128), -(-weight.shape[1] // 128))
    config["quantization_config"] = {
        "quant_method": "fp8",
        "fmt": "e4m3",
        "activation_scheme": "dynamic",
        "weight_block_size": [128, 128],
    }


def _compressed(tensors: Tensors, config: dict[str, Any], weights: dict[str, Any], activations: Any, form: str) -> None:
    config["quantization_config"] = {
        "quant_method": "compressed-tensors",
        "format": form,
        "quantization_status": "compressed",
        "ignore": ["lm_head"],
        "config_groups": {
            "group_0": {
                "targets": ["Linear"],
                "weights": weights,
                "input_activations": activations,
                "output_activations": None,
            }
        },
    }


def _fp8_channels(tensors: Tensors, config: dict[str, Any]) -> None:
    """compressed-tensors' FP8_DYNAMIC."""
    import torch

    for module in _linears(tensors):
        weight = tensors[f"{module}.weight"]
        tensors[f"{module}.weight"] = weight.to(torch.float8_e4m3fn)
        tensors[f"{module}.weight_scale"] = torch.ones(weight.shape[0], 1, dtype=torch.bfloat16)
    common = {"num_bits": 8, "type": "float", "symmetric": True}
    _compressed(
        tensors,
        config,
        common | {"strategy": "channel", "dynamic": False},
        common | {"strategy": "token", "dynamic": True},
        "float-quantized",
    )


def _int4_groups(tensors: Tensors, config: dict[str, Any]) -> None:
    """compressed-tensors' W4A16 with groups of 32."""
    import torch

    for module in _linears(tensors):
        weight = tensors.pop(f"{module}.weight")
        outputs, inputs = weight.shape
        tensors[f"{module}.weight_packed"] = torch.zeros(outputs, inputs // 8, dtype=torch.int32)
        tensors[f"{module}.weight_scale"] = torch.ones(outputs, inputs // 32, dtype=torch.bfloat16)
        tensors[f"{module}.weight_shape"] = torch.tensor([outputs, inputs])
    weights = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": 32, "dynamic": False}
    _compressed(tensors, config, weights, None, "pack-quantized")


def _awq(tensors: Tensors, config: dict[str, Any]) -> None:
    import torch

    for module in _linears(tensors):
        outputs, inputs = tensors.pop(f"{module}.weight").shape
        tensors[f"{module}.qweight"] = torch.zeros(inputs, outputs // 8, dtype=torch.int32)
        tensors[f"{module}.qzeros"] = torch.zeros(inputs // 32, outputs // 8, dtype=torch.int32)
        tensors[f"{module}.scales"] = torch.ones(inputs // 32, outputs, dtype=torch.float16)
    config["dtype"] = "float16"
    config["quantization_config"] = {
        "quant_method": "awq", "bits": 4, "group_size": 32, "zero_point": True, "version": "gemm",
    }  # fmt: skip


def _gptq(tensors: Tensors, config: dict[str, Any]) -> None:
    import torch

    for module in _linears(tensors):
        outputs, inputs = tensors.pop(f"{module}.weight").shape
        tensors[f"{module}.qweight"] = torch.zeros(inputs // 8, outputs, dtype=torch.int32)
        tensors[f"{module}.qzeros"] = torch.zeros(inputs // 32, outputs // 8, dtype=torch.int32)
        tensors[f"{module}.scales"] = torch.ones(inputs // 32, outputs, dtype=torch.float16)
        tensors[f"{module}.g_idx"] = torch.zeros(inputs, dtype=torch.int32)
    config["dtype"] = "float16"
    config["quantization_config"] = {
        "quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": False, "sym": True,
    }  # fmt: skip


def _mxfp4(tensors: Tensors, config: dict[str, Any]) -> None:
    """As gpt-oss is published."""
    import torch

    for name in [name for name in tensors if name.endswith(("gate_up_proj", "down_proj"))]:
        experts, inputs, outputs = tensors.pop(name).shape
        tensors[f"{name}_blocks"] = torch.zeros(experts, outputs, inputs // 32, 16, dtype=torch.uint8)
        tensors[f"{name}_scales"] = torch.zeros(experts, outputs, inputs // 32, dtype=torch.uint8)
    config["quantization_config"] = {
        "quant_method": "mxfp4",
        "modules_to_not_convert": [
            "model.layers.*.self_attn",
            "model.layers.*.mlp.router",
            "model.embed_tokens",
            "lm_head",
        ],
    }


# A vocabulary that needs padding, K and V heads that two ranks share evenly; and a single one, on both ranks.
TEXT = {
    "vocab_size": 1000, "hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
ONE_KV_HEAD = TEXT | {"num_key_value_heads": 1}
ALL_KV_HEADS = TEXT | {"num_key_value_heads": 4}
SMALL = {key: TEXT[key] for key in ("vocab_size", "pad_token_id", "bos_token_id", "eos_token_id")}
GPT = SMALL | {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 128}
MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64, "decoder_sparse_step": 1}
MLA = ALL_KV_HEADS | {
    "kv_lora_rank": 32, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 16, "moe_intermediate_size": 48,
    "n_routed_experts": 4, "num_experts_per_tok": 2, "first_k_dense_replace": 1, "topk_group": 1,
}  # fmt: skip
MROPE = {"rope_type": "default", "rope_theta": 1e6}
TOWER = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}


def _text(name: str, arguments: Mapping[str, Any] = TEXT, edit: Edit | None = None, dtype: str = "auto") -> Case:
    return Case(f"{name}Config", f"{name}ForCausalLM", arguments, edit, dtype)


CASES = {
    "mixtral": _text("Mixtral", TEXT | {"num_local_experts": 4}),
    "llama": _text("Llama"),
    "llama one kv head, biases": _text("Llama", ONE_KV_HEAD | {"attention_bias": True, "mlp_bias": True}),
    "llama tied": _text("Llama", TEXT | {"tie_word_embeddings": True}),
    "llama old buffers": _text("Llama", TEXT, _inverse_frequencies),
    "llama F32": _text("Llama", TEXT, _float32),
    "llama F32 in F32": _text("Llama", TEXT, _float32, "float32"),
    "qwen2 biases": _text("Qwen2", ONE_KV_HEAD),
    "qwen2_moe": _text("Qwen2Moe", TEXT | MOE | {"shared_expert_intermediate_size": 96}),
    "qwen3": _text("Qwen3", ONE_KV_HEAD | {"head_dim": 32, "tie_word_embeddings": True}),
    "qwen3_moe": _text("Qwen3Moe", TEXT | MOE | {"head_dim": 32}),
    "qwen3_next": _text(
        "Qwen3Next",
        TEXT | MOE | {
            "num_hidden_layers": 4, "head_dim": 32, "shared_expert_intermediate_size": 48, "linear_num_value_heads": 4,
            "linear_num_key_heads": 2, "linear_key_head_dim": 16, "linear_value_head_dim": 16,
        },
        _mtp_module,
    ),
    "mistral": _text("Mistral"),
    "gemma": _text("Gemma", ONE_KV_HEAD | {"head_dim": 32}),
    "gemma2": _text("Gemma2", TEXT | {"head_dim": 32}),
    "gemma3": Case("Gemma3TextConfig", "Gemma3ForCausalLM", ONE_KV_HEAD | {"head_dim": 32}),
    "phi": _text("Phi", ALL_KV_HEADS | {"intermediate_size": 256}),
    "phi3 one kv head": _text("Phi3", ONE_KV_HEAD),
    "phi3": _text("Phi3"),
    "olmo2": _text("Olmo2"),
    "olmo3": _text("Olmo3"),
    "olmoe": _text("Olmoe", ALL_KV_HEADS | {"num_experts": 4, "num_experts_per_tok": 2}),
    "deepseek_v2": _text("DeepseekV2", MLA | {"q_lora_rank": None, "n_shared_experts": 2, "n_group": 1}),
    "deepseek_v3": _text("DeepseekV3", MLA | {"q_lora_rank": 24, "n_shared_experts": 1, "n_group": 2}, _routed_bias),
    "glm4": _text("Glm4", TEXT | {"head_dim": 32, "attention_bias": True}),
    "glm4_moe": _text(
        "Glm4Moe",
        TEXT | MOE | {
            "head_dim": 32, "n_routed_experts": 4, "n_shared_experts": 1, "first_k_dense_replace": 1,
            "use_qk_norm": True, "attention_bias": True,
        },
        _mtp,
    ),
    "gpt2": Case("GPT2Config", "GPT2LMHeadModel", GPT, _buffers),
    "gptj": Case("GPTJConfig", "GPTJForCausalLM", GPT | {"rotary_dim": 8}),
    "gpt_neox": _text("GPTNeoX", TEXT),
    "bloom": _text("Bloom", SMALL | {"hidden_size": 64, "n_layer": 2, "n_head": 4}),
    "opt": _text("OPT", TEXT | {"ffn_dim": 128, "word_embed_proj_dim": 32, "do_layer_norm_before": False}),
    "falcon multi-query": _text("Falcon", TEXT | {"multi_query": True, "new_decoder_architecture": False}),
    "falcon new": _text("Falcon", TEXT | {"num_kv_heads": 2, "new_decoder_architecture": True}),
    "falcon old": _text(
        "Falcon",
        TEXT | {
            "multi_query": False, "new_decoder_architecture": False, "parallel_attn": False, "bias": True,
            "alibi": True,
        },
    ),
    "gpt_oss": _text("GptOss", TEXT | {"head_dim": 32, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "granite": _text("Granite"),
    "granitemoe": _text("GraniteMoe", TEXT | {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "cohere": _text("Cohere"),
    "cohere norms per head": _text("Cohere", ONE_KV_HEAD | {"use_qk_norm": True}),
    "cohere2": _text("Cohere2"),
    "stablelm": _text("StableLm", TEXT | {"use_qkv_bias": True}),
    "starcoder2": _text("Starcoder2"),
    "smollm3": _text("SmolLM3"),
    "seed_oss": _text("SeedOss", TEXT | {"head_dim": 32, "attention_bias": True, "attention_out_bias": False}),
    "ernie4_5": _text("Ernie4_5", TEXT | {"head_dim": 32}),
    "exaone4": _text("Exaone4"),
    "nemotron": _text("Nemotron"),
    "bert": Case("BertConfig", "BertModel", TEXT),
    "modernbert": Case("ModernBertConfig", "ModernBertModel", TEXT | {"cls_token_id": 1, "sep_token_id": 2}),
    "gemma3 vision": Case(
        "Gemma3Config",
        "Gemma3ForConditionalGeneration",
        {
            "text_config": TEXT | {"head_dim": 32},
            "vision_config": TOWER | {"image_size": 56, "patch_size": 14},
            "mm_tokens_per_image": 4,
        },
    ),
    "qwen2_vl": Case(
        "Qwen2VLConfig",
        "Qwen2VLForConditionalGeneration",
        {
            "text_config": TEXT | {"rope_parameters": MROPE | {"mrope_section": [2, 3, 3]}},
            "vision_config": {"depth": 2, "embed_dim": 64, "hidden_size": 64, "num_heads": 4, "mlp_ratio": 2},
        },
    ),
    "qwen2_5_vl": Case(
        "Qwen2_5_VLConfig",
        "Qwen2_5_VLForConditionalGeneration",
        {
            "text_config": TEXT | {"rope_parameters": MROPE | {"mrope_section": [2, 3, 3]}},
            "vision_config": {
                "depth": 2, "hidden_size": 64, "out_hidden_size": 64, "num_heads": 4, "intermediate_size": 96,
                "fullatt_block_indexes": [1],
            },
        },
    ),
    "qwen3_vl": Case(
        "Qwen3VLConfig",
        "Qwen3VLForConditionalGeneration",
        {
            "text_config": TEXT | {
                "head_dim": 32, "architectures": ["Qwen3ForCausalLM"],
                "rope_parameters": MROPE | {"mrope_section": [6, 5, 5], "mrope_interleaved": True},
            },
            "vision_config": {
                "depth": 2, "hidden_size": 64, "out_hidden_size": 64, "num_heads": 4, "intermediate_size": 96,
                "deepstack_visual_indexes": [0], "num_position_embeddings": 64,
            },
        },
    ),
}  # fmt: skip

# Where the rules promise no more than an upper bound.
BOUNDS = {
    "llama tied, with a head": _text("Llama", TEXT | {"tie_word_embeddings": True}, _head),
    "llama fp8 blocks": _text("Llama", TEXT | {"hidden_size": 256, "intermediate_size": 768}, _fp8_blocks),
    "llama fp8 channels": _text("Llama", TEXT, _fp8_channels),
    "llama int4 groups": _text("Llama", TEXT | {"hidden_size": 256, "intermediate_size": 512}, _int4_groups),
    "llama awq": _text("Llama", TEXT | {"hidden_size": 256, "intermediate_size": 512}, _awq),
    "llama gptq": _text("Llama", TEXT | {"hidden_size": 256, "intermediate_size": 512}, _gptq),
    "deepseek_v3 fp8 blocks": _text(
        "DeepseekV3",
        MLA | {
            "hidden_size": 256, "intermediate_size": 512, "moe_intermediate_size": 256, "q_lora_rank": 128,
            "kv_lora_rank": 128, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
            "n_shared_experts": 1, "n_group": 2,
        },
        _fp8_blocks,
    ),
    "gpt_oss mxfp4": _text(
        "GptOss", TEXT | {"head_dim": 32, "num_local_experts": 4, "num_experts_per_tok": 2}, _mxfp4
    ),
    "unknown: apertus": _text("Apertus"),
    "unknown: arcee": _text("Arcee"),
    "unknown: ernie4_5_moe": _text(
        "Ernie4_5_Moe",
        TEXT | {"moe_num_experts": 4, "moe_k": 2, "moe_intermediate_size": 48, "moe_num_shared_experts": 1},
    ),
    "unknown: glm": _text("Glm", TEXT | {"head_dim": 32}),
    "unknown: mamba": _text("Mamba", SMALL | {"hidden_size": 64, "num_hidden_layers": 2, "state_size": 8}),
    "unknown: mamba2": _text(
        "Mamba2",
        SMALL | {
            "hidden_size": 64, "num_hidden_layers": 2, "state_size": 16, "num_heads": 8, "head_dim": 16, "n_groups": 1,
        },
    ),
    "unknown: granitemoeshared": _text(
        "GraniteMoeShared",
        TEXT | {"num_local_experts": 4, "num_experts_per_tok": 2, "shared_intermediate_size": 96},
    ),
}  # fmt: skip

ALL = CASES | BOUNDS

ENVIRONMENT = os.environ | {
    "CUDA_VISIBLE_DEVICES": "",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "TORCHDYNAMO_DISABLE": "1",
    "VLLM_DIST_IDENT": f"oracle-{os.getpid()}",  # names the shared memory of one world; vLLM's executor sets it
    "VLLM_LOGGING_LEVEL": "ERROR",
}


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
    worlds = {2: _free_port(), 1: _free_port()}
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    processes = [context.Process(target=build, args=(rank, worlds, folder, names, answers)) for rank in range(2)]
    for process in processes:
        process.start()
    both = [answers.get() for _ in processes]
    for process in processes:
        process.join()
    return {
        name: {ranks: max((one[name][ranks] for one in both if ranks in one[name]), key=_size) for ranks in worlds}
        for name in names
    }


def _size(found: int | str) -> float:
    """What went wrong counts most."""
    return found if isinstance(found, int) else float("inf")


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), sys.argv[2:] or list(ALL))))
