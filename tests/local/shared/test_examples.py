"""Every program of examples/ runs as it stands, with nothing but the address and a key in its environment.

The weights are random, so what is asserted is that an answer of the right form was printed.
"""

import os
import re
import subprocess
import sys

import pytest

from hive.rendering import ROOT
from tests.local.conftest import Sandbox
from tests.local.shared.conftest import KEY

pytestmark = [pytest.mark.serving, pytest.mark.timeout(1500)]

EXAMPLES = ROOT / "examples"
RUN_SECONDS = 180
# What each one prints, as a pattern. Those of text answer in words without sense, or in none.
PRINTS = {
    "audio": r"audio hears in tone\.wav: .*\n",
    "batch": r"(?s)France: .*\nItaly: .*Canada: .*",
    "embeddings": r"I can't log in\n(  -?[01]\.\d{3} [A-Z].+\n){4}",
    "langchain_chat": r"(?s).*\n",
    "langchain_structured_output": r"Ticket\(team='(billing|support|sales)', urgent=(True|False)\)\n",
    "lora": r"(?s)hive/pirate \(adapter of language\): .*\nlanguage \(model\): .*",
    "openai_client": r"(?s)Models that generate text: language, .*CompletionUsage\(completion_tokens=[1-9].*",
    "quickstart": r"(?s).*\n",
    "streaming": r"(?s).*\n\d+ tokens asked, [1-9]\d* answered\n",
    "structured_output": r"Review\(sentiment='(good|bad|mixed)', topic='(price|quality|delivery)', "
    r"recommends=(True|False)\)\n",
    "tools": r"(?s)weather\(\{\"city\": ?\"(Paris|Rome)\"\}\) = .*\n",
    "vision": r"(?s).*CompletionUsage\(completion_tokens=[1-9].*",
}


def run(name: str, *arguments: str, hive: Sandbox, key: str = KEY) -> subprocess.CompletedProcess[str]:
    """The file, in a process of its own that knows this Hive's address and a key."""
    return subprocess.run(
        [sys.executable, str(EXAMPLES / f"{name}.py"), *arguments],
        env=os.environ
        | {"OPENAI_BASE_URL": f"{hive.hive.run.gateway_url}/v1", "OPENAI_API_KEY": key, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
    )


def test_every_example_is_here() -> None:
    assert set(PRINTS) == {path.stem for path in EXAMPLES.glob("*.py")}


def test_every_example_is_in_the_table() -> None:
    text = (EXAMPLES / "README.md").read_text()
    assert set(re.findall(r"^\| \[(\w+)\.py\]", text, re.MULTILINE)) == set(PRINTS)


@pytest.mark.parametrize("name", PRINTS)
def test_an_example_runs_as_it_stands(hive: Sandbox, name: str) -> None:
    done = run(name, hive=hive)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(PRINTS[name], done.stdout), done.stdout
    assert "ERROR" not in done.stdout, "an answer of the batch"


def test_a_model_can_be_named(hive: Sandbox) -> None:
    done = run("openai_client", "nobody", hive=hive)
    assert done.returncode == 1
    assert "The model `nobody` does not exist" in done.stderr


def test_a_key_that_is_not_good_is_told(hive: Sandbox) -> None:
    done = run("openai_client", hive=hive, key="sk-wrong")
    assert done.returncode == 1
    assert "There is no such API key" in done.stderr
