"""The gateway as the chart renders it: real Envoy and real discovery, with replicas and a Ray dashboard that are fakes.

A fake replica does what its request says, so that a test can have one that hangs, dies or is slow.
"""

import asyncio
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml
from aiohttp import web

from hive import rendering
from hive.local import gateway, processes
from hive.local.run import Folders, Run
from hive.rendering import ROOT, Rendered
from vram_agent.api import State

Json = dict[str, Any]
CHAT = ("Bees ", "<b>make</b> ", "honey.")
KEYS = {"alice": "sk-alice-0123456789", "bob": "sk-bob-0123456789"}
SECONDS = 20


class Loop:
    """An event loop in a thread of its own, for the fakes."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(SECONDS)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()


class Server:
    """An app on a loopback port of its own."""

    def __init__(self, loop: Loop, app: web.Application) -> None:
        self._loop = loop
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        loop.run(self._start())

    async def _start(self) -> None:
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        assert site._server is not None
        self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]

    def end(self) -> None:
        """Its port is closed, and open connections with it."""
        self._loop.run(self._runner.cleanup())


class FakeReplica(Server):
    """Answers with what it was asked, or does what the field `do` of the body says."""

    def __init__(self, loop: Loop, model: str) -> None:
        self.model = model
        self.asked: list[Json] = []
        self.gone = threading.Event()  # a client left while it was served
        self.asking = threading.Event()
        self.go_on = asyncio.Event()
        app = web.Application(client_max_size=2**30)
        app.router.add_route("*", "/{path:.*}", self._answer)
        super().__init__(loop, app)

    def proceed(self) -> None:
        self._loop.loop.call_soon_threadsafe(self.go_on.set)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/v1/models"):
            card = {"id": self.model, "object": "model", "root": "/inner", "max_model_len": 512, "permission": []}
            card["tasks"] = ["generate"]
            return web.json_response({"object": "list", "data": [card]})
        body = await request.read()
        asked = {"path": request.path, "headers": dict(request.headers), "bytes": len(body), "replica": self.port}
        self.asked.append(asked)
        try:
            said = json.loads(body)
            do = said.get("do", "chat" if said.get("stream") else "plain")
            asked["tokens"] = said.get("tokens", 3)
        except (ValueError, AttributeError):
            do = "plain"
        self.asking.set()
        return await getattr(self, f"_{do}")(request, asked)

    async def _plain(self, request: web.Request, asked: Json) -> web.StreamResponse:
        usage = {"prompt_tokens": 7, "completion_tokens": asked.get("tokens", 3)}
        return web.json_response(asked | {"usage": usage})

    async def _chat(self, request: web.Request, asked: Json) -> web.StreamResponse:
        """A streamed chat as vLLM sends it: the first word, and the rest when the test says that it goes on."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for number, word in enumerate(CHAT):
            await response.write(f"data: {json.dumps({'choices': [{'delta': {'content': word}}]})}\n\n".encode())
            if number == 0:
                await self.go_on.wait()
        usage = {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": len(CHAT)}}
        await response.write(f"data: {json.dumps(usage)}\n\ndata: [DONE]\n\n".encode())
        await response.write_eof()
        return response

    async def _hang(self, request: web.Request, asked: Json) -> web.StreamResponse:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.gone.set()
            raise
        return await self._plain(request, asked)

    async def _large(self, request: web.Request, asked: Json) -> web.StreamResponse:
        return web.json_response(asked | {"data": "x" * 48 * 2**20})

    async def _die(self, request: web.Request, asked: Json) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async def _one_event(self, request: web.Request) -> web.StreamResponse:
        """A stream with its first event, when the test says that it goes on."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b'data: {"n": 1}\n\n')
        await self.go_on.wait()
        return response

    async def _stream(self, request: web.Request, asked: Json) -> web.StreamResponse:
        """One event, then a second one when the test says so."""
        response = await self._one_event(request)
        await response.write(b'data: {"usage": {"prompt_tokens": 5, "completion_tokens": 2}}\n\ndata: [DONE]\n\n')
        await response.write_eof()
        return response

    async def _die_midway(self, request: web.Request, asked: Json) -> web.StreamResponse:
        response = await self._one_event(request)
        assert request.transport is not None
        request.transport.abort()
        return response


class FakeDashboard(Server):
    """Ray's dashboard, as far as discovery asks it."""

    def __init__(self, loop: Loop) -> None:
        self.replicas: dict[str, list[FakeReplica]] = {}
        self.applications: Json = {}
        app = web.Application()
        app.router.add_get("/api/serve/applications/", self._details)
        super().__init__(loop, app)

    async def _details(self, request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "Bearer ray-token"
        groups = [
            {
                "app_name": model,
                "route_prefix": f"/models/{model}",
                "protocol": "HTTP",
                "targets": [
                    {"ip": "192.0.2.1", "port": replica.port, "name": f"SERVE_REPLICA::{model}#Model#{index}"}
                    for index, replica in enumerate(replicas)
                ],
            }
            for model, replicas in self.replicas.items()
        ]
        return web.json_response(
            {"http_options": {"host": "127.0.0.1"}, "target_groups": groups, "applications": self.applications}
        )


class FakeAgent(Server):
    """The VRAM agent of a node, with the state that the test wants."""

    def __init__(self, loop: Loop, state: State) -> None:
        self.state = state
        self.asked = 0
        self.hangs = False
        app = web.Application()
        app.router.add_get("/v1/state", self._state)
        super().__init__(loop, app)

    async def _state(self, request: web.Request) -> web.Response:
        self.asked += 1
        if self.hangs:
            await asyncio.sleep(60)
        return web.Response(text=self.state.model_dump_json(), content_type="application/json")


def application(
    name: str, status: str, *replicas: tuple[str, str], wanted: int | None = None, message: str = ""
) -> Json:
    """What Ray Serve says of one model, whose replicas are (id, state)."""
    listed = [{"replica_id": id_, "state": state, "node_ip": "192.0.2.1", "pid": 1} for id_, state in replicas]
    deployment = {
        "message": "",
        "target_num_replicas": len(replicas) if wanted is None else wanted,
        "replicas": listed,
    }
    return {"name": name, "status": status, "message": message, "deployments": {"Model": deployment}}


@dataclass
class Site:
    """One gateway with its fakes."""

    folder: Path
    values: Json
    loop: Loop = field(default_factory=Loop)
    ports: dict[str, int] = field(default_factory=dict)
    states: Sequence[State] = ()  # of the nodes' agents

    def __post_init__(self) -> None:
        names = ("gateway", "gatewayMetrics")
        self.ports = dict(zip(names, processes.free_ports(len(names)), strict=True))
        self.where = Folders(self.folder.resolve())
        self.dashboard = FakeDashboard(self.loop)
        self.agents = [FakeAgent(self.loop, state) for state in self.states]
        self.where.token.write_text("ray-token\n")
        self.where.keys.mkdir()
        self.where.runtime.mkdir(mode=0o700, exist_ok=True)
        for client, key in KEYS.items():
            (self.where.keys / client).write_text(f"{key}\n")
        url = f"http://127.0.0.1:{self.dashboard.port}"
        self.run = Run("values.yaml", "", url, "", "", f"http://127.0.0.1:{self.ports['gateway']}")
        self.env = os.environ | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "HIVE_DASHBOARD_URL": url,
            "HIVE_TOKEN_FILE": str(self.where.token),
            "HIVE_KEYS_DIR": str(self.where.keys),
            "HIVE_AGENTS": ",".join(f"127.0.0.1:{agent.port}" for agent in self.agents) or "127.0.0.1:1",
            "HIVE_GATEWAYS": f"127.0.0.1:{self.ports['gatewayMetrics']}",
        }

    def rendered(self, **more: Any) -> Rendered:
        path = self.folder / "values.yaml"
        path.write_text(yaml.safe_dump(self.values | {"ports": self.ports} | more))
        return rendering.render(path)

    def start(self) -> None:
        gateway.start(self.run, self.rendered().gateway, self.env, self.where)

    def update(self, **more: Any) -> bool:
        return gateway.update(self.run, self.rendered(**more).gateway, self.env, self.where)

    def add(self, model: str) -> FakeReplica:
        """One more replica; Envoy knows it when this returns."""
        replica = FakeReplica(self.loop, model)
        self.become(model, [*self.dashboard.replicas.get(model, []), replica])
        return replica

    def become(self, model: str, replicas: list[FakeReplica]) -> None:
        """These are the replicas of the model; Envoy knows when this returns."""
        self.dashboard.replicas = self.dashboard.replicas | {model: replicas}
        ports = {replica.port for replica in replicas}
        wait_for(f"Envoy knows {model} at {ports}", lambda: self._known(model) == ports)

    def _known(self, model: str) -> set[int]:
        transport = httpx.HTTPTransport(uds=str(self.where.gateway / "run" / "admin.sock"))
        with httpx.Client(transport=transport, base_url="http://envoy") as admin:
            clusters = admin.get("/config_dump", params={"include_eds": ""}).json()["configs"]
        found = next(c for c in clusters if c["@type"].endswith("EndpointsConfigDump"))
        (replicas,) = [
            config["endpoint_config"]
            for kind in ("dynamic_endpoint_configs", "static_endpoint_configs")
            for config in found.get(kind, [])
            if config["endpoint_config"].get("cluster_name") == "replicas"
        ]
        return {
            host["endpoint"]["address"]["socket_address"]["port_value"]
            for locality in replicas.get("endpoints", [])
            for host in locality.get("lb_endpoints", [])
            if host["metadata"]["filter_metadata"]["envoy.lb"]["model"] == model
        }

    def http(self, client: str | None = "alice") -> httpx.Client:
        headers = {"Authorization": f"Bearer {KEYS[client]}"} if client else {}
        return httpx.Client(base_url=self.run.gateway_url, headers=headers, timeout=SECONDS)

    def chat(self, model: str, client: str | None = "alice", **more: Any) -> httpx.Response:
        with self.http(client) as http:
            return http.post("/v1/chat/completions", json={"messages": []} | more | {"model": model})

    def pid(self, name: str) -> int:
        return next(started.pid for started in self.run.processes if started.name == name)

    def metrics(self) -> str:
        return httpx.get(f"http://127.0.0.1:{self.ports['gatewayMetrics']}/metrics").text

    def log(self) -> list[Json]:
        """Envoy's access log."""
        lines = (self.where.logs / "envoy.log").read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def end(self) -> None:
        alive = [process for started in self.run.processes if (process := started.process())]
        processes.end(alive, SECONDS)
        for replicas in self.dashboard.replicas.values():
            for replica in replicas:
                replica.end()
        for agent in self.agents:
            agent.end()
        self.dashboard.end()
        self.loop.close()


def wait_for(what: str, ready: Callable[[], bool], seconds: float = SECONDS) -> None:
    """Poll until ready; fail with the name of what did not come."""
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, f"not in {seconds} s: {what}"
        time.sleep(0.05)
