"""One Hive with a model of each kind, for the tests of this folder. In the order of their names; the last one may break
it. It is gone before other tests start theirs."""

import shutil
from collections.abc import Iterator

import pytest

from hive.local import driver
from tests.local.conftest import Json, Sandbox, make_sandbox, tiny

UP_SECONDS = 1200  # engines start one after the other: half a minute each, and minutes on a busy machine
LENGTH, MAX_TOKENS = 512, 16
TEMPLATE = (
    "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
MODELS: Json = {
    "language": tiny(
        aliases=["gpt-4o", "Hive/Tiny-Chat", "gemma-3-270m"],  # the last is what examples ask for
        adapters={"hive/pirate": "./tiny-lora"},
        chatTemplate=TEMPLATE,
        maxModelLen=LENGTH,
        defaults={"maxTokens": MAX_TOKENS, "temperature": 0, "truncateInput": True},
        engine={
            "enable_auto_tool_choice": True,
            "tool_call_parser": "hermes",
            # Random weights like blanks too much; calls of tools, which this does not reach, need a frequency_penalty.
            "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True},
        },
    ),
    "embedding": tiny(source="./tiny-embedding"),
    "vision": tiny(source="./tiny-vision", aliases=["eyes"], engine={"limit_mm_per_prompt": {"video": 0}}),
    "audio": tiny(source="./tiny-whisper", aliases=["whisper-1"], maxModelLen=448),
}
NAMES = {
    "language": ["language", "gpt-4o", "Hive/Tiny-Chat", "gemma-3-270m", "hive/pirate"],
    "embedding": ["embedding"],
    "vision": ["vision", "eyes"],
    "audio": ["audio", "whisper-1"],
}
KEY = "sk-tests-0123456789"
JOBS_KEY = "sk-jobs-0123456789"


@pytest.fixture(scope="package")
def hive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """Running, with API keys; ended afterwards, whatever happened."""
    adapters_and_models = ("tiny-lora", "tiny-embedding", "tiny-vision", "tiny-whisper")
    hive = make_sandbox(tmp_path_factory.mktemp("shared"), *adapters_and_models)
    try:
        hive.where.keys.mkdir()
        (hive.where.keys / "tests").write_text(KEY)
        (hive.where.keys / "jobs").write_text(JOBS_KEY)
        done = hive.up(MODELS, seconds=UP_SECONDS, gateway={"host": "127.0.0.1", "keysSecret": "keys"})
        assert done.returncode == 0, done.stdout + done.stderr
        yield hive
    finally:
        driver.stop(hive.where, print)
        shutil.rmtree(hive.where.ray, ignore_errors=True)
