"""What a model's card in /v1/models says it takes and gives. A function of config.json and of vLLM's tasks; pure."""

from collections.abc import Iterable, Mapping
from typing import Any

# Keys of a config.json that stand for a kind of input. Each one is a part of the model, or the token that stands for
# such an input in a prompt.
SENSES: Mapping[str, tuple[str, ...]] = {
    "image": ("vision_config", "vision_tower", "mm_vision_tower", "image_token_id", "image_token_index"),
    "audio": ("audio_config", "audio_token_id", "audio_token_index", "audio_processor", "audio_model_id"),
    "video": ("video_token_id", "video_token_index"),
}
# Parts of a config.json that have these keys inside.
INNER = ("thinker_config", "text_config", "llm_config")
HEARS = frozenset({"transcription", "realtime"})
ANSWERS: Mapping[str, tuple[str, ...]] = {
    "text": ("generate", "transcription", "realtime"),
    "embedding": ("embed", "token_embed", "embed&token_classify"),
    "score": ("classify", "token_classify"),
}


def modalities(
    config: Mapping[str, Any], tasks: Iterable[str], limits: Mapping[str, Any] | None = None
) -> dict[str, list[str]]:
    """`input_modalities` and `output_modalities`.

    Args:
        config: the checkpoint's config.json.
        tasks: what vLLM says that the engine can do.
        limits: vLLM's limit_mm_per_prompt; 0 turns an input off.
    """
    can = set(tasks)
    parts = [config, *(config[key] for key in INNER if isinstance(config.get(key), Mapping))]
    # A model that only transcribes takes no messages; one that generates reads text whatever else it takes.
    takes = [] if can & HEARS and "generate" not in can else ["text"]
    for sense, keys in SENSES.items():
        has = any(part.get(key) is not None for part in parts for key in keys)
        if (has or (sense == "audio" and can & HEARS)) and (limits or {}).get(sense) != 0:
            takes.append(sense)
    # Where a model can generate, its pooled states are no embeddings that anyone trained.
    gives = [answer for answer, known in ANSWERS.items() if can & set(known)]
    return {"input_modalities": takes, "output_modalities": gives[:1] if gives else ["text"]}
