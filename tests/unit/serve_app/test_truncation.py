"""Which fields a request gets, and that everything else of it arrives as it was sent."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request

from serve_app.truncation import POOLING, TruncateInput, truncating

CHAT, COMPLETIONS, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
ROOM = {"truncation_side": "left", "truncate_prompt_tokens": 75}
FITS = {"truncation_side": "left", "truncate_prompt_tokens": -1}


@pytest.mark.parametrize(
    ("path", "said", "added"),
    [
        (CHAT, {}, ROOM),
        (CHAT, {"max_tokens": None}, ROOM),
        (CHAT, {"max_tokens": 5}, FITS),
        (CHAT, {"max_completion_tokens": 5}, FITS),
        (CHAT, {"truncate_prompt_tokens": 3}, {}),
        (CHAT, {"truncation_side": "right"}, {"truncate_prompt_tokens": 75}),
        (COMPLETIONS, {}, FITS),
        (COMPLETIONS, {"max_tokens": None}, ROOM),
        (COMPLETIONS, {"max_tokens": 5}, FITS),
        (RESPONSES, {}, {"truncation": "auto", "max_output_tokens": 25}),
        (RESPONSES, {"max_output_tokens": 5}, {"truncation": "auto"}),
        (RESPONSES, {"truncation": "disabled"}, {}),
        *((path, {}, FITS) for path in sorted(POOLING)),
    ],
)
def test_a_request_that_does_not_say_otherwise_is_truncated(
    path: str, said: dict[str, Any], added: dict[str, Any]
) -> None:
    assert truncating(path, said, max_model_len=100, room=25) == said | added


@pytest.fixture
def echo() -> FastAPI:
    """Answers with the body as it arrived."""
    app = FastAPI()

    @app.api_route("/{path:path}", methods=["GET", "POST"])
    async def answer(path: str, request: Request) -> dict[str, Any]:
        return {"length": request.headers.get("content-length"), "body": (await request.body()).decode()}

    return app


async def ask(app: FastAPI, path: str, content: Any, max_tokens: int | None = None, **options: Any) -> dict[str, Any]:
    wrapped = TruncateInput(app, max_model_len=100, max_tokens=max_tokens)
    transport = httpx.ASGITransport(wrapped, **options)
    async with httpx.AsyncClient(transport=transport, base_url="http://replica") as client:
        answer: dict[str, Any] = (await client.post(path, content=content)).json()
        return answer


@pytest.mark.parametrize(("max_tokens", "kept"), [(None, 75), (40, 60), (500, 1)])
async def test_room_is_kept_for_the_answer(echo: FastAPI, max_tokens: int | None, kept: int) -> None:
    answer = await ask(echo, CHAT, '{"prompt": "ä"}', max_tokens)
    assert json.loads(answer["body"]) == {"prompt": "ä"} | ROOM | {"truncate_prompt_tokens": kept}
    assert int(answer["length"]) == len(answer["body"])


async def test_under_a_route_prefix_and_in_pieces(echo: FastAPI) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b'{"prompt": '
        yield b'"x"}'

    answer = await ask(echo, "/models/m/v1/completions", pieces(), root_path="/models/m")
    assert json.loads(answer["body"])["truncate_prompt_tokens"] == -1


@pytest.mark.parametrize("content", ["", "{", "[]", "3", "ä"])
async def test_what_is_no_request_is_left_to_vllm(echo: FastAPI, content: str) -> None:
    assert (await ask(echo, CHAT, content.encode()))["body"] == content


@pytest.mark.parametrize("path", ["/v1/audio/transcriptions", "/tokenize", "/v1/models"])
async def test_other_endpoints_are_not_touched(echo: FastAPI, path: str) -> None:
    assert (await ask(echo, path, '{"prompt":"x"}'))["body"] == '{"prompt":"x"}'
