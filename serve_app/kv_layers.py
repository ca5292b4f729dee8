"""What each layer of a model keeps for the tokens it has seen, from the model's config.json. A pure function of a dict.

`ARCHITECTURES` is the whole knowledge: one line for each architecture, and nothing is guessed. What is not in it, and
what a config says beyond it, is refused. Every line is compared with vLLM 0.29 itself, to the byte, in
tests/unit/serve_app/test_kv_cache_against_vllm.py.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from serve_app import kv_state
from serve_app.kv_state import Config, StateTypes
from serve_app.weights import LOADED_BYTES

FP8_BYTES = {"fp8": 1, "fp8_e4m3": 1, "fp8_e5m2": 1}  # of one element, of keys and values only

# Keys that change what is kept, in ways that are not known here.
NOT_KNOWN = ("compress_ratios", "index_topk", "rswa_window", "use_bidirectional_attention", "use_sliding_window")
# Keys whose null says "none"; elsewhere null says nothing.
NULL_IS_NONE = ("attention_chunk_size", "sliding_window")
# The same fact under the names that some architectures have for it.
RENAMED = {
    "d_model": "hidden_size",
    "decoder_attention_heads": "num_attention_heads",
    "n_embd": "hidden_size",
    "n_head": "num_attention_heads",
    "n_layer": "num_hidden_layers",
}


class UnknownArchitectureError(ValueError):
    """The KV cache of this model can't be computed; says what is not known and what to do."""

    def __init__(self, unknown: str) -> None:
        super().__init__(f"{unknown}: the size of its KV cache is not known. FIX: give vram and the KV bytes by hand")


def element_bytes(dtype: str, sizes: Mapping[str, int] = LOADED_BYTES) -> int:
    """Raises UnknownArchitectureError for a type that is not among these."""
    if dtype not in sizes:
        raise UnknownArchitectureError(f"elements of the type {dtype!r}")
    return sizes[dtype]


class Kind(StrEnum):
    """How much of the past a layer keeps."""

    FULL = "full attention"  # every token
    MLA = "latent attention"  # every token, one latent for all heads
    WINDOW = "sliding window"  # the last `reach` tokens
    CHUNK = "chunked attention"  # the chunk of `reach` tokens that the last token is in
    CROSS = "cross attention"  # every token of the encoder
    STATE = "recurrent state"  # a state of fixed size


@dataclass(frozen=True)
class Layer:
    """One layer's share on one device."""

    kind: Kind
    heads: int = 0  # KV heads
    elements: int = 0  # of one head and one token: key and value
    reach: int = 0  # tokens; see Kind
    state_bytes: int = 0

    @property
    def keeps_tokens(self) -> bool:
        return self.kind is not Kind.STATE


def _stateless(config: Config, types: StateTypes) -> int:  # noqa: ARG001  # one signature
    raise UnknownArchitectureError("recurrent state in an architecture that is not known to have any")


@dataclass(frozen=True)
class Architecture:
    """How one architecture's config.json is read.

    `defaults`: what its class in transformers takes for keys that published configs leave out. None says that the key
    is derived as everywhere: as many KV heads as heads.
    """

    kinds: Callable[[Config], list[Kind]]
    state: Callable[[Config, StateTypes], int] = _stateless
    defaults: Config = field(default_factory=dict)
    kv_heads: Callable[[Config, Kind], int] = lambda config, _: (
        config["num_key_value_heads"] or config["num_attention_heads"]
    )
    head_size: Callable[[Config, Kind], int] = lambda config, _: (
        config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    )
    ssm_dtype: Callable[[Config], str] = lambda _: "auto"
    window: Callable[[Config], int | None] = lambda config: config["sliding_window"]


def layers(
    config: Mapping[str, Any], *, tensor_parallel: int = 1, dtype: str = "auto", mamba_ssm_cache_dtype: str = "auto"
) -> tuple[Layer, ...]:
    """The layers that keep something, in the model's order; none for a model that only encodes.

    Args:
        config: config.json as published.
        tensor_parallel: devices that share the heads.
        dtype, mamba_ssm_cache_dtype: as vLLM's arguments of these names. A host with AVX-512 BF16 takes float32 for
            the latter, whatever is asked (vllm/platforms/cpu.py).

    Raises:
        UnknownArchitectureError: the config has something that the table does not know.
    """
    name = next(iter(config.get("architectures") or ()), "a config without architectures")
    if name not in ARCHITECTURES:
        raise UnknownArchitectureError(name)
    known = ARCHITECTURES[name]
    flat = known.defaults | _said(config) | _said(config.get("text_config") or {})
    for key in NOT_KNOWN:
        if flat.get(key):
            raise UnknownArchitectureError(f"{name} with {key}")
    if mamba_ssm_cache_dtype == "auto":
        mamba_ssm_cache_dtype = known.ssm_dtype(flat)
    ssm = dtype if mamba_ssm_cache_dtype == "auto" else mamba_ssm_cache_dtype
    types = StateTypes(tensor_parallel, conv_bytes=element_bytes(dtype), ssm_bytes=element_bytes(ssm))
    try:
        return tuple(_layer(kind, known, flat, types) for kind in known.kinds(flat))
    except KeyError as missing:
        raise UnknownArchitectureError(f"{name} with a config.json that does not say {missing}") from missing


def _said(config: Mapping[str, Any]) -> Config:
    return {RENAMED.get(key, key): value for key, value in config.items() if value is not None or key in NULL_IS_NONE}


def _layer(kind: Kind, known: Architecture, config: Config, types: StateTypes) -> Layer:
    if kind is Kind.STATE:
        return Layer(kind, state_bytes=known.state(config, types))
    if kind is Kind.MLA:
        return Layer(kind, heads=1, elements=config["kv_lora_rank"] + config["qk_rope_head_dim"])
    return Layer(
        kind,
        # Fewer heads than devices: each device has a copy of one.
        heads=max(1, known.kv_heads(config, kind) // types.tensor_parallel),
        elements=2 * known.head_size(config, kind),
        reach=_reach(kind, known, config),
    )


def _reach(kind: Kind, known: Architecture, config: Config) -> int:
    if kind not in (Kind.WINDOW, Kind.CHUNK):
        return 0
    reach: int | None = known.window(config) if kind is Kind.WINDOW else config["attention_chunk_size"]
    if not reach:
        raise UnknownArchitectureError(f"a {kind} of no length")
    return reach


# Kinds of layers: functions of a config.


def _all(kind: Kind) -> Callable[[Config], list[Kind]]:
    return lambda config: [kind] * config["num_hidden_layers"]


def _one_window(config: Config) -> list[Kind]:
    """A window that counts for all layers, or none."""
    types = set(config.get("layer_types", ()))
    if len(types) > 1:
        raise UnknownArchitectureError(f"layers of the types {sorted(types)}")
    return _all(Kind.WINDOW if config.get("sliding_window") and types != {"full_attention"} else Kind.FULL)(config)


def _llama(config: Config) -> list[Kind]:
    return _by_type(config) if "layer_types" in config else _one_window(config)


TYPES: Mapping[str, list[Kind]] = {
    "full_attention": [Kind.FULL],
    "attention": [Kind.FULL],
    "sliding_attention": [Kind.WINDOW],
    "linear_attention": [Kind.STATE],
    "mamba": [Kind.STATE],
    "conv": [Kind.STATE],
    "hybrid": [Kind.STATE, Kind.FULL],
    "mlp": [],
    "moe": [],
    # One letter each: Nemotron-H's pattern.
    "*": [Kind.FULL],
    "M": [Kind.STATE],
    "-": [],
    "E": [],
}


def _by_type(config: Config, key: str = "layer_types") -> list[Kind]:
    for kind in config[key]:
        if kind not in TYPES:
            raise UnknownArchitectureError(f"a layer of type {kind!r}")
    return [kind for name in config[key] for kind in TYPES[name]]


def _every(pattern: str, other: Kind) -> Callable[[Config], list[Kind]]:
    """`layer_types` where the config has it; else every n-th layer is full, n being the key `pattern`."""

    def kinds(config: Config) -> list[Kind]:
        if "layer_types" in config:
            return _by_type(config)
        return [Kind.FULL if (i + 1) % config[pattern] == 0 else other for i in range(config["num_hidden_layers"])]

    return kinds


def _gpt_oss(config: Config) -> list[Kind]:
    return [Kind.FULL if i % 2 else Kind.WINDOW for i in range(config["num_hidden_layers"])]


def _gemma3n(config: Config) -> list[Kind]:
    """The last layers read the cache of earlier ones."""
    kinds = _every("sliding_window_pattern", Kind.WINDOW)(config)
    return kinds[: config["num_hidden_layers"] - config["num_kv_shared_layers"]]


def _gemma4(config: Config) -> list[Kind]:
    kinds = _gemma3n(config)
    # Without layer_types the pattern ends with a full layer, whatever the number of layers.
    return kinds if "layer_types" in config or config["num_kv_shared_layers"] else [*kinds[:-1], Kind.FULL]


def _gemma4_kv_heads(config: Config, kind: Kind) -> int:
    fewer: int | None = config.get("num_global_key_value_heads")
    heads: int = config["num_key_value_heads"]
    return fewer if fewer and kind is Kind.FULL and config.get("attention_k_eq_v") else heads


def _gemma4_head_size(config: Config, kind: Kind) -> int:
    size: int = config["global_head_dim" if kind is Kind.FULL else "head_dim"]
    return size


def _llama4(config: Config) -> list[Kind]:
    """Layers without positions see everything, the others their chunk."""
    interval = config["no_rope_layer_interval"]
    default = [(i + 1) % interval for i in range(config["num_hidden_layers"])]
    chunked = config["attention_chunk_size"]
    return [Kind.CHUNK if rope and chunked else Kind.FULL for rope in config.get("no_rope_layers") or default]


def _jamba(config: Config) -> list[Kind]:
    period, offset = config["attn_layer_period"], config["attn_layer_offset"]
    return [Kind.FULL if i % period == offset else Kind.STATE for i in range(config["num_hidden_layers"])]


def _nemotron_h(config: Config) -> list[Kind]:
    return _by_type(config, "hybrid_override_pattern" if "hybrid_override_pattern" in config else "layers_block_type")


def _blocks(config: Config) -> list[Kind]:
    return _by_type(config, "layers_block_type" if "layers_block_type" in config else "layer_types")


def _both(config: Config) -> list[Kind]:
    return [Kind.FULL, Kind.STATE] * config["num_hidden_layers"]


def _whisper(config: Config) -> list[Kind]:
    return [Kind.FULL, Kind.CROSS] * config["decoder_layers"]


def _falcon_kv_heads(config: Config, _: Kind) -> int:
    heads: int = config["num_attention_heads"]
    if config.get("new_decoder_architecture"):
        heads = config.get("num_kv_heads", heads)
    elif config["multi_query"]:
        heads = 1
    return heads


MHA: Config = {"num_key_value_heads": None}
GEMMA: Config = {"head_dim": 256}
GEMMA3: Config = GEMMA | {"num_attention_heads": 8, "num_key_value_heads": 4, "sliding_window_pattern": 6}
GDN: Config = GEMMA | {
    "full_attention_interval": 4,
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
}

# The many that differ only in what their classes take for missing keys.
PLAIN = Architecture(_one_window, defaults=MHA)
GROUPED = Architecture(_one_window)
GROUPED_128 = Architecture(_one_window, defaults={"head_dim": 128})
LATENT = Architecture(_all(Kind.MLA))
QWEN = Architecture(_all(Kind.FULL))
ENCODER = Architecture(lambda _: [])
GEMMA_3 = Architecture(_every("sliding_window_pattern", Kind.WINDOW), defaults=GEMMA3)
LLAMA_4 = Architecture(_llama4, defaults={"no_rope_layer_interval": 4, "attention_chunk_size": 8192, "head_dim": 128})
GEMMA_4 = Architecture(
    _gemma4,
    defaults=GEMMA | {"global_head_dim": 512, "num_kv_shared_layers": 0, "sliding_window_pattern": 6},
    kv_heads=_gemma4_kv_heads,
    head_size=_gemma4_head_size,
)
LFM2 = Architecture(_by_type, kv_state.lfm2)
MAMBA = Architecture(_all(Kind.STATE), kv_state.mamba)
QWEN_3_5 = Architecture(
    _every("full_attention_interval", Kind.STATE),
    kv_state.gated_delta_net,
    GDN,
    ssm_dtype=lambda c: c.get("mamba_ssm_dtype", "auto"),
)

ARCHITECTURES: Mapping[str, Architecture] = {
    "ApertusForCausalLM": PLAIN,
    "BertModel": ENCODER,
    "BloomForCausalLM": PLAIN,
    "Cohere2ForCausalLM": Architecture(
        _every("sliding_window_pattern", Kind.WINDOW),
        defaults=MHA | {"sliding_window_pattern": 4},
        window=lambda c: c["sliding_window"] + 1,
    ),
    "CohereForCausalLM": PLAIN,
    "DeepseekV2ForCausalLM": LATENT,
    "DeepseekV3ForCausalLM": LATENT,
    "Ernie4_5ForCausalLM": GROUPED_128,
    "Ernie4_5_MoeForCausalLM": GROUPED,
    "Exaone4ForCausalLM": Architecture(_every("sliding_window_pattern", Kind.WINDOW)),
    "FalconForCausalLM": Architecture(_one_window, kv_heads=_falcon_kv_heads),
    "FalconH1ForCausalLM": Architecture(_both, kv_state.granite),
    "FalconMambaForCausalLM": MAMBA,
    "GPT2LMHeadModel": PLAIN,
    "GPTNeoXForCausalLM": PLAIN,
    "Gemma2ForCausalLM": Architecture(
        _every("sliding_window_pattern", Kind.WINDOW), defaults=GEMMA | {"sliding_window_pattern": 2}
    ),
    "Gemma3ForCausalLM": GEMMA_3,
    "Gemma3ForConditionalGeneration": GEMMA_3,
    "Gemma3nForCausalLM": Architecture(
        _gemma3n, defaults=GEMMA | {"sliding_window_pattern": 5, "num_kv_shared_layers": 15}
    ),
    "Gemma4ForCausalLM": GEMMA_4,
    "Gemma4ForConditionalGeneration": GEMMA_4,
    "GemmaForCausalLM": Architecture(_one_window, defaults=GEMMA),
    "Glm4ForCausalLM": GROUPED_128,
    "Glm4MoeForCausalLM": GROUPED,
    "Glm4MoeLiteForCausalLM": LATENT,
    "GlmForCausalLM": GROUPED_128,
    "GptOssForCausalLM": Architecture(_gpt_oss, defaults={"head_dim": 64}),
    "GraniteForCausalLM": PLAIN,
    "GraniteMoeForCausalLM": PLAIN,
    "GraniteMoeHybridForCausalLM": Architecture(_blocks, kv_state.granite, MHA),
    "HunYuanDenseV1ForCausalLM": PLAIN,
    "JambaForCausalLM": Architecture(_jamba, kv_state.jamba),
    "Lfm2ForCausalLM": LFM2,
    "Lfm2MoeForCausalLM": LFM2,
    "Llama4ForCausalLM": LLAMA_4,
    "Llama4ForConditionalGeneration": LLAMA_4,
    "LlamaForCausalLM": Architecture(_llama, defaults=MHA),
    "Mamba2ForCausalLM": Architecture(_all(Kind.STATE), kv_state.mamba2),
    "MambaForCausalLM": MAMBA,
    "MiniMaxM2ForCausalLM": GROUPED_128,
    "MistralForCausalLM": Architecture(_llama, defaults={"sliding_window": 4096}),
    "MixtralForCausalLM": GROUPED,
    "ModernBertModel": ENCODER,
    "NemotronForCausalLM": PLAIN,
    "NemotronHForCausalLM": Architecture(
        _nemotron_h, kv_state.nemotron, {"head_dim": 128}, ssm_dtype=lambda c: c.get("mamba_ssm_cache_dtype", "float32")
    ),
    "OPTForCausalLM": PLAIN,
    "Olmo2ForCausalLM": PLAIN,
    "Olmo3ForCausalLM": Architecture(
        _every("sliding_window_pattern", Kind.WINDOW), defaults=MHA | {"sliding_window_pattern": 4}
    ),
    "OlmoHybridForCausalLM": Architecture(_by_type, kv_state.gated_delta_net, MHA),
    "OlmoeForCausalLM": PLAIN,
    "Phi3ForCausalLM": PLAIN,
    "PhiForCausalLM": PLAIN,
    "PhiMoEForCausalLM": GROUPED,
    "Qwen2ForCausalLM": QWEN,
    "Qwen2MoeForCausalLM": QWEN,
    "Qwen2_5_VLForConditionalGeneration": QWEN,
    "Qwen3ForCausalLM": Architecture(_all(Kind.FULL), defaults={"head_dim": 128}),
    "Qwen3MoeForCausalLM": QWEN,
    "Qwen3NextForCausalLM": Architecture(_every("full_attention_interval", Kind.STATE), kv_state.gated_delta_net, GDN),
    "Qwen3_5ForCausalLM": QWEN_3_5,
    "Qwen3_5ForConditionalGeneration": QWEN_3_5,
    "Qwen3_5MoeForCausalLM": QWEN_3_5,
    "Qwen3_5MoeForConditionalGeneration": QWEN_3_5,
    "RobertaModel": ENCODER,
    "SeedOssForCausalLM": GROUPED_128,
    "SmolLM3ForCausalLM": QWEN,
    "StableLmForCausalLM": GROUPED,
    "Starcoder2ForCausalLM": GROUPED,
    "WhisperForConditionalGeneration": Architecture(_whisper, kv_heads=lambda c, _: c["num_attention_heads"]),
    "XLMRobertaModel": ENCODER,
    "Zamba2ForCausalLM": Architecture(
        _blocks, kv_state.zamba2, MHA, head_size=lambda c, _: 2 * c["hidden_size"] // c["num_attention_heads"]
    ),
}
