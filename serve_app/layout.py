"""What vLLM makes of each tensor of a checkpoint under tensor parallelism: a table of names with reasons. Pure.

Every architecture in KNOWN was compared with vLLM 0.29, to the byte (tests/unit/serve_app/
test_weights_against_vllm.py). A new one belongs here once it is in that test.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto


class Place(Enum):
    """What the ranks do with one module of the checkpoint."""

    COLUMN = auto()
    """Split by outputs: weights, scales and bias."""
    ROW = auto()
    """Split by inputs: the bias and scales per output stay whole."""
    KV = auto()
    """As COLUMN, but a rank holds one head at least."""
    QKV = auto()
    """Q, K and V in one tensor: COLUMN and KV in one."""
    VOCAB = auto()
    """Rows padded, then split."""
    WHOLE = auto()
    WHOLE_F32 = auto()
    """Whole, and held in F32 whatever the engine's dtype."""
    COLUMN_F32 = auto()
    SKIP = auto()
    """Not loaded."""


@dataclass(frozen=True)
class Rule:
    """`modules` is a regular expression for the end of a module's name; the first rule that fits decides."""

    modules: str
    place: Place
    reason: str

    def fits(self, module: str) -> bool:
        return re.search(rf"(^|\.)({self.modules})$", module) is not None


VOCABULARY = Rule(
    r"embed_tokens|wte|word_embeddings|embed_in|embed_out|lm_head|tok_embeddings",
    Place.VOCAB,
    "VocabParallelEmbedding, ParallelLMHead",
)
RULES = (
    Rule(r"rotary_emb|position_ids", Place.SKIP, "computed at start"),
    Rule(r"(attn|attention)(\.masked)?", Place.SKIP, "`attn.bias` is a causal mask of GPT-2's days, not a bias"),
    Rule(r"mtp\..*", Place.SKIP, "multi-token prediction is a draft model; loaded only where asked for"),
    VOCABULARY,
    Rule(r"e_score_correction", Place.WHOLE_F32, "the router's bias picks experts in full precision"),
    Rule(r"A_log", Place.COLUMN_F32, "decay rates, one per head, in full precision"),
    Rule(r"(mlp|block_sparse_moe)\.gate|router(\.layer)?|shared_expert_gate", Place.WHOLE, "every rank routes"),
    Rule(r"q_a_proj|kv_a_proj_with_mqa", Place.WHOLE, "MLA's latent is shared by all heads"),
    Rule(r"\w*norm\w*|ln_\w+|\w*LayerNorm", Place.WHOLE, "normalises over all channels"),
    Rule(r"wpe|embed_positions|project_in|project_out", Place.WHOLE, "plain embeddings and ReplicatedLinear"),
    Rule(r"k_proj|v_proj|key|value", Place.KV, "QKVParallelLinear"),
    Rule(r"qkv_proj|query_key_value|c_attn|Wqkv", Place.QKV, "QKVParallelLinear"),
    Rule(
        r"q_proj|q_b_proj|kv_b_proj|query|gate_proj|up_proj|gate_up_proj|w1|w3|fc1|fc_in|c_fc|dense_h_to_4h|"
        r"intermediate\.dense|Wi|input_linear|in_proj_qkvz|in_proj_ba|in_proj_qkv|in_proj_[abz]",
        Place.COLUMN,
        "ColumnParallelLinear, MergedColumnParallelLinear, FusedMoE's w13",
    ),
    Rule(r"sinks|dt|conv1d", Place.COLUMN, "one row per head or channel"),
    Rule(
        r"o_proj|out_proj|down_proj|w2|fc2|fc_out|c_proj|dense_4h_to_h|(self_attention|self_attn|attention)\.dense|"
        r"output\.dense|Wo|output_linear",
        Place.ROW,
        "RowParallelLinear, FusedMoE's w2",
    ),
)

_NORM_PER_HEAD = (
    Rule(r"q_norm", Place.COLUMN, "one row per head; elsewhere one for all heads, or over all channels"),
    Rule(r"k_norm", Place.KV, "one row per head"),
)
_XIELU = (
    Rule(r"act_fn\.alpha_[np]", Place.WHOLE, "one number each"),
    Rule(r"act_fn\.(beta|eps)", Place.SKIP, "in vLLM constants"),
)
_F32_ROUTER = (Rule(r"(mlp|block_sparse_moe)\.gate", Place.WHOLE_F32, "this model routes in full precision"),)
_BERT = (
    Rule(r"(position|token_type)_embeddings", Place.VOCAB, "vllm/model_executor/models/bert.py, BertEmbedding"),
    Rule(r"pooler\.dense", Place.SKIP, "vLLM has poolers of its own"),
)
_SIGLIP = (
    Rule(r"vision_tower(\.vision_model)?\.head\..*", Place.SKIP, "Gemma 3 takes the tower's patches, not its summary"),
    Rule(r"patch_embedding|position_embedding|mm_input_projection", Place.WHOLE, "not a parallel layer in vLLM"),
)
_QWEN_TOWER = (
    Rule(r"patch_embed\.proj|pos_embed", Place.WHOLE, "not a parallel layer in vLLM"),
    Rule(r"visual\.blocks\.\d+\.attn\.qkv|merger\.mlp\.0|linear_fc1", Place.COLUMN, "heads; the merger's first layer"),
    Rule(r"visual\.blocks\.\d+\.attn\.proj|merger\.mlp\.2|linear_fc2", Place.ROW, "heads; the merger's second layer"),
)

# Architecture -> rules of its own, before RULES.
KNOWN: Mapping[str, tuple[Rule, ...]] = {
    "ApertusForCausalLM": _XIELU,
    "ArceeForCausalLM": (),
    "BertModel": _BERT,
    "BloomForCausalLM": (),
    "Cohere2ForCausalLM": (),
    "CohereForCausalLM": _NORM_PER_HEAD,
    "CwmForCausalLM": (),
    "DeepseekV2ForCausalLM": (),
    "DeepseekV3ForCausalLM": (),
    "Ernie4_5ForCausalLM": (),
    "Ernie4_5_MoeForCausalLM": _F32_ROUTER,
    "Exaone4ForCausalLM": (),
    "FalconForCausalLM": (),
    "GPT2LMHeadModel": (),
    "GPTJForCausalLM": (),
    "GPTNeoXForCausalLM": (),
    "Gemma2ForCausalLM": (),
    "Gemma3ForCausalLM": (),
    "Gemma3ForConditionalGeneration": _SIGLIP,
    "Gemma3TextModel": (),
    "GemmaForCausalLM": (),
    "Glm4ForCausalLM": (),
    "Glm4MoeForCausalLM": _F32_ROUTER,
    "Glm4MoeLiteForCausalLM": _F32_ROUTER,
    "GlmForCausalLM": (),
    "GptOssForCausalLM": (),
    "GraniteForCausalLM": (),
    "GraniteMoeForCausalLM": (),
    "GraniteMoeSharedForCausalLM": (),
    "HunYuanDenseV1ForCausalLM": (),
    "LlamaForCausalLM": (),
    "MiniCPM3ForCausalLM": (),
    "MiniMaxM2ForCausalLM": _F32_ROUTER + _NORM_PER_HEAD,
    "Ministral3ForCausalLM": (),
    "MistralForCausalLM": (),
    "MixtralForCausalLM": (),
    "ModernBertModel": (),
    "NemotronForCausalLM": (),
    "OPTForCausalLM": (),
    "Olmo2ForCausalLM": (),
    "Olmo3ForCausalLM": (),
    "OlmoeForCausalLM": (),
    "Phi3ForCausalLM": (),
    "PhiForCausalLM": (),
    "PhimoeForCausalLM": (),
    "Qwen2ForCausalLM": (),
    "Qwen2MoeForCausalLM": (),
    "Qwen2VLForConditionalGeneration": _QWEN_TOWER,
    "Qwen2_5_VLForConditionalGeneration": _QWEN_TOWER,
    "Qwen3ForCausalLM": (),
    "Qwen3MoeForCausalLM": (),
    "Qwen3NextForCausalLM": (),
    "Qwen3VLForConditionalGeneration": _QWEN_TOWER,
    "Qwen3VLMoeForConditionalGeneration": _QWEN_TOWER,
    "Qwen3_5ForCausalLM": (),
    "Qwen3_5ForConditionalGeneration": _QWEN_TOWER,
    "Qwen3_5MoeForCausalLM": (),
    "Qwen3_5MoeForConditionalGeneration": _QWEN_TOWER,
    "RobertaModel": _BERT,
    "SeedOssForCausalLM": (),
    "SmolLM3ForCausalLM": (),
    "StableLmForCausalLM": (),
    "Starcoder2ForCausalLM": (),
    "XLMRobertaModel": _BERT,
}

# Architectures whose config may leave the number of K and V heads out: as many as heads. Others have a default of
# their own, in Python code that no checkpoint holds.
ONE_KV_HEAD_PER_HEAD = frozenset(
    {
        "BertModel",
        "BloomForCausalLM",
        "FalconForCausalLM",
        "GPT2LMHeadModel",
        "GPTJForCausalLM",
        "GPTNeoXForCausalLM",
        "LlamaForCausalLM",
        "ModernBertModel",
        "OPTForCausalLM",
        "Phi3ForCausalLM",
        "PhiForCausalLM",
    }
)
