"""What this process answers, to Envoy alone: a unix socket beside it."""

import asyncio

import aiohttp
from aiohttp import web

from gateway import catalog, page
from gateway.discovery import Discovery
from gateway.envoy import CLIENT_HEADER

LEAST_SECONDS = 5.0  # for a Service to forget a pod that goes away
ACTIVE = "http.gateway.downstream_rq_active"


def app(discovery: Discovery) -> web.Application:
    """The routes."""

    async def models(request: web.Request) -> web.Response:
        return web.json_response(_listed(request))

    async def model(request: web.Request) -> web.Response:
        name, listed = request.match_info["name"], _listed(request)
        for card in listed["data"]:
            if card["id"] == name:
                return web.json_response(card)
        return web.json_response(catalog.unknown(name, listed), status=404)

    async def idle(_: web.Request) -> web.Response:
        """Answers when Envoy has no request under way: a pod that goes away waits for this (preStop)."""
        await asyncio.sleep(LEAST_SECONDS)
        connector = aiohttp.UnixConnector(path=str(discovery.settings.admin))
        async with aiohttp.ClientSession(connector=connector) as admin:
            while True:
                async with admin.get("http://envoy/stats", params={"filter": f"^{ACTIVE}$"}) as answer:
                    if (await answer.text()).strip() == f"{ACTIVE}: 0":
                        return web.Response(text="idle\n")
                await asyncio.sleep(0.5)

    def _listed(request: web.Request) -> catalog.Json:
        return catalog.listing(discovery.cards, discovery.config, request.headers.get(CLIENT_HEADER))

    routes = web.Application()
    routes.router.add_get("/v1/models", models)
    routes.router.add_get("/v1/models/{name:.+}", model)
    routes.router.add_get("/idle", idle)
    if discovery.settings.page is not None:
        page.add(routes, discovery, discovery.settings.page)
    return routes
