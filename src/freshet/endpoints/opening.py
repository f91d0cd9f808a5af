"""What every endpoint does with a request that opens something: who asks, and how a WebSocket is carried."""

from collections.abc import Mapping
from urllib.parse import parse_qsl

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from freshet.model.frame import Handshake
from freshet.node.node import Node
from freshet.session.session import Carried
from freshet.transports import asgi, native

BUSY = "Too many clients come at once: try again a little later.\n"


def handshake_of(scope: Scope, headers: Headers) -> Handshake:
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


async def carry_websocket(
    carried: Carried, subprotocol: str | None, scope: Scope, receive: Receive, send: Send
) -> None:
    """Accept a WebSocket, and let `carried` have it: directly where Freshet serves, otherwise by ASGI messages."""
    take_over: native.Takeover | None = scope.get("extensions", {}).get(native.EXTENSION)
    if take_over is not None:
        take_over(carried, subprotocol)
    else:
        await asgi.converse(carried, subprotocol, receive, send)


async def refuse_websocket(
    status: int, text: str, scope: Scope, receive: Receive, send: Send, headers: Mapping[str, str] | None = None
) -> None:
    await receive()  # websocket.connect
    if "websocket.http.response" in scope.get("extensions", {}):
        await PlainTextResponse(text, status, headers)(scope, receive, send)
    else:
        await send({"type": "websocket.close", "code": 1008})


async def turned_away(
    node: Node, scope: Scope, receive: Receive, send: Send, allow: Mapping[str, str] | None = None
) -> bool:
    """Whether a new client was asked to come again later, because too many come at once or the server ends."""
    wait = node.admits()
    if not wait:
        return False
    headers = {**(allow or {}), "Retry-After": str(wait)}
    if scope["type"] == "websocket":
        await refuse_websocket(503, BUSY, scope, receive, send, headers)
    else:
        await plain(503, BUSY, headers)(scope, receive, send)
    return True


def cors(headers: Headers) -> dict[str, str]:
    """What a browser has to hear before a page of another origin, one that is allowed, may read the answer."""
    page = headers.get("origin")
    if page is None:
        return {"Cache-Control": "no-store"}
    return {
        "Cache-Control": "no-store",
        "Access-Control-Allow-Origin": page,
        "Access-Control-Allow-Credentials": "true",
        "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
        "Access-Control-Allow-Headers": headers.get("access-control-request-headers", "Content-Type"),
        "Vary": "Origin",
    }


def raw(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """As ASGI has them, without what a stream says itself."""
    return [
        (name.lower().encode(), value.encode("latin-1")) for name, value in headers.items() if name != "Cache-Control"
    ]


def plain(status: int, text: str, headers: Mapping[str, str] | None = None) -> PlainTextResponse:
    return PlainTextResponse(text, status, headers)
