"""The URL of Socket.IO: opens Engine.IO lines, over HTTP polls and WebSockets, and finds them again by their `sid`."""

import asyncio
from collections.abc import Callable, MutableMapping
from typing import Any

import msgspec
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from freshet.dialects.socketio import engineio
from freshet.dialects.socketio.packets import SocketIO
from freshet.endpoints.opening import carry_websocket, cors, handshake_of, refuse_websocket, turned_away
from freshet.endpoints.socketio import polling as poll
from freshet.endpoints.socketio.engine import Line, Lines, Socket, Upper
from freshet.endpoints.socketio.sessions import Sockets
from freshet.errors import EngineUnavailable
from freshet.model.frame import Handshake
from freshet.node.node import Node
from freshet.policy import origin

VERB = "line"
MakeUpper = Callable[[Line, Handshake], Upper]

UNKNOWN_TRANSPORT, UNKNOWN_SID, BAD_METHOD, BAD_REQUEST, FORBIDDEN, UNSUPPORTED_VERSION = range(6)
MESSAGES = {
    UNKNOWN_TRANSPORT: "Transport unknown",
    UNKNOWN_SID: "Session ID unknown",
    BAD_METHOD: "Bad handshake method",
    BAD_REQUEST: "Bad request",
    FORBIDDEN: origin.REFUSAL.strip(),
    UNSUPPORTED_VERSION: "Unsupported protocol version",
}


def socketio(node: Node) -> MakeUpper:
    """Socket.IO over a line."""

    def dialect(name: str) -> SocketIO | None:
        namespace = node.hooks.namespaces.get(name)
        return namespace.dialect if namespace else None

    return lambda line, handshake: Sockets(line, node.open, dialect, handshake)


class _Passed(msgspec.Struct, array_like=True):
    """A request from the node that it reached to the one that has its line."""

    sid: str
    method: str
    body: bytes


class EngineEndpoint:
    """upper: what is spoken over a line that a request opens."""

    def __init__(self, node: Node, upper: MakeUpper) -> None:
        self._node = node
        self._upper = upper
        self._lines = Lines(node, node.turn, node.id)
        node.peers.verbs[VERB] = self._answered_here

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        request = handshake_of(scope, headers)
        wrong = self._wrong(scope, headers, request)
        if scope["type"] == "websocket":
            await self._websocket(wrong, request, scope, receive, send)
        elif wrong is None and scope["method"] == "OPTIONS":
            await Response(None, 204, cors(headers))(scope, receive, send)
        else:
            await self._http(wrong, request, scope, receive, send)

    def _wrong(self, scope: Scope, headers: Headers, request: Handshake) -> int | None:
        """Why a request is refused, by Engine.IO's numbers."""
        query, websocket = request.query, scope["type"] == "websocket"
        if not origin.allowed(headers.get("origin"), headers.get("host"), self._node.config.origins):
            return FORBIDDEN
        if not websocket and scope["method"] == "OPTIONS":
            return None
        if query.get("transport") != ("websocket" if websocket else "polling"):
            return UNKNOWN_TRANSPORT
        if query.get("EIO") != engineio.VERSION:
            return UNSUPPORTED_VERSION
        if "sid" not in query:
            return None if websocket or scope["method"] == "GET" else BAD_METHOD
        line = self._lines.find(query["sid"])
        if line is None:
            return UNKNOWN_SID
        return BAD_REQUEST if line.socket is not None and not websocket else None

    # ------------------------------------------------------------------------------------------------------ WebSocket

    async def _websocket(
        self, wrong: int | None, request: Handshake, scope: Scope, receive: Receive, send: Send
    ) -> None:
        if wrong is not None:
            await refuse_websocket(403 if wrong == FORBIDDEN else 400, MESSAGES[wrong], scope, receive, send)
            return
        line = self._lines.find(request.query.get("sid", ""))
        if line is None and await turned_away(self._node, scope, receive, send):
            return
        socket = Socket(line or self._open(request), self._lines, probes=line is not None)
        await carry_websocket(socket, None, scope, receive, send)

    def _open(self, request: Handshake) -> Line:
        return self._lines.open(lambda line: self._upper(line, request))

    # ----------------------------------------------------------------------------------------------------------- HTTP

    async def _http(self, wrong: int | None, request: Handshake, scope: Scope, receive: Receive, send: Send) -> None:
        headers = cors(Headers(scope=scope)) if wrong != FORBIDDEN else {}
        sid = request.query.get("sid", "")
        if wrong == UNKNOWN_SID and self._node.peers.knows(sid.partition(".")[0]):
            await _send(await self._passed_on(sid, scope["method"], receive), headers)(scope, receive, send)
            return
        if wrong is not None:
            await _refusal(403 if wrong == FORBIDDEN else 400, wrong, MESSAGES[wrong], headers)(scope, receive, send)
            return
        line = self._lines.find(sid)
        if line is None:
            if await turned_away(self._node, scope, receive, send, headers):
                return
            opening = self._open(request).opening(["websocket"])
            await _text(opening.data, headers)(scope, receive, send)
            return
        answer = await self._answer(scope["method"], line, receive)
        if answer is not None:  # otherwise nobody is there to answer
            await _send(answer, headers)(scope, receive, send)

    @staticmethod
    async def _answer(method: str, line: Line, receive: Receive) -> poll.Response | None:
        if method == "GET":
            return await poll.poll(line, receive)
        if method == "POST":
            return await poll.post(line, receive)
        return poll.Response(400, b"expected GET or POST", BAD_REQUEST)

    # ------------------------------------------------------------------------------------------- lines of other nodes

    async def _passed_on(self, sid: str, method: str, receive: Receive) -> poll.Response:
        """What the node that has the line answers."""
        node, limit, timing = self._node, self._node.limits.message_size, self._node.timing
        body = await poll.read(receive, limit)
        if body is None:
            return poll.Response(413, b"at most %d bytes" % limit, BAD_REQUEST)
        question = msgspec.msgpack.encode(_Passed(sid, method, body))
        patience = timing.ping_interval + timing.pong_timeout + 5
        asking = asyncio.get_running_loop().create_task(node.peers.ask(sid.partition(".")[0], VERB, question, patience))
        gone = asyncio.get_running_loop().create_task(poll.gone(receive))
        try:
            await asyncio.wait((asking, gone), return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                return poll.Response(200, b"")  # nobody is there to answer
            return msgspec.msgpack.decode(asking.result(), type=poll.Response)
        except EngineUnavailable as why:
            return poll.Response(503, f"the node of this session cannot be reached: {why}".encode(), UNKNOWN_SID)
        finally:
            asking.cancel()
            gone.cancel()

    async def _answered_here(self, body: bytes, gone: asyncio.Event) -> bytes:
        """For a request that reached another node. gone: its client is no longer there."""
        it = msgspec.msgpack.decode(body, type=_Passed)
        told = False

        async def receive() -> MutableMapping[str, Any]:
            nonlocal told
            if told or it.method == "GET":
                await gone.wait()
                return {"type": "http.disconnect"}
            told = True
            return {"type": "http.request", "body": it.body}

        line = self._lines.find(it.sid)
        if line is None:
            answer: poll.Response | None = poll.Response(400, MESSAGES[UNKNOWN_SID].encode(), UNKNOWN_SID)
        else:
            answer = await self._answer(it.method, line, receive)
        return msgspec.msgpack.encode(answer or poll.Response(200, b""))


def _send(answer: poll.Response, headers: MutableMapping[str, str]) -> Response:
    if answer.code is not None:
        return _refusal(answer.status, answer.code, answer.body.decode(), headers)
    return _text(answer.body, headers)


def _text(body: bytes, headers: MutableMapping[str, str]) -> Response:
    return Response(body, 200, headers, "text/plain; charset=UTF-8")


def _refusal(status: int, code: int, message: str, headers: MutableMapping[str, str]) -> Response:
    answer: dict[str, Any] = {"code": code, "message": message}
    return Response(msgspec.json.encode(answer), status, headers, "application/json")
