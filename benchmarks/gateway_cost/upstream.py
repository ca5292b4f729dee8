"""Replicas that answer at once: `python -m benchmarks.gateway_cost.upstream PORT COUNT`.

Each has a loopback address of its own, as replicas have: Envoy takes one address for one replica.

A chat gets a whole answer. One with `stream` gets its first event, and then nothing more until the client leaves.
"""

import asyncio
import json
import sys

from aiohttp import web

WHOLE = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "any",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Paris"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 12, "completion_tokens": 1, "total_tokens": 13},
}
FIRST = {
    "id": "chatcmpl-1",
    "object": "chat.completion.chunk",
    "created": 1,
    "model": "any",
    "choices": [{"index": 0, "delta": {"role": "assistant", "content": "Paris"}, "finish_reason": None}],
}


def address(number: int) -> str:
    """Of the replica with this number, from 0 on; Linux has all of 127.0.0.0/8 on loopback."""
    return f"127.0.0.{number + 1}"


async def chat(request: web.Request) -> web.StreamResponse:
    if not (await request.json()).get("stream"):
        return web.json_response(WHOLE)
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    await response.write(f"data: {json.dumps(FIRST)}\n\n".encode())
    await asyncio.Event().wait()
    return response


if __name__ == "__main__":
    port, count = map(int, sys.argv[1:])
    app = web.Application()
    app.router.add_post("/{path:.*}", chat)
    web.run_app(app, host=[address(number) for number in range(count)], port=port, access_log=None, print=None)
