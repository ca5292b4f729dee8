"""The load: streamed completions by the official client, so many at once, until all are answered or time is up."""

import asyncio
import random
import string
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import httpx
import openai
from pydantic import BaseModel, ConfigDict

from hive.errors import HiveError

WORDS = 2000  # that the model's tokens are taken from
UNFINISHED = "not answered in time"


class Load(BaseModel):
    """What is sent."""

    model_config = ConfigDict(frozen=True)

    model: str
    requests: int
    concurrency: int
    input_tokens: int
    output_tokens: int
    max_seconds: float


@dataclass(frozen=True)
class Answer:
    """One whole answer; times in seconds since its request was sent."""

    first: float  # to the first token
    last: float
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True)
class Failure:
    """A request without a whole answer."""

    kind: str  # like `429 rate_limit_exceeded`


Outcome = Answer | Failure


def vocabulary(url: str, key: str | None, load: Load) -> list[int]:
    """Tokens that this model knows, by asking it what it makes of many made-up words.

    Args:
        url: of the gateway, without /v1.

    Raises:
        HiveError: it is no model that completes, or one request would be longer than it takes.
    """
    made = random.Random(0)  # noqa: S311 (no secret)
    text = " ".join("".join(made.choices(string.ascii_lowercase, k=made.randint(2, 9))) for _ in range(WORDS))
    body = {"model": load.model, "prompt": text, "add_special_tokens": False}
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        answer = httpx.post(f"{url}/tokenize", json=body, headers=headers, timeout=60)
    except httpx.HTTPError as error:
        raise HiveError(f"{url} does not answer ({error!r})", "look at it: hive doctor") from error
    if answer.is_error:
        raise HiveError(f"{load.model} does not answer: {answer.text[:500]}", "look at it: hive status")
    found = answer.json()
    longest = found["max_model_len"]
    if load.input_tokens + load.output_tokens > longest:
        raise HiveError(
            f"{load.input_tokens} + {load.output_tokens} tokens are more than {load.model} takes ({longest})",
            "lower --input-tokens or --output-tokens",
        )
    return sorted(set(found["tokens"]))


def prompts(tokens: Sequence[int], load: Load) -> list[list[int]]:
    """One for each request, and one before them that is not measured. Tokens drawn by chance, anew in each run: no two
    prompts begin alike, so that no prefix cache can help."""
    chance = random.Random()  # noqa: S311 (no secret)
    return [chance.choices(tokens, k=load.input_tokens) for _ in range(load.requests + 1)]


async def send(
    client: openai.AsyncOpenAI, load: Load, asked: Sequence[list[int]], done: Callable[[], None]
) -> tuple[list[Outcome], float]:
    """Ask the first alone, unmeasured, because the client itself gets ready with it; then all others, at most
    `concurrency` at once.

    Args:
        asked: see `prompts`.
        done: called after each answer or failure.

    Returns:
        What became of each measured request, and the seconds that all took.

    Raises:
        HiveError: the first one is not answered.
    """
    gate = asyncio.Semaphore(load.concurrency)

    async def one(prompt: list[int]) -> Outcome:
        async with gate:
            outcome = await _ask(client, load, prompt)
        done()
        return outcome

    first, *others = asked
    try:
        short = load.model_copy(update={"output_tokens": 1})
        outcome = await asyncio.wait_for(_ask(client, short, first), load.max_seconds)
    except TimeoutError:
        outcome = Failure(UNFINISHED)
    if isinstance(outcome, Failure):
        raise HiveError(f"{load.model} does not answer: {outcome.kind}", "look at it: hive doctor --deep")
    began = time.perf_counter()
    tasks = [asyncio.create_task(one(prompt)) for prompt in others]
    try:
        _, late = await asyncio.wait(tasks, timeout=load.max_seconds)
    finally:
        for task in tasks:
            task.cancel()
    await asyncio.gather(*late, return_exceptions=True)
    seconds = time.perf_counter() - began
    return [Failure(UNFINISHED) if task.cancelled() else task.result() for task in tasks], seconds


async def _ask(client: openai.AsyncOpenAI, load: Load, prompt: list[int]) -> Outcome:
    began = time.perf_counter()
    first = last = 0.0
    usage = None
    try:
        stream = await client.completions.create(
            model=load.model,
            prompt=prompt,
            max_tokens=load.output_tokens,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
            extra_body={"ignore_eos": True},  # vLLM's: every answer has the length that was asked for
        )
        async for chunk in stream:
            if chunk.choices:
                last = time.perf_counter() - began
                first = first or last
            usage = chunk.usage or usage
    except (openai.OpenAIError, httpx.HTTPError) as error:  # a stream that breaks off is httpx's own
        return Failure(kind(error))
    if usage is None or not first:
        return Failure("an answer without tokens or usage")
    return Answer(first, last, usage.prompt_tokens, usage.completion_tokens)


def kind(error: Exception) -> str:
    """What errors are counted by."""
    code = (error.code or "") if isinstance(error, openai.APIError) else ""
    status = str(error.status_code) if isinstance(error, openai.APIStatusError) else type(error).__name__
    return f"{status} {code}".strip()
