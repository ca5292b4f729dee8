"""Asks the VRAM agents and all gateways' counters for the page: while somebody looks, and once a second at most."""

import asyncio
import math
import socket
import time
from collections import deque
from collections.abc import Iterable

import aiohttp
from pydantic import ValidationError
from yarl import URL

from gateway import status
from gateway.applications import applications
from gateway.discovery import Discovery
from gateway.settings import Endpoint, Page
from gateway.status import Sample, Silent, Status
from vram_agent.api import State

PERIOD = 1.0  # seconds that one look stands for, however many look at it
WINDOW = 10.0  # seconds that tokens are counted over: they come in lumps, an answer at a time
PATIENCE = 2.0  # seconds for a name to be resolved, and for an agent to answer
COUNTERS = {"filter": r"^hive\.completion_tokens\."}  # Envoy's own spelling of them
ASKING = (OSError, aiohttp.ClientError)  # a TimeoutError is an OSError


class Lookout:
    """One gateway's eye on everything. Discovery goes on whatever happens here.

    Args:
        discovery: what Ray Serve said last.
        page: whom to ask.
    """

    def __init__(self, discovery: Discovery, page: Page) -> None:
        self._discovery = discovery
        self._page = page
        self._lock = asyncio.Lock()
        self._looked = -math.inf
        self._text = ""
        self._samples: deque[Sample] = deque()
        self._names: dict[URL, str] = {}  # of the nodes, by the addresses of their agents

    async def status(self) -> str:
        """A `Status` in JSON, not older than `PERIOD`."""
        async with self._lock:
            if time.monotonic() - self._looked >= PERIOD:
                self._text = (await self._look()).model_dump_json()
                self._looked = time.monotonic()
            return self._text

    async def _look(self) -> Status:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE)) as http:
            said, sample = await asyncio.gather(self._agents(http), self._counters(http))
        self._samples.append(sample)
        while self._samples[0].time < sample.time - WINDOW:
            self._samples.popleft()
        known = self._discovery
        return Status(
            time=time.time(),
            asks_for_keys=known.settings.keys is not None,
            serve_answers=known.serve_answers,
            models=status.models(
                known.config.models,
                applications(known.details),
                known.cards,
                status.tokens_per_second(self._samples),
            ),
            nodes=status.nodes(said),
            events=status.events(said),
        )

    async def _agents(self, http: aiohttp.ClientSession) -> list[State | Silent]:
        return await asyncio.gather(*(self._agent(http, url) for url in await _urls(self._page.agents, "/v1/state")))

    async def _agent(self, http: aiohttp.ClientSession, url: URL) -> State | Silent:
        try:
            state = State.model_validate_json(await _read(http, url))
        except ValidationError:
            return Silent(self._name(url), "its VRAM agent is of another version")
        except ASKING:
            return Silent(self._name(url), "its VRAM agent does not answer")
        self._names[url] = state.node
        return state

    def _name(self, url: URL) -> str:
        return self._names.get(url, f"{url.host}:{url.port}")

    async def _counters(self, http: aiohttp.ClientSession) -> Sample:
        """Of all gateways that answer."""
        urls = await _urls(self._page.gateways, "/metrics")
        found = await asyncio.gather(*(_read(http, url.with_query(COUNTERS)) for url in urls), return_exceptions=True)
        counted = {
            str(url): status.tokens(text)
            for url, text in zip(urls, found, strict=True)
            if not isinstance(text, BaseException)
        }
        return Sample(time.monotonic(), counted)


async def _read(http: aiohttp.ClientSession, url: URL) -> str:
    async with http.get(url) as answer:
        answer.raise_for_status()
        return await answer.text()


async def _urls(endpoints: Iterable[Endpoint], path: str) -> list[URL]:
    """One for each address that a name stands for now."""
    found = await asyncio.gather(*map(_addresses, endpoints))
    urls = {
        URL.build(scheme="http", host=host, port=endpoint.port, path=path)
        for endpoint, hosts in zip(endpoints, found, strict=True)
        for host in hosts
    }
    return sorted(urls)


async def _addresses(endpoint: Endpoint) -> set[str]:
    """A name that nobody has now is a Service without pods."""
    try:
        async with asyncio.timeout(PATIENCE):
            found = await asyncio.get_running_loop().getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
    except OSError:
        return set()
    return {str(address[0]) for *_, address in found}
