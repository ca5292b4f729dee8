"""Real models' config.json, few layers and narrow hidden states: heads, head sizes, windows, ranks, states and layer
patterns are the published ones (or their ratios, where a head's size follows from the hidden size).
"""

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
