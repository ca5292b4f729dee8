"""What Envoy gets from beside itself."""

from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from gateway.discovery import Discovery
from gateway.server import app
from gateway.settings import Settings
from tests.unit.gateway.conftest import Fakes, Look, Place


@pytest.fixture
async def client(settings: Settings, place: Place, fakes: Fakes, look: Look) -> AsyncIterator[TestClient]:
    place.chart("a", "b", alice=["a"])
    fakes.serve("a", "b")
    discovery = Discovery(settings)
    await look(discovery)
    async with TestClient(TestServer(app(discovery))) as client:
        yield client


async def listed(client: TestClient, **headers: str) -> list[str]:
    answer = await client.get("/v1/models", headers={key.replace("_", "-"): value for key, value in headers.items()})
    assert answer.status == 200
    assert answer.content_type == "application/json"
    return [card["id"] for card in (await answer.json())["data"]]


async def test_all_models_are_listed_to_who_may_use_all(client: TestClient) -> None:
    assert await listed(client) == ["a", "b"]
    assert await listed(client, x_hive_client="bob") == ["a", "b"]
    assert await listed(client, x_hive_client="alice") == ["a"]


async def test_one_model_is_shown_as_it_is_listed(client: TestClient) -> None:
    answer = await client.get("/v1/models/a")
    assert answer.status == 200
    assert await answer.json() == {"id": "a", "owned_by": "hive", "model": "a"}


@pytest.mark.parametrize("name", ["c", "b", "b/c", "owner/a:b"])
async def test_a_model_that_is_not_listed_to_one_does_not_exist_for_one(client: TestClient, name: str) -> None:
    """Nor does the answer say that it does for others. Names may have slashes."""
    answer = await client.get(f"/v1/models/{name}", headers={"x-hive-client": "alice"})
    assert answer.status == 404
    error = (await answer.json())["error"]
    assert error["code"] == "model_not_found"
    assert error["message"] == f"The model `{name}` does not serve. The models that do are: a"


async def test_a_name_with_slashes_is_found(client: TestClient, fakes: Fakes, settings: Settings, look: Look) -> None:
    fakes.cards = lambda model: web.json_response({"data": [{"id": "owner/Model-7B:v1"}]})
    discovery = Discovery(settings)
    await look(discovery)
    async with TestClient(TestServer(app(discovery))) as other:
        assert (await other.get("/v1/models/owner/Model-7B:v1")).status == 200
        assert (await other.get("/v1/models/owner%2FModel-7B%3Av1")).status == 200


async def test_nothing_else_is_answered(client: TestClient) -> None:
    assert (await client.post("/v1/models")).status == 405
    assert (await client.get("/")).status == 404
