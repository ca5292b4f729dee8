"""Who is asked for the page, how often, and what becomes of those that do not answer."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from gateway import lookout
from gateway import settings as environment
from gateway.discovery import Discovery
from gateway.server import app
from gateway.settings import Endpoint, Page, Settings
from tests.gateway.showcase import states
from tests.unit.gateway.conftest import LOOPBACK, Fakes, Look, Place

Json = dict[str, Any]
NOBODY = Endpoint("a-name-that-nobody-has.invalid", 80)


@dataclass
class Asked:
    """An agent and a gateway's metrics on one port."""

    port: int = 0
    times: int = 0
    text: str = field(default_factory=states()[0].model_dump_json)
    filters: list[str] = field(default_factory=list)
    wait: asyncio.Event | None = None

    async def state(self, _: web.Request) -> web.Response:
        self.times += 1
        if self.wait is not None:
            await self.wait.wait()
        return web.Response(text=self.text)

    async def metrics(self, request: web.Request) -> web.Response:
        self.filters.append(request.query["filter"])
        return web.Response(text="")


@pytest.fixture
async def asked() -> AsyncIterator[Asked]:
    asked = Asked()
    both = web.Application()
    both.router.add_get("/v1/state", asked.state)
    both.router.add_get("/metrics", asked.metrics)
    async with TestServer(both) as server:
        asked.port = server.port or 0
        yield asked
        if asked.wait is not None:
            asked.wait.set()


@pytest.fixture
def paged(settings: Settings, asked: Asked) -> Settings:
    """With a page, from this agent and these metrics."""
    endpoint = Endpoint(LOOPBACK, asked.port)
    return replace(settings, page=Page((endpoint,), (endpoint,)))


async def status_of(discovery: Discovery) -> Json:
    async with TestClient(TestServer(app(discovery))) as client:
        answer = await client.get("/status")
        assert answer.status == 200
        found: Json = await answer.json()
        return found


async def test_nobody_is_asked_while_nobody_looks_and_all_who_look_share_one_look(
    paged: Settings, asked: Asked
) -> None:
    async with TestClient(TestServer(app(Discovery(paged)))) as client:
        assert asked.times == 0
        answers = await asyncio.gather(*(client.get("/status") for _ in range(20)))
        assert len({(await answer.read()) for answer in answers}) == 1
    assert asked.times == 1
    assert asked.filters == [lookout.COUNTERS["filter"]], "not all that Envoy counts"


async def test_a_look_is_taken_anew_when_it_is_old(
    paged: Settings, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookout, "PERIOD", 0.0)
    async with TestClient(TestServer(app(Discovery(paged)))) as client:
        first, second = [await (await client.get("/status")).json() for _ in range(2)]
    assert asked.times == 2
    assert (first["models"], first["nodes"]) == (second["models"], second["nodes"])


async def test_models_keys_and_serve_are_as_discovery_knows_them(
    paged: Settings, place: Place, fakes: Fakes, look: Look
) -> None:
    place.chart("a", "b")
    fakes.serve("a")
    discovery = Discovery(replace(paged, keys=place.root / "keys"))
    await look(discovery)
    found = await status_of(discovery)
    assert [(model["name"], model["status"]) for model in found["models"]] == [
        ("a", "NOT_STARTED"),
        ("b", "NOT_STARTED"),
    ]
    assert (found["asks_for_keys"], found["serve_answers"]) == (True, True)
    assert (await status_of(Discovery(paged)))["asks_for_keys"] is False


async def test_an_agent_that_hangs_is_shown_as_such_and_holds_nothing_up(
    paged: Settings, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the name of its node, where that is known, beside those that answer."""
    monkeypatch.setattr(lookout, "PATIENCE", 0.5)
    monkeypatch.setattr(lookout, "PERIOD", 0.0)
    async with TestClient(TestServer(app(Discovery(paged)))) as client:
        (node,) = (await (await client.get("/status")).json())["nodes"]
        assert (node["name"], len(node["devices"])) == ("atlas", 2)
        asked.wait = asyncio.Event()
        (node,) = (await (await client.get("/status")).json())["nodes"]
    assert node == {"name": "atlas", "error": "its VRAM agent does not answer", "devices": []}


async def test_an_agent_that_can_not_be_reached_is_shown_beside_those_that_answer(
    paged: Settings, asked: Asked
) -> None:
    assert paged.page is not None
    page = replace(paged.page, agents=(*paged.page.agents, Endpoint(LOOPBACK, 1), NOBODY))
    nodes = (await status_of(Discovery(replace(paged, page=page))))["nodes"]
    assert {node["name"]: node["error"] for node in nodes} == {
        "atlas": None,
        f"{LOOPBACK}:1": "its VRAM agent does not answer",
    }


@pytest.mark.parametrize("text", ['{"node": "atlas"}', "", "<html>"])
async def test_an_agent_that_speaks_otherwise_is_shown_as_such(paged: Settings, asked: Asked, text: str) -> None:
    asked.text = text
    (node,) = (await status_of(Discovery(paged)))["nodes"]
    assert node["error"] == "its VRAM agent is of another version"


async def test_without_agents_and_counters_the_rest_is_told(settings: Settings) -> None:
    found = await status_of(Discovery(replace(settings, page=Page((NOBODY,), (NOBODY,)))))
    assert (found["nodes"], found["models"], found["events"]) == ([], [], [])


async def test_the_page_and_its_files_are_for_reading_and_run_nothing_else(paged: Settings) -> None:
    async with TestClient(TestServer(app(Discovery(paged)))) as client:
        for path, kind in (("/", "html"), ("/page.css", "css"), ("/page.js", "javascript"), ("/status", "json")):
            answer = await client.get(path)
            assert (answer.status, answer.content_type.rpartition("/")[2]) == (200, kind)
            assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
            assert "unsafe" not in answer.headers["Content-Security-Policy"]
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert "Access-Control-Allow-Origin" not in answer.headers
            assert (await client.post(path)).status == 405


async def test_where_there_is_no_page_there_is_nothing(settings: Settings) -> None:
    async with TestClient(TestServer(app(Discovery(settings)))) as client:
        assert [(await client.get(path)).status for path in ("/", "/page.js", "/status")] == [404] * 3


def test_addresses_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIVE_DASHBOARD_URL", "http://head:8265")
    assert environment.from_environment().page is None
    monkeypatch.setenv("HIVE_AGENTS", "hive-agent:9410")
    monkeypatch.setenv("HIVE_GATEWAYS", "127.0.0.1:1,[::1]:2")
    assert json.dumps(environment.from_environment().page.agents) == '[["hive-agent", 9410]]'
    assert environment.from_environment().page.gateways == (Endpoint("127.0.0.1", 1), Endpoint("::1", 2))
