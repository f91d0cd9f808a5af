"""The files of the admin page, and what stands at the root: where everything is, for who has just started a server."""

from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send

HEADERS = {
    "Cache-Control": "no-cache",  # the files' names do not change with their content
    "Content-Security-Policy": "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
PAGES = Path(__file__).parent / "pages"
FILES = {
    **{path.name: path for path in PAGES.iterdir() if path.suffix != ".html"},
    "": PAGES / "admin.html",
}
"""By their names below `/admin/`. They hold no secret, so that they need no key."""

HERE = (
    "This is Freshet, the real-time server. Clients connect below this URL, such as at connection/websocket or "
    "channels/{channel}; the server API is at api/, and for operators there is admin/, once it has a key.\n"
)


class PageFile:
    """One file of a page."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await FileResponse(self._path, headers=HEADERS)(scope, receive, send)


def admin_routes(socket: ASGIApp) -> list[BaseRoute]:
    """socket: what opens the WebSocket of the page."""
    return [
        Route("/admin", RedirectResponse("admin/"), methods=["GET"]),
        WebSocketRoute("/admin/connection/websocket", socket),
        *(Route(f"/admin/{name}", PageFile(path), methods=["GET"]) for name, path in FILES.items()),
    ]


def root_routes(*, dev: bool) -> list[BaseRoute]:
    """dev: a page for who tries it; otherwise a word for who comes by."""
    return [Route("/", PageFile(PAGES / "welcome.html") if dev else _here, methods=["GET"])]


def _here(request: Request) -> Response:
    return PlainTextResponse(HERE, 404)
