"""A Ray Serve that says what the test wants, replicas that it names, and the folder that Envoy would work in."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway.discovery import Discovery
from gateway.settings import Settings

LOOPBACK = "127.0.0.1"
Answer = Callable[[], web.Response]


@dataclass
class Fakes:
    """Ray's dashboard and one replica, which serves every model."""

    replica: int = 0
    dashboard: str = ""
    models: dict[str, list[tuple[str, int]]] = field(default_factory=dict)
    answer: Answer | None = None  # what the dashboard answers in place of the truth
    cards: Callable[[str], web.Response] | None = None  # what the replica does
    asked: list[str] = field(default_factory=list)  # whose cards
    headers: list[dict[str, str]] = field(default_factory=list)  # what the dashboard was sent

    async def applications(self, request: web.Request) -> web.Response:
        self.headers.append(dict(request.headers))
        if self.answer is not None:
            return self.answer()
        groups = [
            {
                "app_name": model,
                "route_prefix": f"/models/{model}",
                "protocol": "HTTP",
                "targets": [
                    {"ip": ip, "port": port, "instance_id": "", "name": f"SERVE_REPLICA::{model}#Model#{port}"}
                    for ip, port in replicas
                ],
            }
            for model, replicas in self.models.items()
        ]
        said = {"http_options": {"host": "0.0.0.0"}, "target_groups": groups, "applications": {}}
        return web.json_response(said)

    async def listed(self, request: web.Request) -> web.Response:
        model = request.match_info["model"]
        self.asked.append(model)
        if self.cards is not None:
            return self.cards(model)
        return web.json_response({"object": "list", "data": [{"id": model, "root": "/models/x", "owned_by": "vllm"}]})

    def serve(self, *models: str) -> None:
        """One replica each, here."""
        self.models = {model: [(LOOPBACK, self.replica)] for model in models}


@dataclass
class Place:
    """The working directory of a gateway."""

    root: Path

    @property
    def run(self) -> Path:
        return self.root / "run"

    def chart(self, *models: str, **allowed: list[str]) -> None:
        """What the chart renders for these models."""
        folder = self.root / "config"
        folder.mkdir(exist_ok=True)
        names = {model: [model, f"{model}-alias"] for model in models}
        (folder / "gateway.json").write_text(json.dumps({"models": names, "allowed": allowed}))

    def replicas(self, model: str) -> list[tuple[str, int]]:
        """Where Envoy is told that they are."""
        (assignment,) = json.loads((self.run / "replicas.json").read_text())["resources"]
        own = {"filter_metadata": {"envoy.lb": {"model": model}}}
        found = [one for one in assignment["endpoints"][0]["lb_endpoints"] if one["metadata"] == own]
        addresses = [one["endpoint"]["address"]["socket_address"] for one in found]
        return [(address["address"], address["port_value"]) for address in addresses]

    def files(self) -> dict[str, tuple[bytes, int]]:
        """All that Envoy reads, and which file on the disk each one is: one that is replaced is another one."""
        paths = [path for path in self.run.rglob("*") if path.is_file()]
        return {str(path.relative_to(self.run)): (path.read_bytes(), path.stat().st_ino) for path in paths}


@pytest.fixture
async def fakes() -> AsyncIterator[Fakes]:
    fakes = Fakes()
    dashboard, replica = web.Application(), web.Application()
    dashboard.router.add_get("/api/serve/applications/", fakes.applications)
    replica.router.add_get("/models/{model}/v1/models", fakes.listed)
    async with TestServer(dashboard) as first, TestServer(replica) as second:
        fakes.dashboard = f"http://{LOOPBACK}:{first.port}"
        fakes.replica = second.port or 0
        yield fakes


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """With run/, which the pod has as a volume."""
    place = Place(tmp_path)
    place.run.mkdir()
    return place


@pytest.fixture
def settings(place: Place, fakes: Fakes) -> Settings:
    return Settings(fakes.dashboard, None, None, config=place.root / "config", run=place.run, period=0)


Look = Callable[[Discovery], Awaitable[Any]]


@pytest.fixture
async def look() -> AsyncIterator[Look]:
    """One look, as `Discovery.run` makes it."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as http:
        yield lambda discovery: discovery.look(http)
