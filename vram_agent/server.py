"""The agent's two doors: a unix socket where leases are asked for, and a TCP port where anyone may read.

The socket knows its callers from the kernel (SO_PEERCRED), so a lease is bound to a process without a token.
"""

import socket
import struct
from collections.abc import Awaitable, Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, ValidationError

from vram_agent.agent import Agent, NotHolderError
from vram_agent.api import Claim, LeaseRequest, Reason, Refusal
from vram_agent.records import RefusedError

AGENT = web.AppKey("agent", Agent)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def lease_app(agent: Agent) -> web.Application:
    """What listens on the unix socket."""
    app = _app(agent)
    app.router.add_get("/v1/state", _state)
    app.router.add_post("/v1/leases", _acquire)
    app.router.add_put("/v1/leases/{id}", _claim)
    app.router.add_post("/v1/leases/{id}/active", _activate)
    app.router.add_post("/v1/leases/{id}/sleep", _sleep)
    app.router.add_post("/v1/leases/{id}/wake", _wake)
    app.router.add_delete("/v1/leases/{id}", _drain)
    return app


def public_app(agent: Agent) -> web.Application:
    """What listens on TCP: state, metrics and health, nothing that changes anything."""
    app = _app(agent)
    app.router.add_get("/v1/state", _state)
    app.router.add_get("/metrics", _metrics)
    app.router.add_get("/healthz", _healthz)
    return app


def _app(agent: Agent) -> web.Application:
    app = web.Application(middlewares=[_errors])
    app[AGENT] = agent
    return app


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every error is a Refusal in JSON."""
    try:
        return await handler(request)
    except RefusedError as error:
        return _json(error.refusal, status=409)
    except NotHolderError as error:
        return _invalid(str(error), status=403)
    except KeyError as error:
        return _invalid(f"there is no lease {error.args[0]}", status=404)
    except ValidationError as error:
        return _invalid(f"the request is not valid: {error}", status=400)


async def _state(request: web.Request) -> web.Response:
    return _json(request.app[AGENT].state())


async def _metrics(request: web.Request) -> web.Response:
    body = generate_latest(request.app[AGENT].metrics.registry)
    return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})


async def _healthz(request: web.Request) -> web.Response:
    """200 while every device can be granted from; 503 with the reasons otherwise."""
    broken = {device.id: device.error for device in request.app[AGENT].state().devices if device.error}
    return web.json_response({"broken": broken}, status=503 if broken else 200)


async def _acquire(request: web.Request) -> web.Response:
    body = LeaseRequest.model_validate_json(await request.read())
    return _json(await request.app[AGENT].acquire(body, peer_pid(request)))


async def _claim(request: web.Request) -> web.Response:
    body = Claim.model_validate_json(await request.read())
    if body.request_id != request.match_info["id"]:
        return _invalid("the address and the body name two different leases", status=400)
    return _json(await request.app[AGENT].claim(body, peer_pid(request)))


async def _activate(request: web.Request) -> web.Response:
    return _json(await request.app[AGENT].activate(request.match_info["id"], peer_pid(request)))


async def _sleep(request: web.Request) -> web.Response:
    return _json(await request.app[AGENT].sleep(request.match_info["id"], peer_pid(request)))


async def _wake(request: web.Request) -> web.Response:
    return _json(await request.app[AGENT].wake(request.match_info["id"], peer_pid(request)))


async def _drain(request: web.Request) -> web.Response:
    request.app[AGENT].drain(request.match_info["id"], peer_pid(request))
    return web.Response(status=204)


def peer_pid(request: web.Request) -> int:
    """The caller's PID as the kernel tells it: struct ucred of unix(7), in this process's PID namespace."""
    peer: socket.socket = request.get_extra_info("socket")
    pid, _, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return int(pid)


def _invalid(error: str, status: int) -> web.Response:
    return _json(Refusal(reason=Reason.INVALID, error=error), status=status)


def _json(body: BaseModel, status: int = 200) -> web.Response:
    return web.Response(text=body.model_dump_json(), status=status, content_type="application/json")
