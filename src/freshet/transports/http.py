"""HTTP requests, bounded while they arrive: uvicorn's protocol parses them, this one says how much may come, and how
long it may take.

The parser itself keeps whatever a client sends until the head is complete, and joins it piece by piece, which is
quadratic. So it is fed in pieces, and a head, a URL or a number of headers beyond the bounds ends the connection before
the rest is looked at. A body is bounded by whoever reads it; here it only has to keep coming.
"""

import asyncio
import logging
from functools import partial
from math import inf
from typing import Any, cast

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from freshet.observe.logs import BoundedLog
from freshet.runtime.server import RunningServer
from freshet.transports.lobby import Lobby
from freshet.transports.native_stream import SessionStream
from freshet.transports.stream import STREAM, AcceptedStream, Send
from freshet.transports.unsent import Unsent
from freshet.websocket.handshake import refuse

log = logging.getLogger("freshet.http")
_log = BoundedLog(log)

IN_TASK = 150e-6  # seconds that most requests take behind their head
BODY_RATE = 500  # bytes a second; a body that comes slower than that has only `body_timeout` seconds


class _Refused(Exception):
    """Raised through the parser: what came is beyond a bound."""


class BoundedHttp(HttpToolsProtocol):
    """One connection. lobby: where it is while its request has not arrived. server: what knows the bounds."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        lobby: Lobby,
        server: RunningServer,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._lobby = lobby
        self._server = server
        self._bounds = server.http
        self._refused = server.refused
        self.timeout_keep_alive = server.http.keep_alive  # type: ignore[assignment] # a timer's, any number
        self.url = b""  # which uvicorn has from the first byte of a request line on
        self._refusal: tuple[int, str] | None = None
        self._responding = False
        self._upgraded = False
        self._in_head = True
        self._in_body = False
        self._fed = 0  # bytes of a head that is not complete, or in a body since the last that were of it
        self._parsed = 0  # those of them that the parser has handed on
        self._deadline = 0.0
        self._awaited = True  # the request that is there, or the next one, has not arrived
        self._held = b""  # what waits for its turn
        self._cycles: list[RequestResponseCycle] = []  # the requests that have no whole response yet
        self._unsent: Unsent | None = None  # None: it takes what comes

    # ------------------------------------------------------------------------------------------------- the connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._deadline = self.loop.time() + self._bounds.head_timeout
        if not self._lobby.enter(self):
            self._refused("connections")
            transport.abort()

    def go_on(self, transport: asyncio.Transport, data: bytes, deadline: float) -> None:
        """With what `Entrance` did not take. See `entrance.Successor`."""
        transport.set_protocol(self)
        self.connection_made(transport)
        self._deadline = deadline
        self._take(data)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unsent = Unsent(self.transport, self._bounds.body_timeout)
        if not self._lobby.enter(self):
            self._refused("connections")
            self.transport.abort()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._unsent = None
        self._leave()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lobby.leave(self)
        super().connection_lost(exc)
        for cycle in self._cycles:  # uvicorn tells the last alone, and the others write to a socket that is gone
            cycle.disconnected = True
            cycle.message_event.set()
        self._let_go()

    def _let_go(self) -> None:
        """Of what refers to this, too, as the connection is gone, or another protocol's: garbage that only a collection
        finds, for which all would wait."""
        self._cycles.clear()
        self.pipeline.clear()
        self.parser = self.cycle = self.scope = None  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        if self._held:
            self._held += data
            self.transport.pause_reading()
        else:
            self._held = data
            self._server.fair_queue.do(self._go_on, self.transport)

    def _go_on(self) -> None:
        """It is this client's turn, with what came."""
        data, self._held = self._held, b""
        if self.transport.is_closing():
            return
        if not self.flow.read_paused:
            self.transport.resume_reading()
        self._take(data)

    def _take(self, data: bytes) -> None:
        if self._in_head and not self._fed:  # the first bytes, or the first behind a response
            self._deadline = min(self._deadline, self.loop.time() + self._bounds.head_timeout)
        left, size = memoryview(data), self._bounds.head_size
        while left and not self._upgraded and not self.transport.is_closing():
            piece, left = (left[:size], left[size:]) if self._in_head else (left, left[:0])
            self._fed += len(piece)
            self._feed(bytes(piece))
            if self._fed > size and not self.transport.is_closing():
                self._too_large()
                self._answer()

    def _feed(self, piece: bytes) -> None:
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            if self._should_upgrade():
                self.handle_websocket_upgrade()
        except httptools.HttpParserError:
            self._answer()

    def _too_large(self) -> None:
        bounds = self._bounds
        if self._in_body:
            self._refusal = 431, f"chunk extensions or trailers too large: at most {bounds.head_size} bytes"
        elif len(self.url or b"") > bounds.url_size or not self._parsed:
            self._refusal = 414, f"URL too long: at most {bounds.url_size} bytes"
        else:
            self._refusal = 431, f"headers too large: at most {bounds.head_size} bytes with the URL"

    def _answer(self) -> None:
        """Refuse what was asked, and end the connection."""
        if self._refusal is None:
            self._refusal = 400, "not an HTTP request"
        status, text = self._refusal
        self._refused("http")
        client = self.client[0] if self.client else "a client"
        _log.warning(
            str(status), "http: a request from %s was refused with %d: %s (options: [http])", client, status, text
        )
        if not self._responding:
            self.transport.write(refuse(status, f"{text}\n".encode(), []))
            self.transport.close()
        else:
            self.transport.abort()  # in the middle of another response

    # ---------------------------------------------------------------------------------------- what the parser hands on

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._parsed = 0

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._parsed = len(self.url)
        if self._parsed > self._bounds.url_size:
            self._too_large()
            raise _Refused

    def on_header(self, name: bytes, value: bytes) -> None:
        bounds = self._bounds
        self._parsed += len(name) + len(value) + 4
        # RFC 9110, 6.5.1: trailer fields are not merged into the header section unless "the field's corresponding
        # header field definition permits": a proxy that takes headers off requests may not look at them.
        if not self._in_body:
            super().on_header(name, value)
        if len(self.headers) > bounds.headers:
            self._refusal = 431, f"too many headers: at most {bounds.headers}"
            raise _Refused
        if self._parsed > bounds.head_size:
            self._too_large()
            raise _Refused

    def on_headers_complete(self) -> None:
        # RFC 9112, 3.2: "A server MUST respond with a 400 (Bad Request) status code to any HTTP/1.1 request message
        # that lacks a Host header field and to any request message that contains more than one Host header field
        # line".
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts > 1 or (not hosts and self.parser.get_http_version() == "1.1"):
            self._refusal = 400, "expected one Host header"
            raise _Refused
        if len(self.pipeline) >= (most := self._bounds.pipelined):
            self._refusal = 429, f"at most {most} requests may be sent ahead"
            raise _Refused
        self.scope["extensions"] = {STREAM: self._take_over}  # type: ignore[dict-item] # for `carry_stream`
        before = self.cycle
        super().on_headers_complete()
        self._cycles = [each for each in self._cycles if not each.response_complete]
        if self.cycle is not before:  # which it is for a WebSocket
            self._cycles.append(self.cycle)
        self._in_head, self._in_body, self._fed = False, True, 0
        self._responding = True
        self._deadline = self.loop.time() + self._bounds.body_timeout

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._server.fair_queue.do(partial(self._start, cycle, app), self.transport)

    def _start(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        """It is this request's turn."""
        self._server.fair_queue.charge(IN_TASK)
        super()._start_asgi_task(cycle, app)

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        self._fed = 0
        # What came fast is no credit for standing still later.
        self._deadline = min(self._deadline + len(body) / BODY_RATE, self.loop.time() + self._bounds.body_timeout)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_head, self._in_body, self._fed = True, False, 0
        self._awaited = False
        self._leave()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._responding = bool(self.pipeline) or not self.cycle.response_complete
        if self.transport.is_closing():
            self._lobby.enter(self)  # until it has taken the last of it
        elif self.timeout_keep_alive_task is not None:
            self._deadline = inf  # uvicorn ends it when it is idle for too long
            self._awaited = True
            if not self._lobby.enter(self):
                self.transport.close()

    def _take_over(self, accepted: AcceptedStream, send: Send) -> bool:
        """Let a session have the socket for its response, if nothing is around the application that has to see it.

        send: as the endpoint has it. It is uvicorn's own where nobody else looks at what is sent.
        """
        if self.transport.is_closing():
            return False
        cycle, scope = self.cycle, self.cycle.scope
        looks = getattr(send, "__self__", None) is not cycle
        more = self._in_body or self.scope is not scope or self.flow.read_paused or self.flow.write_paused
        streams = scope["http_version"] == "1.1" and scope["method"] in ("GET", "POST")
        if looks or more or not streams:
            return False
        cycle.disconnected = True  # so that uvicorn asks for no response when the call returns
        self._lobby.leave(self)
        self.connections.discard(self)
        headers, connections = self.server_state.default_headers, cast("set[asyncio.Protocol]", self.connections)
        SessionStream(accepted, headers, self.transport, connections, self._lobby, self._server)
        self._let_go()
        return True

    def handle_websocket_upgrade(self) -> None:
        if any(not each.response_complete for each in self._cycles):
            # RFC 9112, 9.3.2: "A server MAY process a sequence of pipelined requests in parallel if they all have safe
            # methods, but it MUST send the corresponding responses in the same order": what is owed would come behind
            # the 101, and be taken for frames.
            self._refusal = 400, "a WebSocket was asked for while another response is owed"
            self._answer()
            return
        self._responding = False
        if self._lobby.full:
            self._refusal = 503, "too many clients: try again later"
            self._answer()
            return
        self._lobby.leave(self)
        super().handle_websocket_upgrade()
        self._upgraded = True
        self._let_go()

    def _leave(self) -> None:
        """The lobby, unless something is still awaited of it."""
        if not self._awaited and self._unsent is None:
            self._lobby.leave(self)

    # -------------------------------------------------------------------------------------------------- see `Guest`

    def deadline(self) -> float | None:
        if self._unsent is None and self.transport.is_closing():
            self._unsent = Unsent(self.transport, self._bounds.body_timeout)
        if self._unsent is not None:
            return self._unsent.deadline()
        if self._in_body and self.flow.read_paused:  # the application does not read, which is not the client's fault
            return inf
        return self._deadline

    def overdue(self) -> bool:
        takes_nothing = self._unsent is not None and self._unsent.size > 0
        sent_something = self._in_body or self._fed > 0 or takes_nothing
        if sent_something:
            self._refused("http")
        if self._fed and not self._responding and not takes_nothing:
            self.transport.write(refuse(408, b"The request did not arrive in time.\n", []))
            self.transport.close()
        else:
            self.transport.abort()
        return sent_something

    def evict(self) -> None:
        self._refused("connections")
        self.transport.abort()
