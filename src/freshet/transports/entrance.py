"""A connection whose requests are answered without ASGI, for as long as they are plain ones.

A plain request below a path that an application has opened for that (`RunningServer.direct`) is answered by it at once,
and one for a WebSocket accepted: no parser, no ASGI. With the first that is anything else the connection goes, unread,
to the protocol of uvicorn, and stays there.
"""

import asyncio
import logging
from collections.abc import Callable
from math import inf
from typing import Protocol, cast

from starlette.responses import Response
from uvicorn.server import ServerState

from freshet.errors import Disconnect
from freshet.runtime.server import RunningServer, Shortcut
from freshet.session.carried import Carried
from freshet.transports.hosting import request_scope, websocket_scope
from freshet.transports.lobby import Lobby
from freshet.transports.native import SessionSocket
from freshet.transports.native_stream import SessionStream
from freshet.transports.plain import PlainRequest, plain_request
from freshet.transports.stream import STREAM, AcceptedStream, Incoming
from freshet.transports.unsent import Unsent
from freshet.websocket import handshake
from freshet.websocket.handshake import HandshakeError

log = logging.getLogger("freshet.entrance")

IN_TASK = 100e-6  # seconds that most requests take behind the first look at them
REPEATED = 2048  # bytes of a request that may be the same as the one before


class Successor(Protocol):
    """What a connection is from then on."""

    def go_on(self, transport: asyncio.Transport, data: bytes, deadline: float) -> None:
        """data: all that has come of a request. deadline: when it has to be there, in the loop's time."""


class Entrance(asyncio.Protocol):
    """One connection. pass_on: makes what it is from the first request on that is not plain. lobby: where it is while
    it has asked for nothing."""

    __slots__ = (
        "_before",
        "_connections",
        "_deadline",
        "_held",
        "_incoming",
        "_is_ending",
        "_lobby",
        "_pass_on",
        "_paused",
        "_replied",
        "_request",
        "_server",
        "_state",
        "_tasks",
        "_transport",
        "_unsent",
    )

    def __init__(
        self, pass_on: Callable[[], Successor], state: ServerState, lobby: Lobby, server: RunningServer
    ) -> None:
        self._pass_on = pass_on
        self._state = state
        self._connections = cast("set[asyncio.Protocol]", state.connections)
        self._tasks = cast("set[asyncio.Task[Response | None]]", state.tasks)
        self._lobby = lobby
        self._server = server
        self._before = b""  # the last request, if it is short, and what it was
        self._request: PlainRequest | None = None
        self._incoming: Incoming | None = None  # the request that is being answered
        self._held = b""  # what came behind it, or waits for its turn
        self._paused = False  # who does not read what was answered gets no more answers
        self._replied = False
        self._is_ending = False
        self._unsent: Unsent | None = None  # None: it takes what comes

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._connections.add(self)
        self._deadline = asyncio.get_running_loop().time() + self._server.http.head_timeout
        if not self._lobby.enter(self):
            self._server.refused("connections")
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._incoming is not None or self._held:
            self._held += data
            self._transport.pause_reading()
        else:
            self._held = data
            self._server.fair_queue.do(self._go_on, self._transport)

    def _go_on(self) -> None:
        """It is this client's turn, with what came."""
        if not self._held or self._paused or self._incoming is not None or self._transport.is_closing():
            return
        data, self._held = self._held, b""
        self._transport.resume_reading()
        if not self._is_answered(data):
            self._leave()
            self._pass_on().go_on(self._transport, data, inf if self._replied else self._deadline)

    def _is_answered(self, data: bytes) -> bool:
        """Whether it is a plain request, and cared for."""
        direct = self._server.direct
        request = self._read(data) if direct else None
        if request is None or (request.key and self._lobby.full):
            return False
        for prefix, way in direct.items():
            if request.target.startswith(prefix.encode() + b"/"):
                return self._accept(way, prefix, request) if request.key else self._reply(way, prefix, request)
        return False

    def _read(self, data: bytes) -> PlainRequest | None:
        """A plain request. Who polls sends the same again and again, which is read once."""
        if data == self._before:
            return self._request
        request = plain_request(data, self._server.http)
        if request is not None and not request.key and len(data) <= REPEATED:
            self._before, self._request = data, request
        return request

    # ------------------------------------------------------------------------------------------------------ WebSocket

    def _accept(self, way: Shortcut, prefix: str, request: PlainRequest) -> bool:
        def take_over(session: Carried, subprotocol: str | None) -> None:
            extensions = handshake.extensions(request.headers) if session.host.compression else None
            headers = self._state.default_headers
            self._transport.write(handshake.response(request.key, subprotocol, extensions, headers))
            self._leave()
            SessionSocket(session, self._transport, self._connections, extensions is not None, self._lobby)

        try:
            answer = way.accept(websocket_scope(request.target, request.headers, self._transport, take_over, prefix))
        except HandshakeError:
            return False  # which says so
        except Exception:
            log.exception("websocket: the opening failed, its client gets 500, or nothing")
            if self._transport.get_protocol() is not self:
                self._transport.abort()
                return True
            answer = Response("Internal Server Error", 500)
        if isinstance(answer, Response):
            self._transport.write(handshake.refuse(answer.status_code, bytes(answer.body), answer.raw_headers))
            self._transport.close()
        return bool(answer)

    # ----------------------------------------------------------------------------------------------------------- HTTP

    def _reply(self, way: Shortcut, prefix: str, request: PlainRequest) -> bool:
        scope = request_scope(request.target, request.headers, self._transport, prefix)
        scope["type"], scope["method"] = "http", request.method.decode()
        scope["extensions"] = {STREAM: self._stream}
        incoming = Incoming(request.body)
        reply = way.reply(scope, incoming)
        if reply is None:
            return False
        self._lobby.leave(self)
        self._replied = True
        self._is_ending |= request.last
        if isinstance(reply, Response):
            self._respond(reply)
        else:
            self._incoming = incoming
            self._server.fair_queue.charge(IN_TASK)
            task = asyncio.get_running_loop().create_task(reply)
            self._tasks.add(task)
            task.add_done_callback(self._done)
        return True

    def _stream(self, accepted: AcceptedStream) -> None:
        """The response is one that does not end, and the socket its session's from now on."""
        if self._transport.is_closing():  # its client went away meanwhile
            accepted.session.end(Disconnect.normal())
            return
        self._leave()
        self._state.total_requests += 1
        headers, server = self._state.default_headers, self._server
        stream = SessionStream(accepted, headers, self._transport, self._connections, self._lobby, server)
        held, self._held = self._held, b""
        if held:
            self._transport.resume_reading()
            stream.data_received(held)

    def _done(self, task: asyncio.Task[Response | None]) -> None:
        self._tasks.discard(task)
        self._incoming = None
        if self._transport.is_closing() or self._transport.get_protocol() is not self:
            return
        try:
            response = task.result()
            if response is None:
                self._transport.close()
            else:
                self._respond(response)
        except (Exception, asyncio.CancelledError):
            log.exception("http: a request failed, its client gets 500")
            self._respond(Response("Internal Server Error", 500))
        if self._held:
            self._server.fair_queue.do(self._go_on, self._transport)

    def _respond(self, response: Response) -> None:
        headers = [*self._state.default_headers, *response.raw_headers]
        if self._is_ending:
            headers.append((b"connection", b"close"))
        self._transport.write(handshake.http_response(response.status_code, headers, bytes(response.body)))
        self._state.total_requests += 1
        self._deadline = asyncio.get_running_loop().time() + self._server.http.keep_alive
        if not self._lobby.enter(self) or self._is_ending:
            self._transport.close()

    def pause_writing(self) -> None:
        self._paused = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._paused = False
        if not self._held:
            self._transport.resume_reading()
        elif self._incoming is None:
            self._server.fair_queue.do(self._go_on, self._transport)

    # --------------------------------------------------------------------------------------------------------- the end

    def _leave(self) -> None:
        self._connections.discard(self)
        self._lobby.leave(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._leave()
        if self._incoming is not None:
            self._incoming.gone()

    def shutdown(self) -> None:
        """What uvicorn calls when the server ends."""
        self._is_ending = True
        if self._incoming is None and not self._held:
            self._transport.close()

    # -------------------------------------------------------------------------------------------------- see `Guest`

    def deadline(self) -> float:
        if self._transport.get_write_buffer_size() or self._transport.is_closing():
            self._unsent = self._unsent or Unsent(self._transport, self._server.http.body_timeout)
            return self._unsent.deadline()
        if self._unsent is not None:  # it has what it asked for, late
            self._unsent = None
            self._deadline = asyncio.get_running_loop().time() + self._server.http.keep_alive
        return self._deadline

    def overdue(self) -> bool:
        """There is no request that could be answered, or nobody who takes an answer."""
        self._transport.abort()
        if self._unsent is not None:
            self._server.refused("http")
        return self._unsent is not None

    def evict(self) -> None:
        self._server.refused("connections")
        self._transport.abort()
