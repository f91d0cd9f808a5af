"""The fast path: a session directly on a socket, without ASGI, without a task, one write per turn.

`hosting.py` does the opening handshake and calls the ASGI application; an application that finds `Takeover` in its
scope hands a session to it, and from then on the socket belongs to a `SessionSocket`.
"""

import asyncio
import os
from collections.abc import Callable

from freshet.errors import Disconnect
from freshet.model.frame import Frame
from freshet.session.session import Carried
from freshet.websocket.frames import (
    TOO_BIG,
    TOO_MANY_FRAGMENTS,
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

EXTENSION = "freshet.native"  # the key in an ASGI scope's extensions

KIB = 1024
WRITE_BUFFER = 64 * KIB  # bytes that the transport may hold before the outbox keeps them

Takeover = Callable[[Carried, str | None], None]
"""What the scope holds: (session, subprotocol) -> the handshake is accepted, and the socket is the session's."""


class SessionSocket(asyncio.Protocol):
    """One client's socket. connections: uvicorn's set of those that are to be shut down with it."""

    __slots__ = (
        "_closing",
        "_connections",
        "_decoder",
        "_deflate",
        "_descriptor",
        "_outbox",
        "_paused",
        "_reading_paused",
        "_session",
        "_transport",
        "slot",
    )

    def __init__(
        self, session: Carried, transport: asyncio.Transport, connections: set[asyncio.Protocol], deflate: bool
    ) -> None:
        self._session = session
        self._outbox = session.outbox
        self._transport = transport
        self._connections = connections
        self._deflate = deflate
        self._decoder = Decoder(_limits(session.largest.size, session.host.limits.fragments), deflate=deflate)
        self._paused = False  # the transport takes no more for now
        self._reading_paused = False  # reading waits until the session has caught up
        self._closing = False
        self._descriptor = _descriptor(transport)
        self.slot = -1
        transport.set_write_buffer_limits(high=WRITE_BUFFER)
        transport.set_protocol(self)
        connections.add(self)
        session.outbox.attach(self.flush)
        session.open()

    # ----------------------------------------------------------------------------------------------------- bytes in

    def data_received(self, data: bytes) -> None:
        session = self._session
        decoder = self._decoder
        for event in decoder.feed(data):
            if isinstance(event, Frame):
                session.receive(event)
            elif isinstance(event, CloseFrame):
                self._closed_by_client(event.code)
                return
            else:
                session.alive()
                if isinstance(event, PingFrame) and not self._paused:
                    self._write(encode(Opcode.PONG, event.data))
        if decoder.error is not None:
            self._fail(decoder.error)
        elif session.backlog_full and not self._reading_paused:
            self._reading_paused = True
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        return False

    # ---------------------------------------------------------------------------------------------------- bytes out

    def flush(self) -> None:
        """One write of all that is queued. What the outbox calls.

        The kernel is given what it takes at once, the transport only the rest: it would keep all until the loop comes
        by, and by that second visit its memory is out of the processor's cache. That was a fifth of the user-space
        time of a delivery.
        """
        outbox = self._outbox
        frame = outbox.first
        if frame is not None and (not self._paused or outbox.closed):
            if outbox.more is None and not self._deflate:
                outbox.first = None
                data = frame.wire or wire(frame)
                try:
                    sent = os.write(self._descriptor, data) if outbox.direct >= 0 or self._drained() else 0
                except OSError:  # full, or broken: the transport finds out which, and does what is to be done
                    sent = 0
                if sent < len(data):
                    self._write(data[sent:])
            else:
                self._write(self._joined(outbox.take()))
        if outbox.closed:
            self._close(outbox.closed)
        elif self._reading_paused and not self._session.backlog_full:
            self._reading_paused = False
            self._transport.resume_reading()

    def _joined(self, frames: list[Frame]) -> bytes:
        if self._deflate:
            return b"".join([frame.deflated or deflated_wire(frame) for frame in frames])
        return b"".join([frame.wire or wire(frame) for frame in frames])

    def _write(self, data: bytes) -> None:
        self._outbox.direct = -1
        self._transport.write(data)

    def _drained(self) -> bool:
        """Whether nothing waits in the transport. What comes next may go to the kernel itself, then."""
        drained = self._descriptor >= 0 and not self._transport.get_write_buffer_size()
        if drained and not self._deflate and not self._outbox.closed:
            self._outbox.direct = self._descriptor
        return drained

    def _shut(self) -> None:
        """Nothing is written from now on."""
        self._descriptor = self._outbox.direct = -1
        self._transport.close()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self.flush()

    # -------------------------------------------------------------------------------------------------------- the end

    def _close(self, why: Disconnect) -> None:
        """Say why, then give the client a while to close its side."""
        if self._closing:
            return
        self._closing = True
        self._write(encode(Opcode.CLOSE, close_payload(why.code, why.reason)))
        if self._reading_paused:
            self._transport.resume_reading()  # for the client's own Close frame
        host = self._session.host
        self._session.end(why)
        host.wheel.schedule(self, host.timing.close_timeout)

    def _closed_by_client(self, code: int | None) -> None:
        if not self._closing:
            self._closing = True
            # RFC 6455, 5.5.1: "When sending a Close frame in response, the endpoint typically echos the status code
            # it received."
            self._write(encode(Opcode.CLOSE, close_payload(code, "") if code is not None else b""))
            self._session.end(Disconnect.normal())
        self._shut()

    def _fail(self, error: ProtocolError) -> None:
        """RFC 6455, 7.1.7: fail the WebSocket connection."""
        if not self._closing:
            self._closing = True
            why = Disconnect(error.code, error.reason)
            if error.reason == TOO_MANY_FRAGMENTS:
                why = Disconnect(error.code, f"{error.reason}, see limits.fragments")
            elif error.code == TOO_BIG:
                why = Disconnect.too_big(*self._session.largest)
            self._write(encode(Opcode.CLOSE, close_payload(why.code, why.reason)))
            self._session.end(why)
            if error.code == TOO_BIG:
                self._outlast()
        if error.code != TOO_BIG:
            self._shut()

    def _outlast(self) -> None:
        """Let the client finish: a socket that is closed while it sends is reset, and the reason lost with it."""
        self._outbox.take()
        self._descriptor = self._outbox.direct = -1
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._session.host.wheel.schedule(self, self._session.host.timing.close_timeout)

    def visit(self, now: float) -> float:
        """The wheel: the client did not close its side in time."""
        self._transport.abort()
        return 0

    def shutdown(self) -> None:
        """What uvicorn calls when the server ends."""
        self._session.close(Disconnect.shutdown())

    def connection_lost(self, error: Exception | None) -> None:
        self._closing = True
        self._descriptor = self._outbox.direct = -1  # the number is soon another file's
        self._connections.discard(self)
        self._session.outbox.attach(_detached)
        self._session.host.wheel.cancel(self)
        self._session.end(Disconnect.normal())


def _descriptor(transport: asyncio.Transport) -> int:
    """The socket that may be written to beside its transport; -1 when that is more than a socket."""
    if transport.get_extra_info("sslcontext") is not None or os.name != "posix":
        return -1
    found = transport.get_extra_info("socket")
    return found.fileno() if found is not None else -1


def _detached() -> None:
    """There is no transport any more."""


_shared: dict[tuple[int, int], MessageLimits] = {}


def _limits(message: int, fragments: int) -> MessageLimits:
    """One object for all clients of a configuration."""
    return _shared.setdefault((message, fragments), MessageLimits(frame=message, message=message, fragments=fragments))
