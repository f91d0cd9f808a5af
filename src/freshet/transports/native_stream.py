"""The fast path of streams: a session directly on the socket of its request, without ASGI, without a task.

`entrance.py` hands over the socket of a plain request that an endpoint has answered with a stream. From then on it
belongs to a `SessionStream`, which is to a response that does not end what `native.SessionSocket` is to a WebSocket.
"""

import asyncio
import os
from math import inf

from freshet.errors import Disconnect
from freshet.model.events import Disconnected
from freshet.runtime.server import RunningServer
from freshet.transports.lobby import Lobby
from freshet.transports.native import descriptor
from freshet.transports.stream import LAST_CHUNK, UNBUFFERED, AcceptedStream, chunk
from freshet.transports.unsent import Unsent
from freshet.websocket.handshake import Headers, http_response

_CHUNKED = [(b"connection", b"close"), (b"transfer-encoding", b"chunked")]  # nothing is answered behind a stream


class SessionStream(asyncio.Protocol):
    """One client's response.

    headers: the server's own. connections: uvicorn's set of those that are to be shut down with it. lobby: where it is
    while its client takes nothing of what waits for it.
    """

    __slots__ = (
        "_accepted",
        "_closing",
        "_connections",
        "_descriptor",
        "_drained",
        "_ending",
        "_form",
        "_headers",
        "_lobby",
        "_outbox",
        "_paused",
        "_server",
        "_session",
        "_transport",
        "_unsent",
        "slot",
    )

    def __init__(
        self,
        accepted: AcceptedStream,
        headers: Headers,
        transport: asyncio.Transport,
        connections: set[asyncio.Protocol],
        lobby: Lobby,
        server: RunningServer,
    ) -> None:
        self._accepted: AcceptedStream | None = accepted  # None: the head of the response is sent
        self._headers = headers
        self._session = session = accepted.session
        self._outbox = session.outbox
        self._form = accepted.form
        self._transport = transport
        self._connections = connections
        self._lobby = lobby
        self._server = server
        self._ending = False  # the session is over, and its client has a while for what is queued
        self._closing = False  # and has been told why
        self._paused = False  # the transport takes no more for now
        self._unsent: Unsent | None = None  # None: it takes what comes
        self._descriptor = descriptor(transport)
        self._drained = False  # nothing waits in the transport: what comes next may go to the kernel itself
        self.slot = -1
        transport.set_protocol(self)
        transport.set_write_buffer_limits(high=1, low=0)  # see `SessionSocket`
        connections.add(self)
        session.outbox.attach(self, accepted.form.name)

    # ---------------------------------------------------------------------------------------------------- bytes out

    def __call__(self) -> None:
        """One write of what is queued, or of a piece, which is laid into the stream once for all who get the same."""
        outbox = self._outbox
        frame = outbox.first
        if frame is not None and not self._paused:
            if outbox.more is None:
                outbox.first = None
                data = self._form.lay(frame).chunk
            else:
                data = b"".join([self._form.lay(each).chunk for each in outbox.take_piece()])
            self._write(data if self._accepted is None else self._head(self._accepted) + data)
        if outbox.closed:
            self._end(outbox.closed)

    def _head(self, accepted: AcceptedStream) -> bytes:
        """Of the response, and what comes before all frames."""
        form = self._form
        headers = [*self._headers, (b"content-type", form.media_type), *UNBUFFERED, *accepted.headers, *_CHUNKED]
        head = http_response(200, headers, chunk(form.first))
        self._accepted = None
        return head

    def _write(self, data: bytes) -> None:
        """The kernel is given what it takes at once, the transport only the rest. See `SessionSocket`."""
        if not self._drained and self._descriptor >= 0:
            self._drained = not self._transport.get_write_buffer_size()
        try:
            sent = os.write(self._descriptor, data) if self._drained else 0
        except OSError:  # full, or broken: the transport finds out which, and does what is to be done
            sent = 0
        if sent < len(data):
            self._drained = False
            self._transport.write(data[sent:])

    def pause_writing(self) -> None:
        self._paused = True
        self._unsent = Unsent(self._transport, self._server.http.body_timeout)
        if not self._lobby.enter(self):
            self.evict()

    def resume_writing(self) -> None:
        self._paused, self._unsent = False, None
        self._lobby.leave(self)
        self._outbox.go_on()

    # ------------------------------------------------------------------------------------------------------ bytes in

    def data_received(self, data: bytes) -> None:
        """Nothing can be answered behind a stream. RFC 9112, 2.2: an empty line before a request is ignored."""
        if data.strip(b"\r\n"):
            self._transport.abort()

    # -------------------------------------------------------------------------------------------------------- the end

    def _end(self, why: Disconnect) -> None:
        """Give the client a while to read what is queued and why, behind it."""
        if self._closing:
            return
        if self._outbox.first is None:
            self._say(why)
        if not self._ending:
            self._ending = True
            host = self._session.host
            self._session.end(why)
            host.wheel.schedule(self, host.timing.close_timeout)

    def _say(self, why: Disconnect) -> None:
        self._closing = True
        if self._accepted is not None and self._accepted.refuse is not None:
            response = self._accepted.refuse(why)
            headers = [*self._headers, *response.raw_headers, (b"connection", b"close")]
            self._write(http_response(response.status_code, headers, bytes(response.body)))
        else:
            head = b"" if self._accepted is None else self._head(self._accepted)
            farewell = self._session.dialect.encode(Disconnected(why.code, why.reason))
            self._write(head + (self._form.lay(farewell).chunk if farewell is not None else b"") + LAST_CHUNK)
        self._drained, self._descriptor = False, -1
        self._transport.close()

    def visit(self, now: float) -> float:
        """The wheel: the client has not read the end in time."""
        self._transport.abort()
        return 0

    def shutdown(self) -> None:
        """What uvicorn calls when the server ends."""
        self._session.close(Disconnect.shutdown())

    def connection_lost(self, error: Exception | None) -> None:
        self._closing = True
        self._drained, self._descriptor = False, -1  # the number is soon another file's
        self._connections.discard(self)
        self._lobby.leave(self)
        self._outbox.detach()
        self._session.host.wheel.cancel(self)
        self._session.end(Disconnect.normal())

    # -------------------------------------------------------------------------------------------------- see `Guest`

    def deadline(self) -> float | None:
        return self._unsent.deadline() if self._unsent is not None else inf

    def overdue(self) -> bool:
        """It has taken nothing for too long."""
        self._server.refused("http")
        self._transport.abort()
        return True

    def evict(self) -> None:
        self._server.refused("connections")
        self._transport.abort()
