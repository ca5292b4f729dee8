"""Real models' config.json, few layers and narrow hidden states: heads, head sizes, windows, ranks, states and layer
patterns are the published ones (or their ratios, where a head's size follows from the hidden size).
"""

from dataclasses import dataclass
from typing import Any

MIB = 1024 * 1024
DENSE = {"hidden_size": 64, "intermediate_size": 64, "vocab_size": 128, "max_position_embeddings": 8192}
DENSE |= {"num_hidden_layers": 4, "torch_dtype": "bfloat16", "hidden_act": "silu", "rms_norm_eps": 1e-5}
EXPERTS = {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 32}
VISION = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


def heads(query: int, key_value: int, size: int | None = None) -> dict[str, Any]:
    sizes = {"num_attention_heads": query, "num_key_value_heads": key_value}
    return sizes if size is None else sizes | {"head_dim": size}


def model(architecture: str, model_type: str, *parts: dict[str, Any], **more: Any) -> dict[str, Any]:
    config = {"architectures": [architecture], "model_type": model_type} | DENSE
    for part in parts:
        config |= part
    return config | more


def multimodal(architecture: str, model_type: str, text: dict[str, Any], **more: Any) -> dict[str, Any]:
    text = {key: value for key, value in text.items() if key != "architectures"}
    return {
        "architectures": [architecture],
        "model_type": model_type,
        "torch_dtype": "bfloat16",
        "text_config": text,
    } | more


MLA = {"kv_lora_rank": 512, "qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "v_head_dim": 128, "q_lora_rank": 48}
DEEPSEEK = {
    "n_routed_experts": 2,
    "n_shared_experts": 1,
    "num_experts_per_tok": 1,
    "moe_intermediate_size": 32,
    "n_group": 1,
}
DEEPSEEK |= {
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "routed_scaling_factor": 1.0,
    "scoring_func": "softmax",
    "topk_method": "greedy",
}
DEEPSEEK |= {"moe_layer_freq": 1, "norm_topk_prob": True, "rope_theta": 10000.0}

LLAMA = model("LlamaForCausalLM", "llama", heads(32, 8, 128))
GEMMA3 = model(
    "Gemma3ForCausalLM",
    "gemma3_text",
    heads(4, 1, 256),
    num_hidden_layers=8,
    sliding_window=512,
    sliding_window_pattern=6,
)
GEMMA3N = model(
    "Gemma3nForCausalLM",
    "gemma3n_text",
    heads(8, 2, 256),
    num_hidden_layers=10,
    num_kv_shared_layers=5,
    sliding_window=512,
    hidden_size_per_layer_input=16,
    vocab_size_per_layer_input=128,
    altup_num_inputs=2,
    laurel_rank=8,
    intermediate_size=[64] * 10,
    activation_sparsity_pattern=[0.0] * 10,
)
GPT_OSS = model(
    "GptOssForCausalLM",
    "gpt_oss",
    heads(64, 8, 64),
    sliding_window=128,
    num_local_experts=2,
    num_experts_per_tok=1,
    layer_types=["sliding_attention", "full_attention"] * 2,
)
LLAMA4 = model(
    "Llama4ForCausalLM",
    "llama4_text",
    heads(40, 8, 128),
    attention_chunk_size=256,
    num_local_experts=2,
    num_experts_per_tok=1,
    intermediate_size_mlp=64,
    interleave_moe_layer_step=1,
    no_rope_layers=[1, 1, 1, 0],
)
MISTRAL = model("MistralForCausalLM", "mistral", heads(32, 8, 128), sliding_window=None)
DEEPSEEK3 = model("DeepseekV3ForCausalLM", "deepseek_v3", heads(8, 8), MLA, DEEPSEEK)
QWEN3 = model("Qwen3ForCausalLM", "qwen3", heads(32, 8, 128))
GDN = {"linear_conv_kernel_dim": 4, "linear_key_head_dim": 128, "linear_value_head_dim": 128}
GDN |= {"linear_num_key_heads": 16, "linear_num_value_heads": 32, "full_attention_interval": 4}
QWEN3_NEXT = model(
    "Qwen3NextForCausalLM",
    "qwen3_next",
    heads(16, 2, 256),
    GDN,
    EXPERTS,
    shared_expert_intermediate_size=32,
    decoder_sparse_step=1,
)
JAMBA = model(
    "JambaForCausalLM",
    "jamba",
    heads(8, 2),
    num_hidden_layers=8,
    hidden_size=1024,
    mamba_d_state=16,
    mamba_d_conv=4,
    mamba_expand=2,
    mamba_dt_rank=8,
    attn_layer_period=8,
    attn_layer_offset=4,
    expert_layer_period=2,
    expert_layer_offset=1,
    num_experts=1,
    num_experts_per_tok=1,
)
NEMOTRON_H = model(
    "NemotronHForCausalLM",
    "nemotron_h",
    heads(40, 8, 128),
    num_hidden_layers=8,
    hybrid_override_pattern="M-M*M-M-",
    mamba_num_heads=16,
    mamba_head_dim=64,
    n_groups=8,
    ssm_state_size=128,
    conv_kernel=4,
    expand=2,
    chunk_size=128,
    mlp_hidden_act="relu2",
    layer_norm_epsilon=1e-5,
)
FALCON_H1 = model(
    "FalconH1ForCausalLM",
    "falcon_h1",
    heads(12, 2, 128),
    mamba_d_ssm=1024,
    mamba_d_state=256,
    mamba_d_head=64,
    mamba_n_heads=16,
    mamba_n_groups=1,
    mamba_d_conv=4,
    mamba_expand=2,
    hidden_size=512,
    mamba_chunk_size=256,
)
GRANITE4 = model(
    "GraniteMoeHybridForCausalLM",
    "granitemoehybrid",
    heads(12, 4),
    num_hidden_layers=10,
    hidden_size=768,
    mamba_n_heads=24,
    mamba_d_head=64,
    mamba_n_groups=1,
    mamba_d_state=128,
    mamba_d_conv=4,
    mamba_expand=2,
    shared_intermediate_size=32,
    num_local_experts=2,
    num_experts_per_tok=1,
    layers_block_type=["mamba"] * 5 + ["attention"] + ["mamba"] * 4,
)
LFM2 = model(
    "Lfm2ForCausalLM",
    "lfm2",
    heads(16, 4),
    num_hidden_layers=8,
    hidden_size=1024,
    conv_L_cache=3,
    norm_eps=1e-5,
    block_multiple_of=32,
    conv_dim=1024,
    block_dim=1024,
    block_ff_dim=64,
    layer_types=["conv", "conv", "full_attention", "conv", "conv", "full_attention", "conv", "conv"],
)
WHISPER = {
    "architectures": ["WhisperForConditionalGeneration"],
    "model_type": "whisper",
    "torch_dtype": "float16",
    "d_model": 384,
    "encoder_layers": 2,
    "decoder_layers": 4,
    "encoder_attention_heads": 6,
    "decoder_attention_heads": 6,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "max_source_positions": 1500,
    "max_target_positions": 448,
    "num_mel_bins": 80,
    "vocab_size": 128,
    "is_encoder_decoder": True,
    "bos_token_id": 1,
    "eos_token_id": 1,
    "pad_token_id": 0,
    "decoder_start_token_id": 2,
}
BERT = {
    "num_attention_heads": 12,
    "hidden_size": 384,
    "intermediate_size": 64,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
    "hidden_act": "gelu",
    "max_position_embeddings": 1026,
}


GEMMA4 = model(
    "Gemma4ForCausalLM",
    "gemma4_text",
    heads(8, 2, 256),
    global_head_dim=512,
    num_hidden_layers=8,
    num_kv_shared_layers=2,
    sliding_window=256,
    hidden_size_per_layer_input=16,
    vocab_size_per_layer_input=128,
    layer_types=(["sliding_attention"] * 3 + ["full_attention"]) * 2,
)
QWEN35 = model("Qwen3_5ForCausalLM", "qwen3_5_text", heads(24, 4, 256), GDN, mamba_ssm_dtype="float32")


@dataclass(frozen=True)
class Case:
    """What both sides are asked. The rest of vLLM's settings is in the comparison test."""

    name: str
    config: dict[str, Any]
    device: str = "host"
    tensor_parallel: int = 1
    budget: int = 64 * MIB + 12345
    max_model_len: int = 1000
    max_num_batched_tokens: int = 512
    kv_cache_dtype: str = "auto"
    block_size: int | None = None
    enable_prefix_caching: bool | None = None
    mamba_ssm_cache_dtype: str = "auto"
    dtype: str = "auto"


CASES = (
    Case("llama-3.1-8b", LLAMA),
    Case("llama-3.1-8b fp8", LLAMA, kv_cache_dtype="fp8"),
    Case("llama-3.1-8b TP=2", LLAMA, tensor_parallel=2),
    Case("llama-3.1-8b block 64", LLAMA, block_size=64),
    Case("llama-3.1-8b nvml", LLAMA, device="nvml"),
    Case("llama-3.1-8b float32", LLAMA, dtype="float32"),
    Case("llama-3.1-8b float16", LLAMA | {"torch_dtype": "float16"}),
    Case("llama-2-7b MHA", model("LlamaForCausalLM", "llama", {"num_attention_heads": 32}, hidden_size=1024)),
    Case("mistral-7b-v0.1 window", MISTRAL | {"sliding_window": 256}),
    Case("mistral-7b-v0.1 window nvml", MISTRAL | {"sliding_window": 256}, device="nvml"),
    Case("mistral-7b-v0.1 default window", {key: value for key, value in MISTRAL.items() if key != "sliding_window"}),
    Case(
        "ministral-8b",
        MISTRAL | {"sliding_window": 256, "layer_types": ["full_attention"] + ["sliding_attention"] * 3},
    ),
    Case("cwm", LLAMA | {"sliding_window": 256, "layer_types": ["full_attention", "sliding_attention"] * 2}),
    Case("mistral-7b-v0.3", MISTRAL),
    Case(
        "mixtral-8x7b",
        model(
            "MixtralForCausalLM",
            "mixtral",
            heads(32, 8, 128),
            sliding_window=None,
            num_local_experts=2,
            num_experts_per_tok=1,
        ),
    ),
    Case(
        "qwen2.5-0.5b",
        model(
            "Qwen2ForCausalLM",
            "qwen2",
            heads(14, 2),
            hidden_size=896,
            use_sliding_window=False,
            sliding_window=32768,
            max_window_layers=21,
        ),
    ),
    Case(
        "qwen2.5-0.5b TP=2 fp8",
        model("Qwen2ForCausalLM", "qwen2", heads(14, 2), hidden_size=896),
        tensor_parallel=2,
        kv_cache_dtype="fp8",
    ),
    Case("qwen3-8b", QWEN3),
    Case(
        "qwen3-30b-a3b",
        model(
            "Qwen3MoeForCausalLM",
            "qwen3_moe",
            heads(32, 4, 128),
            EXPERTS,
            decoder_sparse_step=1,
            norm_topk_prob=True,
            mlp_only_layers=[],
        ),
    ),
    Case("gemma-2b MQA", model("GemmaForCausalLM", "gemma", heads(8, 1, 256), hidden_activation="gelu_pytorch_tanh")),
    Case(
        "gemma-2b MQA TP=2",
        model("GemmaForCausalLM", "gemma", heads(8, 1, 256), hidden_activation="gelu_pytorch_tanh"),
        tensor_parallel=2,
    ),
    Case(
        "gemma-2-9b",
        model("Gemma2ForCausalLM", "gemma2", heads(16, 8, 256), sliding_window=256, query_pre_attn_scalar=256),
    ),
    Case("gemma-3-270m", GEMMA3),
    Case("gemma-3-270m nvml", GEMMA3, device="nvml", block_size=16),
    Case("gemma-3-270m nvml fp8 block 64", GEMMA3, device="nvml", block_size=64, kv_cache_dtype="fp8"),
    Case("gemma-3-270m TP=2", GEMMA3, tensor_parallel=2),
    Case(
        "gemma-3-4b",
        multimodal(
            "Gemma3ForConditionalGeneration",
            "gemma3",
            {
                "hidden_size": 64,
                "intermediate_size": 64,
                "model_type": "gemma3_text",
                "num_hidden_layers": 7,
                "sliding_window": 256,
                "vocab_size": 262208,
            },
            vision_config=VISION | {"model_type": "siglip_vision_model", "image_size": 28, "patch_size": 14},
            mm_tokens_per_image=4,
        ),
    ),
    Case("gemma-3n-e2b", GEMMA3N),
    Case("gpt-oss-20b", GPT_OSS),
    Case("gpt-oss-20b nvml", GPT_OSS, device="nvml"),
    Case("gpt-oss-20b TP=2", GPT_OSS, tensor_parallel=2),
    Case(
        "command-r7b",
        model(
            "Cohere2ForCausalLM",
            "cohere2",
            heads(32, 8),
            hidden_size=1024,
            sliding_window=257,
            sliding_window_pattern=4,
            layer_norm_eps=1e-5,
        ),
    ),
    Case("olmo-3-7b", model("Olmo3ForCausalLM", "olmo3", heads(8, 8), hidden_size=512, sliding_window=256)),
    Case(
        "exaone-4-32b",
        model(
            "Exaone4ForCausalLM",
            "exaone4",
            heads(40, 8, 128),
            sliding_window=256,
            sliding_window_pattern="LLLG",
            layer_types=["sliding_attention"] * 3 + ["full_attention"],
        ),
    ),
    Case("llama-4-scout text", LLAMA4),
    Case(
        "phi-3-mini window",
        model(
            "Phi3ForCausalLM",
            "phi3",
            heads(32, 32),
            hidden_size=1024,
            sliding_window=255,
            original_max_position_embeddings=4096,
        ),
    ),
    Case(
        "granite-3.3-8b",
        model(
            "GraniteForCausalLM",
            "granite",
            heads(32, 8),
            hidden_size=2048,
            embedding_multiplier=12.0,
            residual_multiplier=0.22,
            attention_multiplier=0.0078125,
            logits_scaling=16.0,
        ),
    ),
    Case(
        "glm-4.5-air",
        model(
            "Glm4MoeForCausalLM",
            "glm4_moe",
            heads(96, 8, 128),
            DEEPSEEK,
            partial_rotary_factor=0.5,
            attention_bias=True,
            use_qk_norm=False,
        ),
    ),
    Case("smollm3-3b", model("SmolLM3ForCausalLM", "smollm3", heads(16, 4), pad_token_id=0, hidden_size=1024)),
    Case(
        "starcoder2-3b window",
        model(
            "Starcoder2ForCausalLM",
            "starcoder2",
            heads(24, 2),
            hidden_size=768,
            sliding_window=256,
            hidden_act="gelu_pytorch_tanh",
        ),
    ),
    Case(
        "gpt2",
        {
            "architectures": ["GPT2LMHeadModel"],
            "model_type": "gpt2",
            "n_embd": 384,
            "n_head": 6,
            "n_layer": 4,
            "n_positions": 1024,
            "n_ctx": 1024,
            "activation_function": "gelu_new",
            "vocab_size": 128,
        },
    ),
    Case(
        "opt-125m",
        model(
            "OPTForCausalLM",
            "opt",
            num_attention_heads=12,
            hidden_size=768,
            ffn_dim=64,
            word_embed_proj_dim=768,
            activation_function="relu",
            do_layer_norm_before=True,
        ),
    ),
    Case(
        "pythia",
        model(
            "GPTNeoXForCausalLM",
            "gpt_neox",
            num_attention_heads=8,
            hidden_size=512,
            rotary_pct=0.25,
            layer_norm_eps=1e-5,
            hidden_act="gelu",
            use_parallel_residual=True,
        ),
    ),
    Case(
        "falcon-7b MQA",
        model(
            "FalconForCausalLM",
            "falcon",
            num_attention_heads=8,
            hidden_size=512,
            multi_query=True,
            new_decoder_architecture=False,
            parallel_attn=True,
            alibi=False,
            bias=False,
        ),
    ),
    Case(
        "falcon-40b",
        model(
            "FalconForCausalLM",
            "falcon",
            num_attention_heads=16,
            num_kv_heads=4,
            hidden_size=1024,
            multi_query=True,
            new_decoder_architecture=True,
            parallel_attn=True,
            alibi=False,
            bias=False,
        ),
    ),
    Case(
        "deepseek-v2-lite MLA",
        model("DeepseekV2ForCausalLM", "deepseek_v2", heads(16, 16), MLA, DEEPSEEK, q_lora_rank=None),
        block_size=16,
    ),
    Case("deepseek-v3 MLA", DEEPSEEK3),
    Case("deepseek-v3 MLA nvml", DEEPSEEK3, device="nvml", block_size=64),
    Case("deepseek-v3 MLA fp8", DEEPSEEK3, kv_cache_dtype="fp8"),
    Case("deepseek-v3 MLA TP=2", DEEPSEEK3, block_size=16, tensor_parallel=2),
    Case(
        "glm-4.7-flash MLA",
        model(
            "Glm4MoeLiteForCausalLM",
            "glm4_moe_lite",
            heads(20, 20),
            MLA,
            DEEPSEEK,
            qk_nope_head_dim=192,
            v_head_dim=256,
            topk_method="noaux_tc",
        ),
        block_size=16,
    ),
    Case(
        "mamba-130m",
        model(
            "MambaForCausalLM",
            "mamba",
            hidden_size=768,
            intermediate_size=1536,
            state_size=16,
            conv_kernel=4,
            expand=2,
            time_step_rank=48,
            layer_norm_epsilon=1e-5,
        ),
    ),
    Case(
        "falcon-mamba-7b",
        model(
            "FalconMambaForCausalLM",
            "falcon_mamba",
            hidden_size=768,
            intermediate_size=1536,
            state_size=16,
            conv_kernel=4,
            expand=2,
            time_step_rank=48,
            layer_norm_epsilon=1e-5,
        ),
    ),
    Case(
        "mamba2-130m",
        model(
            "Mamba2ForCausalLM",
            "mamba2",
            hidden_size=768,
            intermediate_size=1536,
            num_heads=24,
            head_dim=64,
            state_size=128,
            n_groups=1,
            conv_kernel=4,
            expand=2,
            chunk_size=256,
            layer_norm_epsilon=1e-5,
        ),
    ),
    Case(
        "mamba2-130m TP=2",
        model(
            "Mamba2ForCausalLM",
            "mamba2",
            hidden_size=768,
            intermediate_size=1536,
            num_heads=24,
            head_dim=64,
            state_size=128,
            n_groups=1,
            conv_kernel=4,
            expand=2,
            chunk_size=256,
            layer_norm_epsilon=1e-5,
        ),
        tensor_parallel=2,
    ),
    Case("jamba", JAMBA),
    Case("jamba no prefix caching", JAMBA, enable_prefix_caching=False),
    Case("jamba float32 state", JAMBA, mamba_ssm_cache_dtype="float32"),
    Case("jamba TP=2", JAMBA, tensor_parallel=2),
    Case(
        "zamba2-1.2b",
        model(
            "Zamba2ForCausalLM",
            "zamba2",
            hidden_size=512,
            num_attention_heads=8,
            num_hidden_layers=6,
            n_mamba_heads=16,
            mamba_d_state=64,
            mamba_d_conv=4,
            mamba_expand=2,
            mamba_ngroups=1,
            num_mem_blocks=1,
            use_mem_rope=True,
            hybrid_layer_ids=[2, 5],
            layers_block_type=["mamba", "mamba", "hybrid"] * 2,
            chunk_size=256,
            add_bias_linear=False,
            hidden_act="gelu",
        ),
    ),
    Case("falcon-h1-1.5b", FALCON_H1),
    Case("granite-4-tiny", GRANITE4),
    Case("granite-4-tiny nvml", GRANITE4, device="nvml"),
    Case("nemotron-h-8b", NEMOTRON_H),
    Case("nemotron-h-8b TP=2", NEMOTRON_H, tensor_parallel=2),
    Case("lfm2-1.2b", LFM2),
    Case("qwen3-next-80b", QWEN3_NEXT),
    Case("qwen3-next-80b nvml fp8", QWEN3_NEXT, device="nvml", kv_cache_dtype="fp8"),
    Case("qwen3-next-80b TP=2", QWEN3_NEXT, tensor_parallel=2),
    Case(
        "olmo-hybrid-7b",
        model(
            "OlmoHybridForCausalLM",
            "olmo_hybrid",
            heads(4, 4),
            GDN,
            hidden_size=512,
            linear_num_value_heads=16,
            layer_types=["linear_attention"] * 3 + ["full_attention"],
        ),
    ),
    Case("whisper-tiny", WHISPER, max_model_len=448, max_num_batched_tokens=1500),
    Case("gemma-4-e4b", GEMMA4),
    Case("gemma-4-e4b nvml", GEMMA4, device="nvml"),
    Case(
        "gemma-4-31b",
        model(
            "Gemma4ForCausalLM",
            "gemma4_text",
            heads(32, 16, 256),
            global_head_dim=512,
            num_global_key_value_heads=4,
            attention_k_eq_v=True,
            num_hidden_layers=6,
            sliding_window=256,
            hidden_size_per_layer_input=0,
        ),
        budget=256 * MIB,
    ),
    Case(
        "gemma-4-e4b multimodal",
        multimodal(
            "Gemma4ForConditionalGeneration",
            "gemma4",
            GEMMA4,
            vision_config=VISION | {"model_type": "gemma4_vision", "head_dim": 16, "num_key_value_heads": 2},
            audio_config=None,
        ),
    ),
    Case(
        "qwen3.5 multimodal",
        multimodal(
            "Qwen3_5ForConditionalGeneration",
            "qwen3_5",
            QWEN35,
            vision_config={
                "depth": 1,
                "hidden_size": 32,
                "intermediate_size": 32,
                "num_heads": 2,
                "out_hidden_size": 64,
            },
        ),
    ),
    Case(
        "qwen3.5-35b-a3b multimodal",
        multimodal(
            "Qwen3_5MoeForConditionalGeneration",
            "qwen3_5_moe",
            QWEN35 | EXPERTS | {"model_type": "qwen3_5_moe_text", "shared_expert_intermediate_size": 32},
            vision_config={
                "depth": 1,
                "hidden_size": 32,
                "intermediate_size": 32,
                "num_heads": 2,
                "out_hidden_size": 64,
            },
        ),
    ),
    Case("qwen3.5", QWEN35),
    Case("qwen3.5 nvml TP=2", QWEN35, device="nvml", tensor_parallel=2),
    Case(
        "qwen3.5-35b-a3b",
        model(
            "Qwen3_5MoeForCausalLM",
            "qwen3_5_moe_text",
            heads(16, 2, 256),
            GDN,
            EXPERTS,
            shared_expert_intermediate_size=32,
            mamba_ssm_dtype="float32",
        ),
    ),
    Case(
        "lfm2-8b-a1b",
        LFM2
        | {
            "architectures": ["Lfm2MoeForCausalLM"],
            "model_type": "lfm2_moe",
            "num_dense_layers": 2,
            "use_expert_bias": True,
            "routed_scaling_factor": 1.0,
            "norm_topk_prob": True,
        }
        | EXPERTS,
    ),
    Case(
        "command-r",
        model("CohereForCausalLM", "cohere", heads(16, 4), hidden_size=512, layer_norm_eps=1e-5, use_qk_norm=False),
    ),
    Case("olmo-2-7b", model("Olmo2ForCausalLM", "olmo2", heads(8, 8), hidden_size=512)),
    Case("olmoe-1b-7b", model("OlmoeForCausalLM", "olmoe", heads(8, 8), EXPERTS, hidden_size=512)),
    Case(
        "phi-2",
        model(
            "PhiForCausalLM",
            "phi",
            heads(8, 8),
            hidden_size=512,
            partial_rotary_factor=0.5,
            layer_norm_eps=1e-5,
            hidden_act="gelu_new",
        ),
    ),
    Case(
        "phi-3.5-moe window",
        model(
            "PhiMoEForCausalLM",
            "phimoe",
            heads(32, 8),
            hidden_size=1024,
            sliding_window=256,
            num_local_experts=2,
            num_experts_per_tok=1,
        ),
    ),
    Case("glm-4-9b", model("GlmForCausalLM", "glm", heads(32, 2, 128), partial_rotary_factor=0.5, attention_bias=True)),
    Case(
        "glm-4-32b",
        model("Glm4ForCausalLM", "glm4", heads(48, 8, 128), partial_rotary_factor=0.5, attention_bias=False),
    ),
    Case("ernie-4.5-0.3b", model("Ernie4_5ForCausalLM", "ernie4_5", heads(16, 2, 128), use_bias=False)),
    Case(
        "ernie-4.5-21b-a3b",
        model(
            "Ernie4_5_MoeForCausalLM",
            "ernie4_5_moe",
            heads(20, 4),
            hidden_size=1280,
            moe_num_experts=2,
            moe_k=1,
            moe_intermediate_size=32,
            moe_num_shared_experts=1,
            moe_layer_start_index=1,
            moe_layer_interval=1,
            moe_capacity=[64, 64, 64],
            use_bias=False,
            pad_token_id=0,
        ),
    ),
    Case(
        "seed-oss-36b",
        model("SeedOssForCausalLM", "seed_oss", heads(80, 8, 128), attention_bias=True, attention_out_bias=False),
    ),
    Case(
        "apertus-8b",
        model("ApertusForCausalLM", "apertus", heads(32, 8), hidden_size=1024, hidden_act="xielu", qk_norm=True),
    ),
    Case(
        "minimax-m2",
        model(
            "MiniMaxM2ForCausalLM",
            "minimax_m2",
            heads(48, 8, 128),
            num_local_experts=2,
            num_experts_per_tok=1,
            rotary_dim=64,
            use_qk_norm=True,
            qk_norm_type="per_layer",
            scoring_func="sigmoid",
            use_routing_bias=True,
        ),
    ),
    Case(
        "qwen1.5-moe",
        model(
            "Qwen2MoeForCausalLM",
            "qwen2_moe",
            heads(16, 16),
            EXPERTS,
            hidden_size=1024,
            shared_expert_intermediate_size=32,
            decoder_sparse_step=1,
        ),
    ),
    Case(
        "granite-3-moe",
        model(
            "GraniteMoeForCausalLM",
            "granitemoe",
            heads(16, 8),
            hidden_size=1024,
            num_local_experts=2,
            num_experts_per_tok=1,
            embedding_multiplier=12.0,
            residual_multiplier=0.22,
            attention_multiplier=0.0156,
            logits_scaling=6.0,
        ),
    ),
    Case(
        "stablelm-2",
        model(
            "StableLmForCausalLM",
            "stablelm",
            heads(8, 8),
            hidden_size=512,
            use_qkv_bias=True,
            partial_rotary_factor=0.25,
            layer_norm_eps=1e-5,
        ),
    ),
    Case(
        "bloom-560m",
        {
            "architectures": ["BloomForCausalLM"],
            "model_type": "bloom",
            "hidden_size": 512,
            "n_head": 8,
            "n_layer": 4,
            "vocab_size": 128,
            "seq_length": 2048,
            "layer_norm_epsilon": 1e-5,
        },
    ),
    Case(
        "nemotron-4-15b",
        model(
            "NemotronForCausalLM",
            "nemotron",
            heads(48, 8, 128),
            hidden_act="relu2",
            norm_eps=1e-5,
            partial_rotary_factor=0.5,
        ),
    ),
    Case("hunyuan-7b", model("HunYuanDenseV1ForCausalLM", "hunyuan_v1_dense", heads(32, 8, 128), pad_token_id=0)),
    Case("roberta", model("RobertaModel", "roberta", BERT, type_vocab_size=1, pad_token_id=1), max_model_len=512),
    Case("bge-small BERT", model("BertModel", "bert", BERT), max_model_len=512),
    Case(
        "xlm-roberta",
        model(
            "XLMRobertaModel",
            "xlm-roberta",
            BERT,
            type_vocab_size=1,
            pad_token_id=1,
            position_embedding_type="absolute",
        ),
        max_model_len=512,
    ),
    Case(
        "modernbert",
        model(
            "ModernBertModel",
            "modernbert",
            heads(12, 12),
            hidden_size=768,
            global_attn_every_n_layers=3,
            local_attention=128,
            pad_token_id=0,
            cls_token_id=1,
            sep_token_id=2,
            bos_token_id=1,
            eos_token_id=2,
        ),
        max_model_len=512,
    ),
    Case(
        "qwen2.5-vl-7b",
        model(
            "Qwen2_5_VLForConditionalGeneration",
            "qwen2_5_vl",
            heads(28, 4),
            hidden_size=1792,
            use_sliding_window=False,
            vision_config={
                "depth": 1,
                "hidden_size": 32,
                "intermediate_size": 32,
                "num_heads": 2,
                "out_hidden_size": 1792,
            },
            rope_scaling={"type": "mrope", "mrope_section": [8, 12, 12]},
        ),
    ),
    Case(
        "llama-4-scout",
        multimodal(
            "Llama4ForConditionalGeneration",
            "llama4",
            LLAMA4,
            vision_config=VISION
            | {
                "model_type": "llama4_vision_model",
                "image_size": 28,
                "patch_size": 14,
                "vision_output_dim": 32,
                "projector_input_dim": 32,
                "projector_output_dim": 32,
                "pixel_shuffle_ratio": 0.5,
            },
        ),
    ),
)
