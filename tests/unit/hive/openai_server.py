"""An OpenAI API on a real socket that does what the prompt says, and remembers what it was asked."""

import asyncio
import json
from typing import Any

from aiohttp import web

from tests.gateway.site import Loop, Server

Json = dict[str, Any]
CARD: Json = {"id": "m", "object": "model", "created": 1, "owned_by": "hive"}


class OpenAIServer(Server):
    """What the first word of the prompt says is done; the rest is its material.

    say TEXT: answer so. refused N STATUS [SECONDS]: that status N times, with Retry-After where seconds are given, then
    an answer. broken: the connection ends without an answer, and in a stream after one event. hold: answer when the
    test opens the gate. cut TEXT: an answer that max_tokens ended. silent: cut off before any text. deny TEXT: a
    refusal. page: what is no API's answer.
    """

    def __init__(self) -> None:
        self.cards: list[Json] = [CARD]
        self.asked: list[Json] = []
        self.headers: list[dict[str, str]] = []
        self.times: list[float] = []
        self.in_flight = self.most_in_flight = 0
        self.left = 0  # requests whose client went away
        self.connections: set[Any] = set()
        self._gate = asyncio.Event()
        self._refusals: dict[str, int] = {}
        app = web.Application()
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/chat/completions", self._chat)
        loop = Loop()
        super().__init__(loop, app)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def open(self) -> None:
        """Let go of what is held."""
        self._loop.loop.call_soon_threadsafe(self._gate.set)

    def close(self) -> None:
        self.open()
        self.end()
        self._loop.close()

    async def _models(self, request: web.Request) -> web.Response:
        self.headers.append(dict(request.headers))
        return web.json_response({"object": "list", "data": self.cards})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.asked.append(body)
        self.headers.append(dict(request.headers))
        self.times.append(asyncio.get_running_loop().time())
        self.connections.add(request.transport)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        word, _, rest = body["messages"][-1]["content"].partition(" ")
        try:
            return await getattr(self, f"_{word}")(request, body, rest)
        except (asyncio.CancelledError, ConnectionResetError):
            self.left += 1
            raise
        finally:
            self.in_flight -= 1

    async def _say(self, request: web.Request, body: Json, text: str) -> web.StreamResponse:
        return await self._answer(request, body, text, "stop")

    async def _cut(self, request: web.Request, body: Json, text: str) -> web.StreamResponse:
        return await self._answer(request, body, text, "length")

    async def _silent(self, request: web.Request, body: Json, _: str) -> web.StreamResponse:
        return await self._answer(request, body, None, "length")

    async def _deny(self, request: web.Request, body: Json, text: str) -> web.StreamResponse:
        return await self._answer(request, body, None, "stop", refusal=text)

    async def _refused(self, request: web.Request, body: Json, rest: str) -> web.StreamResponse:
        times, status, *seconds = rest.split()
        count = self._refusals[rest] = self._refusals.get(rest, 0) + 1
        if count > int(times):
            return await self._answer(request, body, f"at last, after {times}", "stop")
        error = {"message": f"not now, {status}", "type": "server_error", "param": None, "code": "busy"}
        headers = {"Retry-After": seconds[0]} if seconds else {}
        return web.json_response({"error": error}, status=int(status), headers=headers)

    async def _broken(self, request: web.Request, body: Json, _: str) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        if body.get("stream"):
            await response.prepare(request)
            await response.write(_event({"role": "assistant", "content": "I was "}, None))
        assert request.transport is not None
        request.transport.abort()
        return response

    async def _hold(self, request: web.Request, body: Json, text: str) -> web.StreamResponse:
        """A stream has its first event before the gate."""
        if not body.get("stream"):
            await self._gate.wait()
            return await self._answer(request, body, text, "stop")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(_event({"content": "wait "}, None))
        await self._gate.wait()
        await response.write(_event({"content": text}, "stop") + b"data: [DONE]\n\n")
        return response

    async def _page(self, request: web.Request, body: Json, _: str) -> web.StreamResponse:
        return web.Response(text="<html>It works!</html>", content_type="text/html")

    async def _answer(
        self, request: web.Request, body: Json, text: str | None, reason: str, **message: Any
    ) -> web.StreamResponse:
        if not body.get("stream"):
            choice = {
                "index": 0,
                "finish_reason": reason,
                "message": {"role": "assistant", "content": text, "refusal": None} | message,
            }
            usage = {"prompt_tokens": 1, "completion_tokens": 7, "total_tokens": 8}
            whole = {"id": "1", "object": "chat.completion", "created": 1, "model": body["model"], "usage": usage}
            return web.json_response(whole | {"choices": [choice]})
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for word in (text or "").split():
            await response.write(_event({"content": f"{word} "}, None))
        await response.write(_event({}, reason) + b"data: [DONE]\n\n")
        return response


def _event(delta: Json, reason: str | None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    chunk = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return f"data: {json.dumps(chunk)}\n\n".encode()
