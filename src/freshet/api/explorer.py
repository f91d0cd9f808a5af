"""The page to try the server API, `GET /api/`: written from the description, it asks as any caller does."""

from pathlib import Path

from starlette.responses import FileResponse
from starlette.types import Receive, Scope, Send

HEADERS = {
    "Cache-Control": "no-cache",  # the files' names do not change with their content
    "Content-Security-Policy": "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
HERE = Path(__file__).parent
FILES = {
    "": HERE / "pages" / "explorer.html",
    "explorer.css": HERE / "pages" / "explorer.css",
    "explorer.js": HERE / "pages" / "explorer.js",
    # What it has in common with our other pages.
    "shared.css": HERE.parent / "static" / "assets" / "shared.css",
    "theme.js": HERE.parent / "static" / "theme.js",
    "icon.svg": HERE.parent / "static" / "icon.svg",
}
"""By their names below `/api/`. They hold no secret, so that they need no key."""


class ExplorerFile:
    """One file of the page."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await FileResponse(self._path, headers=HEADERS)(scope, receive, send)
