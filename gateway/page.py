"""The page for people, at `/`: three files beside this one, and `/status`, which they show. Reading only."""

from pathlib import Path

from aiohttp import web

from gateway.discovery import Discovery
from gateway.lookout import Lookout
from gateway.settings import Page

HERE = Path(__file__).parent
FILES = {"/": "page.html", "/page.css": "page.css", "/page.js": "page.js"}
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
# Nothing but this page's own files runs or is fetched, and no other page frames it.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def add(routes: web.Application, discovery: Discovery, page: Page) -> None:
    """Answer for the page too."""
    lookout = Lookout(discovery, page)

    async def file(request: web.Request) -> web.Response:
        path = HERE / FILES[request.path]
        headers = HEADERS | {"Cache-Control": "no-cache"}
        return web.Response(body=path.read_bytes(), headers=headers, content_type=TYPES[path.suffix], charset="utf-8")

    async def status(_: web.Request) -> web.Response:
        headers = HEADERS | {"Cache-Control": "no-store"}
        return web.Response(text=await lookout.status(), headers=headers, content_type="application/json")

    for path in FILES:
        routes.router.add_get(path, file, allow_head=False)
    routes.router.add_get("/status", status, allow_head=False)
