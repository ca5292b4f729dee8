"""Small models of every architecture that `serve_app.layout` knows, and of some that it does not, for `vllm_oracle`.

Sizes are chosen so that every rule shows: a vocabulary that needs padding, K and V heads fewer than ranks, biases.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

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


LINEAR = {
    "num_hidden_layers": 4, "head_dim": 32, "linear_num_value_heads": 4, "linear_num_key_heads": 2,
    "linear_key_head_dim": 16, "linear_value_head_dim": 16,
}  # fmt: skip
SHARED_EXPERT = {"shared_expert_intermediate_size": 48}
QWEN3_ROPE = {"rope_parameters": MROPE | {"mrope_section": [6, 5, 5], "mrope_interleaved": True}}
QWEN3_5 = TEXT | LINEAR | {
    "rope_parameters": MROPE | {"mrope_section": [2, 1, 1], "partial_rotary_factor": 0.25},
}  # fmt: skip
QWEN3_TOWER = {
    "depth": 2, "hidden_size": 64, "out_hidden_size": 64, "num_heads": 4, "intermediate_size": 96,
    "num_position_embeddings": 64,
}  # fmt: skip
GEMMA4 = TEXT | {"head_dim": 32, "vocab_size_per_layer_input": 1000}
ROBERTA = TEXT | {"max_position_embeddings": 130, "type_vocab_size": 1, "position_embedding_type": "absolute"}


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
        TEXT | MOE | LINEAR | SHARED_EXPERT,
        _mtp_module,
    ),
    "qwen3_5": Case("Qwen3_5TextConfig", "Qwen3_5ForCausalLM", QWEN3_5, _mtp_module),
    "qwen3_5_moe": Case("Qwen3_5MoeTextConfig", "Qwen3_5MoeForCausalLM", QWEN3_5 | MOE | SHARED_EXPERT),
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
    "apertus": _text("Apertus"),
    "arcee": _text("Arcee"),
    "cwm": _text("Cwm", TEXT | {"head_dim": 16}),
    "ernie4_5_moe": _text(
        "Ernie4_5_Moe",
        TEXT | {"moe_num_experts": 4, "moe_k": 2, "moe_intermediate_size": 48, "moe_num_shared_experts": 1},
    ),
    "glm": _text("Glm", TEXT | {"head_dim": 32, "attention_bias": True}),
    "glm4_moe_lite": _text("Glm4MoeLite", MLA | {"q_lora_rank": 24, "n_shared_experts": 1, "n_group": 1}, _mtp),
    "granitemoeshared": _text(
        "GraniteMoeShared",
        TEXT | {"num_local_experts": 4, "num_experts_per_tok": 2, "shared_intermediate_size": 96},
    ),
    "hunyuan": _text("HunYuanDenseV1", TEXT | {"head_dim": 16}),
    "minicpm3": _text("MiniCPM3"),
    "minimax_m2": _text(
        "MiniMaxM2",
        TEXT | {
            "head_dim": 32, "num_local_experts": 4, "num_experts_per_tok": 2, "rotary_dim": 16,
            "scoring_func": "sigmoid", "use_routing_bias": True,
        },
    ),
    "ministral3": _text("Ministral3", TEXT | {"head_dim": 16}),
    "phimoe": _text("Phimoe", TEXT | {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "gemma3 embeddings": Case("Gemma3TextConfig", "Gemma3TextModel", TEXT | {"head_dim": 32}),
    "bert": Case("BertConfig", "BertModel", TEXT),
    "roberta": Case("RobertaConfig", "RobertaModel", ROBERTA),
    "xlm_roberta": Case("XLMRobertaConfig", "XLMRobertaModel", ROBERTA),
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
            "text_config": TEXT | QWEN3_ROPE | {"head_dim": 32, "architectures": ["Qwen3ForCausalLM"]},
            "vision_config": QWEN3_TOWER | {"deepstack_visual_indexes": [0]},
        },
    ),
    "qwen3_vl_moe": Case(
        "Qwen3VLMoeConfig",
        "Qwen3VLMoeForConditionalGeneration",
        {
            "text_config": TEXT | MOE | QWEN3_ROPE | {
                "head_dim": 32, "architectures": ["Qwen3MoeForCausalLM"], "norm_topk_prob": True,
            },
            "vision_config": QWEN3_TOWER | {"deepstack_visual_indexes": [0]},
        },
    ),
    "qwen3_5 vision": Case(
        "Qwen3_5Config",
        "Qwen3_5ForConditionalGeneration",
        {"text_config": QWEN3_5 | {"architectures": ["Qwen3_5ForCausalLM"]}, "vision_config": QWEN3_TOWER},
    ),
    "qwen3_5_moe vision": Case(
        "Qwen3_5MoeConfig",
        "Qwen3_5MoeForConditionalGeneration",
        {
            "text_config": QWEN3_5 | MOE | SHARED_EXPERT | {"architectures": ["Qwen3_5MoeForCausalLM"]},
            "vision_config": QWEN3_TOWER,
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
    "unknown: bert classifier": Case("BertConfig", "BertForSequenceClassification", TEXT | {"num_labels": 1}),
    "unknown: gemma4": Case("Gemma4TextConfig", "Gemma4ForCausalLM", GEMMA4),
    "unknown: jamba": _text(
        "Jamba",
        TEXT | {"num_experts": 4, "num_experts_per_tok": 2, "attn_layer_period": 2, "attn_layer_offset": 1},
    ),
    "unknown: llama4": Case(
        "Llama4TextConfig",
        "Llama4ForCausalLM",
        TEXT | {
            "head_dim": 16, "intermediate_size": 96, "intermediate_size_mlp": 192, "num_local_experts": 4,
            "num_experts_per_tok": 1,
        },
    ),
    "unknown: mamba": _text("Mamba", SMALL | {"hidden_size": 64, "num_hidden_layers": 2, "state_size": 8}),
    "unknown: mamba2": _text(
        "Mamba2",
        SMALL | {
            "hidden_size": 64, "num_hidden_layers": 2, "state_size": 16, "num_heads": 8, "head_dim": 16, "n_groups": 1,
        },
    ),
    "unknown: falcon_h1": _text(
        "FalconH1",
        TEXT | {
            "mamba_d_ssm": 128, "mamba_n_heads": 4, "mamba_d_head": 32, "mamba_d_state": 16, "mamba_n_groups": 1,
        },
    ),
}  # fmt: skip

ALL = CASES | BOUNDS
