"""What every endpoint does with a request that opens something: who asks, and how a WebSocket is carried."""

from urllib.parse import parse_qsl

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from freshet.model import Handshake
from freshet.session import Carried
from freshet.transports import asgi, native


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


async def refuse_websocket(status: int, text: str, scope: Scope, receive: Receive, send: Send) -> None:
    await receive()  # websocket.connect
    if "websocket.http.response" in scope.get("extensions", {}):
        await PlainTextResponse(text, status)(scope, receive, send)
    else:
        await send({"type": "websocket.close", "code": 1008})
