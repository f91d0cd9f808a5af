"""The WebSocket side of uvicorn: the opening handshake, and the ASGI application behind it.

uvicorn hands over every request for an upgrade. The application is called as any ASGI server does; if it takes the
socket over (`native.EXTENSION` in the scope's extensions) this protocol is done. Otherwise, for WebSocket routes of the
user's own, it goes on with ASGI messages over the same codec.
"""

import asyncio
import logging
from collections import deque
from collections.abc import MutableMapping
from math import inf
from typing import Any, cast
from urllib.parse import unquote

from uvicorn.config import Config
from uvicorn.server import ServerState

from freshet.errors import Disconnect
from freshet.model.frame import Frame
from freshet.observe.logs import BoundedLog
from freshet.runtime.rates import ReadingPace
from freshet.runtime.server import SERVER
from freshet.session.carried import Carried
from freshet.transports.lobby import Lobby
from freshet.transports.native import ALLOWANCE, EXTENSION, SessionSocket, Takeover
from freshet.websocket import handshake
from freshet.websocket.frames import (
    TOO_BIG,
    CloseFrame,
    Decoder,
    MessageLimits,
    Opcode,
    PingFrame,
    ProtocolError,
    close_payload,
    deflated_wire,
    encode,
    wire,
)

log = logging.getLogger("freshet.hosting")
_refusals_log = BoundedLog(log)
_limits_log = BoundedLog(logging.getLogger("freshet.limits"))

Message = MutableMapping[str, Any]

EARLY = 64 * 1024  # bytes that a client may send before it is answered
QUEUE = 32  # messages that wait for the application before reading stops
TOO_MANY = 1008, "too many messages, see rates.frames"


def _address(name: Any) -> tuple[str, int] | None:
    """A socket's name as ASGI has it; a Unix socket has none."""
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) else None


def request_scope(
    target: bytes, headers: handshake.Headers, transport: asyncio.Transport, root_path: str = ""
) -> Message:
    """What ASGI says of any request, but for what the server is."""
    raw_path, _, query = target.partition(b"?")
    return {
        "http_version": "1.1",
        "scheme": "https" if transport.get_extra_info("sslcontext") else "http",
        "client": _address(transport.get_extra_info("peername")),
        "root_path": root_path,
        "path": unquote(raw_path.decode("ascii", "replace")),
        "raw_path": raw_path,
        "query_string": query,
        "headers": headers,
    }


def websocket_scope(
    target: bytes, headers: handshake.Headers, transport: asyncio.Transport, take_over: Takeover, root_path: str = ""
) -> Message:
    """The same of a request for a WebSocket. Raises HandshakeError."""
    request = request_scope(target, headers, transport, root_path)
    return {
        **request,
        "type": "websocket",
        "scheme": "wss" if request["scheme"] == "https" else "ws",
        "subprotocols": handshake.subprotocols(headers),
        "extensions": {"websocket.http.response": {}, EXTENSION: take_over},
    }


class HostedWebSocket(asyncio.Protocol):
    """One upgrade request. The signature is that of uvicorn's `ws` classes.

    lobby: where it is until its client is connected.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        lobby: Lobby | None = None,
    ) -> None:
        if not config.loaded:
            config.load()
        self._app = config.loaded_app
        self._root_path = config.root_path
        self._asgi_version = config.asgi_version
        # What a message holds is what it costs, in however many frames it comes.
        self._limits = MessageLimits(config.ws_max_size, config.ws_max_size, fragments=config.ws_max_size)
        self._connections = cast("set[asyncio.Protocol]", server_state.connections)
        self._tasks = server_state.tasks
        self._default_headers = server_state.default_headers
        self._state = app_state
        self._loop = _loop or asyncio.get_running_loop()
        self._lobby = lobby
        self._request: handshake.UpgradeRequest | None = None
        self._key = b""
        self._decoder: Decoder | None = None  # from acceptance on
        self._wire = wire
        self._early = b""
        self._incoming: deque[Message] = deque([{"type": "websocket.connect"}])
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._answered = False  # accepted or refused
        self._response: Message | None = None  # a refusal that the application is sending
        self._disconnected = False
        self._pace: ReadingPace | None = None  # see `rates.frames`
        self._owed = 0  # frames that it has not been asked for yet
        self._paused: asyncio.TimerHandle | None = None  # reading waits as more came than may

    # ------------------------------------------------------------------------------------------------------- opening

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._connections.add(self)
        if self._lobby is not None and not self._lobby.enter(self):
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._request is None:
            self._open(data)
        elif self._decoder is not None:
            self._decode(data)
        elif len(self._early) + len(data) <= EARLY:
            self._early += data
        else:
            self._transport.abort()

    def _open(self, head: bytes) -> None:
        try:
            self._request = handshake.parse_request(head)
            self._key = handshake.check(self._request.headers)
            scope = self._scope(self._request)
        except handshake.HandshakeError as error:
            _refusals_log.info("handshake", "websocket: a handshake was refused: %s", error)
            self._transport.write(handshake.refuse(error.status, error.message, error.headers))
            self._transport.close()
            return
        task = self._loop.create_task(self._run(scope))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _scope(self, request: handshake.UpgradeRequest) -> Message:
        scope = websocket_scope(request.target, request.headers, self._transport, self.take_over, self._root_path)
        return {
            **scope,
            "path": self._root_path + scope["path"],
            "asgi": {"version": self._asgi_version, "spec_version": "2.4"},
            "server": _address(self._transport.get_extra_info("sockname")),
            "state": self._state.copy(),
        }

    async def _run(self, scope: Message) -> None:
        try:
            await self._app(cast(Any, scope), self._receive, self._send)
        except Exception:
            log.exception("websocket: the application failed, its client gets 500, or close code 1011")
            if not self._answered:
                self._refuse(500, [], b"Internal Server Error")
            elif not self._disconnected:
                self._close(1011, "internal error")
        else:
            if not self._answered:
                self._refuse(500, [], b"Internal Server Error")
            elif self._decoder is not None and not self._disconnected:
                self._close(1000, "")

    def take_over(self, session: Carried, subprotocol: str | None) -> None:
        """Accept, and let `session` have the socket. See `native.Takeover`."""
        if self._disconnected:
            session.end(Disconnect.normal())
            return
        extensions = self._negotiate() if session.host.compression else None
        self._accept(subprotocol, [], extensions)
        self._disconnected = True  # as far as this protocol is concerned
        self._connections.discard(self)
        if self._lobby is not None:
            self._lobby.leave(self)
        socket = SessionSocket(session, self._transport, self._connections, extensions is not None, self._lobby)
        if self._early:
            socket.data_received(self._early)

    def _negotiate(self) -> bytes | None:
        assert self._request is not None
        return handshake.extensions(self._request.headers)

    def _accept(
        self, subprotocol: str | None, headers: list[tuple[bytes, bytes]], extensions: bytes | None = None
    ) -> None:
        all_headers = [*self._default_headers, *headers]
        response = handshake.response(self._key, subprotocol, extensions, all_headers)
        self._answered = True
        self._transport.write(response)

    def _refuse(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        self._answered = True
        self._disconnected = True
        self._transport.write(handshake.refuse(status, body, headers))
        self._transport.close()

    # ------------------------------------------------------------------------- the user's own routes: ASGI messages

    async def _receive(self) -> Message:
        while not self._incoming:
            if self._disconnected:
                return {"type": "websocket.disconnect", "code": 1006, "reason": ""}
            self._news.clear()
            await self._news.wait()
        message = self._incoming.popleft()
        if not self._disconnected and len(self._incoming) == QUEUE - 1 and self._decoder is not None:
            self._loop.call_soon(self._decode_held)  # which resumes reading, if nothing is held
        return message

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        if kind.startswith("websocket.http.response.") and not (self._answered and self._response is None):
            self._send_response(message)
        elif self._disconnected:
            raise OSError("the client is gone")
        elif kind == "websocket.accept" and not self._answered:
            server = SERVER.get()
            extensions = self._negotiate() if server is not None and server.compression else None
            self._accept(message.get("subprotocol"), list(message.get("headers", [])), extensions)
            self._decoder = Decoder(self._limits, deflate=extensions is not None)
            self._pace = ReadingPace(server.frames) if server is not None and server.frames is not None else None
            self._wire = wire if extensions is None else deflated_wire
            self._decode(self._early)
        elif kind == "websocket.close" and not self._answered:
            self._refuse(403, [], b"Forbidden")
            self._put({"type": "websocket.disconnect", "code": 1006, "reason": ""})
        elif kind == "websocket.send" and self._decoder is not None:
            text = message.get("text")
            frame = Frame(text.encode()) if text is not None else Frame(message.get("bytes") or b"", binary=True)
            self._transport.write(self._wire(frame))
            await self._room.wait()
        elif kind == "websocket.close" and self._decoder is not None:
            self._close(message.get("code", 1000), message.get("reason") or "")
        else:
            raise RuntimeError(f"unexpected ASGI message {kind!r} in this state of the WebSocket")

    def _send_response(self, message: Message) -> None:
        """Refuse with a response of the application's own (ASGI extension websocket.http.response)."""
        if message["type"] == "websocket.http.response.start":
            self._answered = True
            self._response = {"status": message["status"], "headers": list(message.get("headers", [])), "body": b""}
            return
        assert self._response is not None
        self._response["body"] += message.get("body", b"")
        if not message.get("more_body"):
            response, self._response = self._response, None
            self._refuse(response["status"], response["headers"], response["body"])

    def _decode(self, data: bytes) -> None:
        assert self._decoder is not None
        ping: PingFrame | None = None
        events = self._decoder.feed(data, QUEUE)
        for event in events:
            if isinstance(event, Frame):
                payload = {"bytes": event.data} if event.binary else {"text": event.data.decode()}
                self._put({"type": "websocket.receive", **payload})
            elif isinstance(event, CloseFrame):
                code = 1005 if event.code is None else event.code
                self._close(event.code, "")
                self._put({"type": "websocket.disconnect", "code": code, "reason": event.reason})
            elif isinstance(event, PingFrame):
                ping = event
        if ping is not None and self._room.is_set() and not self._disconnected:
            self._transport.write(encode(Opcode.PONG, ping.data))  # see `SessionSocket`: the most recent one will do
        error = self._decoder.error
        if error is not None and not self._disconnected:
            self._fail(error)
        cost, self._decoder.cost = self._decoder.cost, 0
        if not self._disconnected:
            self._count(len(events) + (len(data) >> 10) + cost)
        if self._disconnected:
            return
        if self._paused or self._decoder.held or len(self._incoming) >= QUEUE:
            self._transport.pause_reading()
            if not self._paused and len(self._incoming) < QUEUE:
                self._loop.call_soon(self._decode_held)  # others have their turn
        elif not self._transport.is_reading():
            self._transport.resume_reading()

    def _fail(self, error: ProtocolError) -> None:
        if error.code == TOO_BIG:
            target, most = self._request.target if self._request else b"", self._limits.message
            _limits_log.warning("too big", "a client of %r was closed with 1009: at most %d bytes", target, most)
        self._close(error.code, error.reason)
        self._put({"type": "websocket.disconnect", "code": error.code, "reason": error.reason})

    def _decode_held(self) -> None:
        if not self._disconnected and not self._paused:
            self._decode(b"")

    def _count(self, frames: int) -> None:
        """So many came, or cost as much: whether more may."""
        self._owed += frames
        if self._pace is None or self._owed < ALLOWANCE:
            return
        wait = self._pace.wait(self._owed, self._loop.time())
        if not wait:
            self._owed = 0
        elif self._pace.goes_on:
            self._close(*TOO_MANY)
            self._put({"type": "websocket.disconnect", "code": TOO_MANY[0], "reason": TOO_MANY[1]})
        elif self._paused is None:
            _limits_log.warning(
                "paced",
                "a client of %r sends too much, it is read more slowly: see rates.frames",
                self._request.target if self._request else b"",
            )
            self._paused = self._loop.call_later(wait, self._go_on)

    def _go_on(self) -> None:
        self._paused = None
        if not self._disconnected:
            self._count(0)
            self._decode_held()

    def _put(self, message: Message) -> None:
        self._incoming.append(message)
        self._news.set()

    # ------------------------------------------------------------------------------------------------------- the end

    def _close(self, code: int | None, reason: str) -> None:
        """Send a Close frame and end. A client that does not read it is cut when uvicorn's close timeout is over."""
        if not self._disconnected:
            self._disconnected = True
            self._transport.write(encode(Opcode.CLOSE, close_payload(code, reason) if code is not None else b""))
            self._transport.close()
            self._news.set()

    def shutdown(self) -> None:
        """What uvicorn calls when the server ends."""
        if self._decoder is not None and not self._disconnected:
            self._close(1012, "service restart")
            self._put({"type": "websocket.disconnect", "code": 1012, "reason": "service restart"})
        elif not self._answered:
            self._refuse(503, [], b"Service Unavailable")

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self._room.clear()

    def resume_writing(self) -> None:
        self._room.set()

    # -------------------------------------------------------------------------------------------------- see `Guest`

    def deadline(self) -> float | None:
        """The time is the application's."""
        return None if self._answered else inf

    def overdue(self) -> bool:
        """It has no deadline."""
        return False

    def evict(self) -> None:
        self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._disconnected = True
        if self._lobby is not None:
            self._lobby.leave(self)
        self._connections.discard(self)
        if self._paused is not None:
            self._paused.cancel()
        self._news.set()
        self._room.set()
