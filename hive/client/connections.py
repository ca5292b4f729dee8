"""The official client, with connections that are used again and closed at the end."""

import asyncio
import atexit
from collections.abc import AsyncGenerator
from functools import cache

import openai

from hive.client.addresses import Address


@cache
def sync(address: Address) -> openai.OpenAI:
    """One for each address, for all threads."""
    client = openai.OpenAI(base_url=address.base_url, api_key=address.api_key or "unused")
    atexit.register(client.close)
    return client


async def asynchronous(address: Address) -> openai.AsyncOpenAI:
    """One for each address and event loop, because connections can't go from one loop to another."""
    loop = asyncio.get_running_loop()
    if loop not in _loops:
        _loops[loop] = _Clients(loop)
    return await _loops[loop].client(address)


class _Clients:
    """Those of one event loop. They are closed when it ends, which `asyncio.run` tells its asynchronous generators."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._clients: dict[Address, openai.AsyncOpenAI] = {}
        self._end = self._wait_for_the_end()

    async def client(self, address: Address) -> openai.AsyncOpenAI:
        if not self._clients:
            await anext(self._end)  # from here on the loop knows of it
        if address not in self._clients:
            self._clients[address] = openai.AsyncOpenAI(base_url=address.base_url, api_key=address.api_key or "unused")
        return self._clients[address]

    async def _wait_for_the_end(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            _loops.pop(self._loop, None)
            for client in self._clients.values():
                await client.close()


_loops: dict[asyncio.AbstractEventLoop, _Clients] = {}
