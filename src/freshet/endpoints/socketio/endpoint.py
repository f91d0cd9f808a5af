"""`/socket.io/`: opens Engine.IO sessions, over HTTP polls and WebSockets, and finds them again by their `sid`."""

import asyncio
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from freshet.commands.dispatch import Dispatcher
from freshet.dialects.socketio import engineio
from freshet.endpoints.opening import Opening
from freshet.endpoints.responses import TOO_BIG, carry_websocket, cors, plain
from freshet.endpoints.socketio import polling
from freshet.endpoints.socketio.engine import EngineSession, EngineSessions, EngineWebSocket, MessageLayer
from freshet.endpoints.socketio.handlers import Handlers
from freshet.endpoints.socketio.namespaces import Namespaces
from freshet.endpoints.socketio.proxy import ProxiedWebSockets, WebSocketProxy
from freshet.endpoints.socketio.resume import Resumption
from freshet.endpoints.socketio.sessions import NamespaceOutbox, NamespaceSessions, SocketRecord, SocketSession
from freshet.endpoints.socketio.withdrawn import Withdrawn
from freshet.errors import EngineUnavailable
from freshet.model.frame import Handshake
from freshet.transports import stream
from freshet.transports.native import AcceptedSocket

UNKNOWN_TRANSPORT, UNKNOWN_SID, BAD_METHOD, BAD_REQUEST, FORBIDDEN, UNSUPPORTED_VERSION = range(6)
TOO_MANY = "Too many requests are waiting: try again"
MESSAGES = {
    UNKNOWN_TRANSPORT: "Transport unknown",
    UNKNOWN_SID: "Session ID unknown",
    BAD_METHOD: "Bad handshake method",
    BAD_REQUEST: "Bad request",
    UNSUPPORTED_VERSION: "Unsupported protocol version",
}


class PassedRequest(msgspec.Struct, array_like=True):
    """A request from the node that it reached to the one that has its session."""

    sid: str
    method: str
    body: bytes


OpenMessages = Callable[[EngineSession, Handshake], MessageLayer]


def socketio(opening: Opening, dispatcher: Dispatcher, namespaces: Namespaces) -> "EngineEndpoint":
    """Socket.IO over Engine.IO. namespaces: those that there are."""
    node = dispatcher.node
    withdrawn = Withdrawn(node.engine, lambda: namespaces.longest_recovery)
    node.leaving.withdrawals.append(withdrawn.withdraw)
    resumption = Resumption(node.engine, node.bus, node.tasks, withdrawn)
    Handlers(dispatcher, resumption)

    def open_session(name: str, request: Handshake, outbox: NamespaceOutbox) -> SocketSession | None:
        namespace = namespaces.get(name)
        if namespace is None:
            return None
        outbox.places = {} if namespace.dialect.recovers else None
        record = SocketRecord(namespace, resumption)
        session = dispatcher.open(namespace.dialect, request, outbox, kind=SocketSession, record=record)
        assert isinstance(session, SocketSession)
        return session

    return EngineEndpoint(opening, dispatcher, lambda engine, request: NamespaceSessions(engine, open_session, request))


class EngineEndpoint:
    """open_messages: what is spoken over a session that a request opens. name: of this one, among those of a node."""

    def __init__(
        self, opening: Opening, dispatcher: Dispatcher, open_messages: OpenMessages, name: str = "socket.io"
    ) -> None:
        self._opening = opening
        self._dispatcher = dispatcher
        self._node = dispatcher.node
        self._open_messages = open_messages
        self._sessions = EngineSessions(dispatcher, self._node.turn, self._node.id)
        self._poll, self._socket = f"{name} poll", f"{name} websocket"  # the kinds of request to other nodes
        self._node.bus.waiting_handlers[self._poll] = self._handle
        self._node.bus.handlers[self._socket] = ProxiedWebSockets(self._sessions).handle
        self._node.registry.closers.append(self._sessions.close_all)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        elif (response := await self.reply(scope, receive)) is not None:
            await response(scope, receive, send)

    def accept(self, scope: Scope) -> AcceptedSocket | Response | None:
        """What becomes of a request for a WebSocket; None: its session may be another node's, which has to be asked."""
        request = self._opening.examine(scope, admit=False, refuse=_forbidden)
        if isinstance(request, Response):
            return request
        found = self._find(scope, request)
        return None if self._may_be_elsewhere(found, request) else self._accept(found, request, scope)

    def _find(self, scope: Scope, request: Handshake) -> EngineSession | int | None:
        """The session that a request is for; None: it opens one; or why it is refused, by Engine.IO's numbers."""
        query, websocket = request.query, scope["type"] == "websocket"
        if query.get("transport") != ("websocket" if websocket else "polling"):
            return UNKNOWN_TRANSPORT
        if query.get("EIO") != engineio.VERSION:
            return UNSUPPORTED_VERSION
        if "sid" not in query:
            return None if websocket or scope["method"] == "GET" else BAD_METHOD
        session = self._sessions.find(query["sid"])
        if session is None:
            return UNKNOWN_SID
        return BAD_REQUEST if session.socket is not None and not websocket else session

    def _open(self, request: Handshake) -> EngineSession:
        return self._sessions.open(lambda engine: self._open_messages(engine, request))

    # ------------------------------------------------------------------------------------------------------ WebSocket

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = await self._opening.open(scope, receive, send, admit=False, refuse=_forbidden)
        if request is None:
            return
        found = self._find(scope, request)
        proxied = await self._proxied(request) if self._may_be_elsewhere(found, request) else None
        await carry_websocket(proxied or self._accept(found, request, scope), scope, receive, send)

    def _may_be_elsewhere(self, found: EngineSession | int | None, request: Handshake) -> bool:
        """Whether it asks for a session that another node may have."""
        return found == UNKNOWN_SID and self._node.bus.may_reach(request.query["sid"].partition(".")[0])

    async def _proxied(self, request: Handshake) -> AcceptedSocket | Response | None:
        """By the node that has the session; None: there is no such session."""
        if status := self._node.passed_on.refusal(request.client):
            return plain(status, TOO_MANY)
        sid, bus = request.query["sid"], self._node.bus
        proxy = WebSocketProxy(self._dispatcher, bus, self._socket, sid, self._sessions.outbox())
        with self._node.passed_on.one(request.client):
            return AcceptedSocket(proxy, None) if await proxy.find() else None

    def _accept(self, found: EngineSession | int | None, request: Handshake, scope: Scope) -> AcceptedSocket | Response:
        if isinstance(found, int):
            return plain(400, MESSAGES[found])
        if found is None and (refusal := self._opening.refusal(request, scope)) is not None:
            return refusal
        probes = found is not None
        return AcceptedSocket(EngineWebSocket(found or self._open(request), self._sessions, probes=probes), None)

    # ----------------------------------------------------------------------------------------------------------- HTTP

    async def reply(self, scope: Scope, receive: Receive) -> Response | None:
        """The answer to a request, whoever carries it; None: nobody is there to answer."""
        request = self._opening.examine(scope, admit=False, refuse=_forbidden)
        if isinstance(request, Response):
            return request
        found, headers = self._find(scope, request), cors(request)
        if self._may_be_elsewhere(found, request):
            if status := self._node.passed_on.refusal(request.client):
                return self._respond(polling.PollResponse(status, TOO_MANY.encode(), BAD_REQUEST), headers)
            with self._node.passed_on.one(request.client):
                passed = await self._pass_on(request.query["sid"], scope["method"], receive)
                return self._respond(passed, headers)
        if isinstance(found, int):
            return _refusal(400, found, MESSAGES[found], headers)
        if found is None:
            opened = self._opening.refusal(request, scope, refuse=_later)
            return opened or _text(self._open(request).opening(["websocket"]).data, headers)
        response = await self._answer(scope["method"], found, receive)
        return self._respond(response, headers) if response is not None else None

    def _respond(self, response: polling.PollResponse, headers: Mapping[str, str]) -> Response:
        if response.status == TOO_BIG:
            self._dispatcher.too_big("/socket.io", self._dispatcher.limits.packet)
        if response.code is not None:
            return _refusal(response.status, response.code, response.body.decode(), headers)
        return _text(response.body, headers)

    async def _answer(self, method: str, session: EngineSession, receive: Receive) -> polling.PollResponse | None:
        if method == "GET":
            return await polling.poll(session, receive)
        if method == "POST":
            return await polling.post(session, receive, self._dispatcher.read_body)
        return polling.PollResponse(400, b"expected GET or POST", BAD_REQUEST)

    # ----------------------------------------------------------------------------------------- sessions of other nodes

    async def _pass_on(self, sid: str, method: str, receive: Receive) -> polling.PollResponse:
        """What the node that has the session answers."""
        node, bound, timing = self._node, self._dispatcher.limits.packet, self._dispatcher.timing
        body = await self._dispatcher.read_body(receive, bound.size)
        if body is None:
            return polling.too_big(bound)
        passed = msgspec.msgpack.encode(PassedRequest(sid, method, body))
        timeout = timing.ping_interval + timing.pong_timeout + 5
        replying = node.tasks.start(
            node.bus.request(sid.partition(".")[0], self._poll, passed, timeout), "poll: passed on"
        )
        gone = node.tasks.start(stream.client_gone(receive), "poll: disconnect")
        try:
            await asyncio.wait((replying, gone), return_when=asyncio.FIRST_COMPLETED)
            if not replying.done():
                return polling.PollResponse(200, b"")  # nobody is there to answer
            return msgspec.msgpack.decode(replying.result(), type=polling.PollResponse)
        except EngineUnavailable as why:
            message = f"the node of this session cannot be reached: {why}"
            return polling.PollResponse(503, message.encode(), UNKNOWN_SID)
        finally:
            replying.cancel()
            gone.cancel()

    async def _handle(self, body: bytes, cancelled: asyncio.Event) -> bytes:
        """For a request that reached another node. cancelled: its client is no longer there."""
        it = msgspec.msgpack.decode(body, type=PassedRequest)
        read = False

        async def receive() -> MutableMapping[str, Any]:
            nonlocal read
            if read or it.method == "GET":
                await cancelled.wait()
                return {"type": "http.disconnect"}
            read = True
            return {"type": "http.request", "body": it.body}

        session = self._sessions.find(it.sid)
        response: polling.PollResponse | None
        if session is None:
            response = polling.PollResponse(400, MESSAGES[UNKNOWN_SID].encode(), UNKNOWN_SID)
        else:
            response = await self._answer(it.method, session, receive)
        return msgspec.msgpack.encode(response or polling.PollResponse(200, b""))


def _text(body: bytes, headers: Mapping[str, str]) -> Response:
    return Response(body, 200, headers, "text/plain; charset=UTF-8")


def _refusal(status: int, code: int, message: str, headers: Mapping[str, str]) -> Response:
    body = msgspec.json.encode({"code": code, "message": message})
    return Response(body, status, headers, "application/json")


def _later(status: int, text: str, headers: Mapping[str, str]) -> Response:
    """Without a body: python-socketio reads it behind its own end of the connection, and fails if not all had come."""
    return Response(None, status, headers)


def _forbidden(status: int, text: str, headers: Mapping[str, str]) -> Response:
    return _refusal(status, FORBIDDEN, text.strip(), headers)
