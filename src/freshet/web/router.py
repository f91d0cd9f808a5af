"""Which URL speaks which dialect."""

from collections.abc import Callable
from urllib.parse import parse_qsl

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.routing import Route, Router, WebSocketRoute
from starlette.types import Receive, Scope, Send

from freshet.dialects.base import Dialect
from freshet.dialects.centrifuge import Centrifuge
from freshet.dialects.channel_url import ChannelUrl
from freshet.model import Handshake
from freshet.node import Node
from freshet.policy import origin
from freshet.transports import asgi, native
from freshet.web.api import Api
from freshet.web.explorer import FILES, Page
from freshet.web.openapi import Description

Select = Callable[[Scope], Dialect]


class WebSocketEndpoint:
    """Opens a session over WebSocket. select: the dialect for a request."""

    def __init__(self, node: Node, select: Select) -> None:
        self._node = node
        self._select = select

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        if not origin.allowed(headers.get("origin"), headers.get("host"), self._node.config.origins):
            await self._refuse(scope, receive, send)
            return
        dialect = self._select(scope)
        session = self._node.open(dialect, _handshake(scope, headers))
        subprotocol = dialect.subprotocol if dialect.subprotocol in scope.get("subprotocols", ()) else None
        take_over: native.Takeover | None = scope.get("extensions", {}).get(native.EXTENSION)
        if take_over is not None:
            take_over(session, subprotocol)
        else:
            await asgi.converse(session, subprotocol, receive, send)

    @staticmethod
    async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        if "websocket.http.response" in scope.get("extensions", {}):
            text = "This origin is not allowed here: see the option `origins`.\n"
            await PlainTextResponse(text, 403)(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})


def _handshake(scope: Scope, headers: Headers) -> Handshake:
    joined: dict[str, str] = {}
    for name, value in headers.items():
        joined[name] = f"{joined[name]}, {value}" if name in joined else value
    peer = scope.get("client")
    return Handshake(
        path=scope["path"].removeprefix(scope.get("root_path", "")),
        query=dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)),
        headers=joined,
        client=f"{peer[0]}:{peer[1]}" if peer else "",
        subprotocols=tuple(scope.get("subprotocols", ())),
    )


def router(node: Node) -> Router:
    """All URLs of one node, below whatever prefix it is mounted under."""
    centrifuge = Centrifuge()
    return Router(
        routes=[
            WebSocketRoute("/connection/websocket", WebSocketEndpoint(node, lambda scope: centrifuge)),
            WebSocketRoute(
                "/channels/{channel:path}",
                WebSocketEndpoint(node, lambda scope: ChannelUrl(scope["path_params"]["channel"])),
            ),
            *(Route(f"/api/{name}", Page(path), methods=["GET"]) for name, path in FILES.items()),
            Route("/api/openapi.json", Description(node), methods=["GET"]),
            Route("/api/{method:path}", Api(node)),
        ]
    )
