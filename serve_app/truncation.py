"""A prompt that is too long loses its beginning, where the model's entry asks for that (`defaults.truncateInput`).

vLLM can do it, and wants to be asked in each request. So this asks, in requests that do not say otherwise.
"""

import json
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

CHAT, COMPLETIONS, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
POOLING = frozenset(
    {"/v1/embeddings", "/pooling", "/classify", "/score", "/v1/score", "/rerank", "/v1/rerank", "/v2/rerank"}
)
PATHS = POOLING | {CHAT, COMPLETIONS, RESPONSES}
COMPLETION_TOKENS = 16  # what OpenAI and vLLM take where a completion does not say
ALL_THAT_FITS = -1  # vLLM: the model's length less the tokens that the request asks for


def truncating(path: str, body: dict[str, Any], max_model_len: int, room: int) -> dict[str, Any]:
    """The body of a request, with vLLM's fields for truncation.

    Args:
        path: the endpoint.
        room: tokens kept for an answer whose length the request does not limit.
    """
    if path == RESPONSES:
        # The side can't be chosen here: for models that generate it is the left one. Nor can room be kept but by a
        # limit of the answer.
        limit = {} if body.get("max_output_tokens") is not None else {"max_output_tokens": room}
        return body if body.get("truncation") is not None else body | {"truncation": "auto"} | limit
    if body.get("truncate_prompt_tokens") is not None:
        return body
    unlimited = {
        CHAT: body.get("max_completion_tokens") is None and body.get("max_tokens") is None,
        COMPLETIONS: body.get("max_tokens", COMPLETION_TOKENS) is None,
    }
    keep = max_model_len - room if unlimited.get(path) else ALL_THAT_FITS
    return {"truncation_side": "left"} | body | {"truncate_prompt_tokens": keep}


class TruncateInput:
    """The ASGI part.

    Args:
        max_model_len: the engine's.
        max_tokens: of an answer, where the model's entry says it.
    """

    def __init__(self, app: ASGIApp, *, max_model_len: int, max_tokens: int | None) -> None:
        self._app = app
        self._max_model_len = max_model_len
        self._room = max(1, min(max_tokens or max_model_len // 4, max_model_len - 1))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "").removeprefix(scope.get("root_path", ""))
        if scope["type"] != "http" or scope["method"] != "POST" or path not in PATHS:
            await self._app(scope, receive, send)
            return
        chunks, message = [], await receive()
        while message["type"] == "http.request":
            chunks.append(message.get("body", b""))
            if not message.get("more_body", False):
                break
            message = await receive()
        if message["type"] != "http.request":
            return  # the client has gone
        content = self._edited(path, b"".join(chunks))
        scope["headers"] = [
            (name, str(len(content)).encode() if name.lower() == b"content-length" else value)
            for name, value in scope["headers"]
        ]
        whole: list[Message] = [{"type": "http.request", "body": content, "more_body": False}]

        async def receive_edited() -> Message:
            return whole.pop() if whole else await receive()

        await self._app(scope, receive_edited, send)

    def _edited(self, path: str, content: bytes) -> bytes:
        """What is no JSON object is left for vLLM to refuse."""
        try:
            body = json.loads(content)
        except ValueError:
            return content
        if not isinstance(body, dict):
            return content
        return json.dumps(truncating(path, body, self._max_model_len, self._room)).encode()
