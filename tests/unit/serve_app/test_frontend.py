"""What a replica adds to an app, here one with the parts of vLLM's that it touches."""

import asyncio
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import httpx
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from serve_app import frontend


@dataclass
class Name:
    """As vLLM's BaseModelPath."""

    name: str
    model_path: str = "/models/m"


def app() -> FastAPI:
    app = FastAPI()
    names = [Name("m")]

    async def show_available_models() -> Any:
        cards = [{"id": one.name, "max_model_len": 64} for one in names] + [{"id": "o/sql", "max_model_len": None}]
        return SimpleNamespace(data=[SimpleNamespace(model_dump=lambda card=card: card) for card in cards])

    @app.get("/v1/models")
    def vllms_own() -> None:
        raise AssertionError("this route comes too late")

    config = SimpleNamespace(max_model_len=64)
    app.state.openai_serving_models = SimpleNamespace(
        base_model_paths=names, show_available_models=show_available_models, model_config=config
    )
    return app


async def get(app: FastAPI, path: str) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://replica") as client:
        return await client.get(path)


async def test_every_name_has_a_full_card() -> None:
    served = app()
    frontend.add_aliases(served, ["gpt-4o", "o/m"])
    frontend.add_cards(served, {"tasks": ["generate"]})
    listed = (await get(served, "/v1/models")).json()
    assert [card["id"] for card in listed["data"]] == ["m", "gpt-4o", "o/m", "o/sql"]
    for card in listed["data"]:
        assert (card["max_model_len"], card["tasks"]) == (64, ["generate"])
        assert (await get(served, f"/v1/models/{card['id']}")).json() == card


async def test_a_name_that_nobody_has_is_a_404_in_openais_shape() -> None:
    served = app()
    frontend.add_cards(served, {})
    answer = await get(served, "/v1/models/nobody")
    assert answer.status_code == 404
    assert "nobody" in answer.json()["error"]["message"]


def test_a_default_is_no_cap() -> None:
    served = app()
    chat = SimpleNamespace(override_max_tokens=16, default_sampling_params={"max_tokens": 16})
    served.state.openai_serving_chat = chat
    frontend.lift_caps(served)
    assert (chat.override_max_tokens, chat.default_sampling_params) == (None, {"max_tokens": 16})


async def test_middleware_can_be_added_to_an_app_that_has_served() -> None:
    served, seen = app(), []
    frontend.add_cards(served, {})
    await get(served, "/v1/models")

    def noting(inner: Any) -> Any:
        async def note(scope: Scope, receive: Receive, send: Send) -> None:
            seen.append(scope["path"])
            await inner(scope, receive, send)

        return note

    frontend.add_middleware(served, noting)
    await get(served, "/v1/models")
    assert seen == ["/v1/models"]


async def test_the_end_waits_for_open_requests_but_not_for_ever() -> None:
    served, requests, started, go_on = FastAPI(), frontend.OpenRequests(), asyncio.Event(), asyncio.Event()

    @served.get("/")
    async def slow() -> None:
        started.set()
        await go_on.wait()

    frontend.add_middleware(served, requests.middleware)
    asking = asyncio.create_task(get(served, "/"))
    await started.wait()
    await requests.ended(within=0)
    assert not asking.done()
    ended = asyncio.create_task(requests.ended(within=60))
    go_on.set()
    await ended
    assert asking.done()


async def test_an_endpoint_that_the_model_does_not_have_is_a_404_in_openais_shape() -> None:
    served = app()
    frontend.name_what_is_missing(served, "m", ["embed"])
    answer = await get(served, "/v1/chat/completions")
    assert answer.status_code == 404
    error = answer.json()["error"]
    assert error["message"] == "m has no GET /v1/chat/completions. What it can do: embed"
    assert error["code"] == "unknown_url"
