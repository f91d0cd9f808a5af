"""How a request is answered that no session answers: refusals, CORS, and what becomes of an accepted WebSocket."""

from collections.abc import Mapping

from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from freshet.config import Bound
from freshet.model.frame import Handshake
from freshet.transports import asgi, native
from freshet.transports.native import AcceptedSocket

BUSY = "Too many clients connect at once, or the server stops: try again later.\n"
METHODS = "GET, POST, OPTIONS"
TOO_BIG = 413


def plain(status: int, text: str, headers: Mapping[str, str] | None = None) -> PlainTextResponse:
    return PlainTextResponse(text, status, headers)


def at_most(bound: Bound) -> str:
    return f"At most {bound.size} bytes, see {bound.option}.\n"


async def answer(response: Response, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request, also one for a WebSocket, with a response; a server that cannot do that closes with 1008."""
    if scope["type"] == "websocket":
        await receive()  # websocket.connect
        if "websocket.http.response" not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": 1008})
            return
    await response(scope, receive, send)


async def carry_websocket(accepted: AcceptedSocket | Response, scope: Scope, receive: Receive, send: Send) -> None:
    """Accept a WebSocket, and let the session have it: directly where Freshet serves, otherwise by ASGI messages.

    A response: it is refused, with that.
    """
    if isinstance(accepted, Response):
        await answer(accepted, scope, receive, send)
        return
    take_over: native.Takeover | None = scope.get("extensions", {}).get(native.EXTENSION)
    if take_over is not None:
        take_over(*accepted)
    else:
        await asgi.converse(*accepted, receive, send)


def cors(request: Handshake, methods: str = METHODS) -> dict[str, str]:
    """What a browser wants to see before a page of another origin, one that is allowed, may read the answer."""
    page = request.headers.get("origin")
    if page is None:
        return {"Cache-Control": "no-store"}
    whose = (
        {"Access-Control-Allow-Origin": "*"}
        if request.shared
        else {"Access-Control-Allow-Origin": page, "Access-Control-Allow-Credentials": "true"}
    )
    return {
        "Cache-Control": "no-store",
        **whose,
        "Access-Control-Allow-Methods": methods,
        "Access-Control-Allow-Headers": request.headers.get("access-control-request-headers", "Content-Type"),
        "Vary": "Origin",
    }


def raw(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """As ASGI has them, without what a stream says itself."""
    return [
        (name.lower().encode(), value.encode("latin-1")) for name, value in headers.items() if name != "Cache-Control"
    ]
