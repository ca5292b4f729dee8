"""What a replica adds to the ASGI app that vLLM built: more names, fuller cards, middleware, an eye on open requests.

vLLM's objects are reached through `app.state`, by the names that they have there, since Ray offers no way to the same
ends: it forbids `served_model_name`, and its own route for one model's card knows neither aliases nor adapters.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

LOOK_S = 0.05
# Serve hands what the app sends to its server in another task. What that has written the kernel delivers.
HAND_OVER_S = 0.2


def max_model_len(app: FastAPI) -> int:
    """Tokens of prompt and answer together, as the engine has settled them."""
    return int(app.state.openai_serving_models.model_config.max_model_len)


def add_aliases(app: FastAPI, aliases: Iterable[str]) -> None:
    """The model answers to these names too. Every endpoint of vLLM asks this one list, which is shared: so in place."""
    names = app.state.openai_serving_models.base_model_paths
    names.extend(replace(names[0], name=alias) for alias in aliases)


def lift_caps(app: FastAPI) -> None:
    """Let requests ask for more than `defaults.maxTokens`: vLLM takes max_new_tokens of override_generation_config for
    a default and for a cap (vllm/entrypoints/serve/utils/api_utils.py, get_max_tokens)."""
    for serving in app.state._state.values():
        if getattr(serving, "override_max_tokens", None) is not None:
            serving.override_max_tokens = None


def add_cards(app: FastAPI, more: Mapping[str, Any]) -> None:
    """GET /v1/models and /v1/models/{id}, with `more` in each card. Placed before the routes of vLLM and Ray."""

    async def cards() -> list[dict[str, Any]]:
        found = await app.state.openai_serving_models.show_available_models()
        # Adapters have no length of their own.
        return [card.model_dump() | {"max_model_len": max_model_len(app)} | more for card in found.data]

    async def list_all(_: Request) -> JSONResponse:
        return JSONResponse({"object": "list", "data": await cards()})

    async def retrieve(request: Request) -> JSONResponse:
        name = request.path_params["name"]
        for card in await cards():
            if card["id"] == name:
                return JSONResponse(card)
        message = f"The model `{name}` does not exist."
        error = {"message": message, "type": "NotFoundError", "param": "model", "code": 404}
        return JSONResponse({"error": error}, status_code=404)

    app.router.routes[:0] = [Route("/v1/models", list_all), Route("/v1/models/{name:path}", retrieve)]


def name_what_is_missing(app: FastAPI, model: str, tasks: Iterable[str]) -> None:
    """An endpoint that this kind of model does not have is a 404 in OpenAI's form, and says what the model can do.

    vLLM's own handler is for FastAPI's errors; those of Starlette's router are of the class above.
    """
    able = ", ".join(tasks)

    async def missing(request: Request, error: Exception) -> Response:
        status, message = 500, str(error)
        if isinstance(error, HTTPException):
            status, message = error.status_code, error.detail
        if status in (404, 405):
            path = request.url.path.removeprefix(request.scope.get("root_path", ""))
            message = f"{model} has no {request.method} {path}. What it can do: {able}"
        found = {"message": message, "type": "invalid_request_error", "param": None, "code": "unknown_url"}
        return JSONResponse({"error": found}, status_code=status)

    app.add_exception_handler(HTTPException, missing)


def add_middleware(app: FastAPI, kind: Any, **options: Any) -> None:
    """vLLM has built the stack already; without it Starlette builds it anew at the next request (as Ray does it in
    ray/llm/_internal/serve/core/server/llm_server.py, _add_middleware_to_built_app)."""
    app.middleware_stack = None
    app.add_middleware(kind, **options)


class OpenRequests:
    """How many requests are being answered."""

    def __init__(self) -> None:
        self._count = 0

    def middleware(self, app: ASGIApp) -> ASGIApp:
        """The app, counted."""

        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            self._count += 1
            try:
                await app(scope, receive, send)
            finally:
                self._count -= 1

        return counted

    async def ended(self, within: float) -> None:
        """Wait until all have got their end, or for so many seconds. The app runs in another event loop than Serve's
        own calls may, so this looks and is not told."""
        deadline = time.monotonic() + within
        while self._count and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(LOOK_S)
        await asyncio.sleep(HAND_OVER_S)
