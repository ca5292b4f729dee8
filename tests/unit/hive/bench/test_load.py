"""What becomes of requests that are refused, hang or break off. (Those that are answered: tests/local.)"""

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import httpx
import openai
import pytest

from hive.bench.load import UNFINISHED, Answer, Failure, Load, Outcome, send
from hive.errors import HiveError

LOAD = Load(model="m", requests=4, concurrency=2, input_tokens=1, output_tokens=2, max_seconds=600)
Handler = Callable[[httpx.Request], Coroutine[Any, Any, httpx.Response]]


def chunk(**more: Any) -> str:
    content = {"id": "c", "object": "text_completion", "created": 0, "model": "m", "choices": []} | more
    return f"data: {json.dumps(content)}\n\n"


TOKEN = chunk(choices=[{"index": 0, "text": "a", "finish_reason": None, "logprobs": None}])
USAGE = chunk(usage={"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3})
BROKEN = 'data: {"error": {"message": "the engine died", "code": "engine_died"}}\n\n'


def stream(*parts: str) -> httpx.Response:
    return httpx.Response(200, headers={"Content-Type": "text/event-stream"}, text="".join(parts))


def sent(handler: Handler, load: Load = LOAD) -> tuple[list[Outcome], int]:
    """What became of each, and how often a request was done with."""
    done: list[None] = []

    async def run() -> list[Outcome]:
        http = httpx.AsyncClient(transport=httpx.MockTransport(handler))
        async with openai.AsyncOpenAI(base_url="http://g/v1", api_key="k", max_retries=0, http_client=http) as client:
            outcomes, _ = await send(client, load, [[1]] * (load.requests + 1), lambda: done.append(None))
        return outcomes

    return asyncio.run(run()), len(done)


def after_the_first(handler: Handler) -> Handler:
    """The first request is answered."""
    count = 0

    async def handle(request: httpx.Request) -> httpx.Response:
        nonlocal count
        count += 1
        return stream(TOKEN, USAGE) if count == 1 else await handler(request)

    return handle


def test_whole_answers_are_counted_by_their_usage() -> None:
    async def handle(request: httpx.Request) -> httpx.Response:
        return stream(TOKEN, TOKEN, USAGE)

    outcomes, done = sent(handle)
    assert [(one.input_tokens, one.output_tokens) for one in outcomes if isinstance(one, Answer)] == [(1, 2)] * 4
    assert done == 4, "the first is not measured"


def test_no_more_run_at_once_than_were_asked_for() -> None:
    running, most = 0, 0

    async def handle(request: httpx.Request) -> httpx.Response:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(20):
            await asyncio.sleep(0)  # let all others that may begin do so
        running -= 1
        return stream(TOKEN, USAGE)

    sent(handle, LOAD.model_copy(update={"requests": 9, "concurrency": 3}))
    assert most == 3


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (httpx.Response(429, json={"error": {"code": "rate_limit_exceeded"}}), "429 rate_limit_exceeded"),
        (stream(TOKEN, BROKEN), "APIError engine_died"),
        (stream(TOKEN), "an answer without tokens or usage"),
    ],
)
def test_a_failure_is_counted_by_its_kind(answer: httpx.Response, kind: str) -> None:
    async def handle(request: httpx.Request) -> httpx.Response:
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)

    assert sent(after_the_first(handle)) == ([Failure(kind)] * 4, 4)


def test_what_hangs_ends_with_the_time() -> None:
    async def answer(request: httpx.Request) -> httpx.Response:
        return stream(TOKEN, USAGE)

    async def handle(request: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    sent(answer)  # what the client loads at its first request must not count
    outcomes, done = sent(after_the_first(handle), LOAD.model_copy(update={"max_seconds": 1}))
    assert (outcomes, done) == ([Failure(UNFINISHED)] * 4, 0)


def test_a_model_that_does_not_answer_at_all_is_not_measured() -> None:
    async def handle(request: httpx.Request) -> httpx.Response:
        return httpx.Response(503, json={"error": {"code": "model_not_ready"}})

    with pytest.raises(HiveError, match="503 model_not_ready"):
        sent(handle)
