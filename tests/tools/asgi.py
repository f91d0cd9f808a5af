"""One request to an ASGI application in this process, by a client that leaves as soon as it is answered.

httpx waits for the end of a response, and speaks no WebSocket: this is for streams, which have no end, and for those.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from freshet import Freshet
from freshet.endpoints.responses import answer
from freshet.transports import asgi
from freshet.transports.native import EXTENSION, AcceptedSocket
from tests.tools.patience import seconds


class Answered(NamedTuple):
    """status: 101 for a WebSocket that was accepted. code: with which one that had no response was closed."""

    status: int
    headers: dict[str, str]
    body: bytes
    code: int | None = None


def directly(live: Freshet) -> ASGIApp:
    """What accepts WebSockets as `freshet serve` does where nothing has to see the request, in the shape of the long
    way, so that a test can take both. Fails where there is no short one."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        accepted: list[AcceptedSocket] = []

        def take_over(*it: Any) -> None:
            accepted.append(AcceptedSocket(*it))

        response = live._direct.accept({**scope, "extensions": {EXTENSION: take_over}})
        assert response, f"{scope['path']} goes the long way"
        if isinstance(response, Response):
            await answer(response, scope, receive, send)
        else:
            await asgi.converse(*accepted[0], receive, send)

    return app


async def knock(
    app: ASGIApp,
    method: str,
    url: str,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    *,
    may_respond: bool = True,
    stay: asyncio.Event | None = None,
) -> Answered:
    """What a request is answered. method: `WEBSOCKET` for one of those. url: a path and a query.

    may_respond: the server can answer a WebSocket by a response. stay: until this is set.
    """
    answered, sent = asyncio.Event(), list[Any]()
    websocket = method == "WEBSOCKET"
    coming = [{"type": "websocket.connect"} if websocket else {"type": "http.request", "body": body}]

    async def receive() -> Any:
        if coming:
            return coming.pop(0)
        await answered.wait()
        if stay is not None:
            await stay.wait()
        return {"type": "websocket.disconnect", "code": 1001} if websocket else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)
        if "body" in message or message["type"] in ("websocket.accept", "websocket.close"):
            answered.set()

    await asyncio.wait_for(app(_scope(method, url, headers or {}, may_respond), receive, send), seconds(5))
    return _answer(sent)


def _scope(method: str, url: str, headers: Mapping[str, str], may_respond: bool) -> dict[str, Any]:
    target = urlsplit(url)
    kind: dict[str, Any] = {"type": "http", "method": method, "http_version": "1.1", "scheme": "http"}
    if method == "WEBSOCKET":
        extensions: dict[str, Any] = {"websocket.http.response": {}} if may_respond else {}
        kind = {"type": "websocket", "subprotocols": [], "scheme": "ws", "extensions": extensions}
    return {
        **kind,
        "path": unquote(target.path),
        "root_path": "",
        "query_string": target.query.encode(),
        "headers": [(name.lower().encode(), value.encode()) for name, value in {"host": "test", **headers}.items()],
        "client": ("192.0.2.1", 1234),
        "server": ("test", 80),
    }


def _answer(sent: list[Any]) -> Answered:
    first = sent[0]
    if first["type"] == "websocket.accept":
        return Answered(101, {}, b"")
    if first["type"] == "websocket.close":
        return Answered(0, {}, b"", first["code"])
    headers = {name.decode(): value.decode() for name, value in first["headers"]}
    return Answered(first["status"], headers, b"".join(message.get("body", b"") for message in sent[1:]))


async def status(app: ASGIApp, path: str = "/nowhere") -> int:
    """Of a plain request."""
    return (await knock(app, "GET", path)).status
