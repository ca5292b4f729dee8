"""What cards say, from the config.json of published models."""

from typing import Any

import pytest

from serve_app.cards import modalities

QWEN_VL = {"vision_config": {}, "image_token_id": 1, "video_token_id": 2}


@pytest.mark.parametrize(
    ("config", "tasks", "takes", "gives"),
    [
        ({"architectures": ["Qwen3ForCausalLM"]}, ["generate"], ["text"], ["text"]),
        ({"vision_config": {"hidden_size": 1}, "text_config": {}}, ["generate"], ["text", "image"], ["text"]),
        (QWEN_VL, ["generate"], ["text", "image", "video"], ["text"]),
        ({"vision_config": None}, ["generate"], ["text"], ["text"]),
        (
            {"thinker_config": QWEN_VL | {"audio_config": {}}},
            ["generate"],
            ["text", "image", "audio", "video"],
            ["text"],
        ),
        ({"architectures": ["WhisperForConditionalGeneration"]}, ["transcription"], ["audio"], ["text"]),
        ({"audio_config": {}}, ["generate", "transcription"], ["text", "audio"], ["text"]),
        ({"architectures": ["BertModel"]}, ["embed", "token_embed"], ["text"], ["embedding"]),
        (QWEN_VL, ["embed"], ["text", "image", "video"], ["embedding"]),
        ({"architectures": ["BertForSequenceClassification"]}, ["classify"], ["text"], ["score"]),
    ],
)
def test_what_goes_in_and_out(config: dict[str, Any], tasks: list[str], takes: list[str], gives: list[str]) -> None:
    assert modalities(config, tasks) == {"input_modalities": takes, "output_modalities": gives}


def test_an_input_that_is_turned_off_is_not_offered() -> None:
    assert modalities(QWEN_VL, ["generate"], {"video": 0, "image": 2})["input_modalities"] == ["text", "image"]
