"""The fast path: a session directly on a socket, without ASGI, without a task, one write per turn.

`hosting.py` does the opening handshake and calls the ASGI application; an application that finds `Takeover` in its
scope hands a session to it, and from then on the socket belongs to a `SessionSocket`.
"""

import asyncio
import logging
import os
import sys
import threading
from collections.abc import Callable
from functools import partial
from math import inf
from typing import NamedTuple

from freshet.errors import Disconnect, closed_by_client
from freshet.model.frame import Frame
from freshet.observe.logs import BoundedLog
from freshet.runtime.rates import ReadingPace
from freshet.session.carried import Carried
from freshet.session.outbox import LITTLE, PATIENCE
from freshet.transports.linger import LastWord
from freshet.transports.lobby import Lobby
from freshet.websocket.frames import (
    TAKEN,
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
AT_ONCE = 64  # frames of one client before others have their turn
EACH_BYTE = 15e-9  # seconds that one takes, in a message
EACH_OPENING = 150e-6  # seconds that a message takes whose client is not connected yet
EACH_COST = 1e-6  # seconds that a KiB out of a compressed message takes, or a frame that is no whole one
ALLOWANCE = 64  # frames that a client may send before its rate is looked at; each KiB counts as one
UNDER_WAY = 4096  # of the same, that may be under way when it is told the end
CUT_OFF = 1006  # RFC 6455, 7.1.5: "If the WebSocket Connection is closed and no Close control frame was received"


class AcceptedSocket(NamedTuple):
    """What an endpoint makes of a request for a WebSocket. subprotocol: of those that the client offers."""

    carried: Carried
    subprotocol: str | None


Takeover = Callable[[Carried, str | None], None]
"""What the scope holds: (session, subprotocol) -> the handshake is accepted, and the socket is the session's."""

_log = BoundedLog(logging.getLogger("freshet.limits"))


class SessionSocket(asyncio.Protocol):
    """One client's socket.

    connections: uvicorn's set of those that are to be shut down with it. lobby: where it is until it is connected.
    """

    __slots__ = (
        "_allowance",
        "_closing",
        "_connections",
        "_decoder",
        "_descriptor",
        "_ending",
        "_goes_on",
        "_is_paced",
        "_lobby",
        "_outbox",
        "_pace",
        "_paused",
        "_ping",
        "_reading_paused",
        "_session",
        "_shared",
        "_transport",
        "slot",
    )

    def __init__(
        self,
        session: Carried,
        transport: asyncio.Transport,
        connections: set[asyncio.Protocol],
        deflate: bool,
        lobby: Lobby | None = None,
    ) -> None:
        self._session = session
        self._outbox = session.outbox
        self._transport = transport
        self._connections = connections
        self._shared = _shared.of(
            MessageLimits(session.largest_frame, session.largest.size, session.host.limits.fragments), deflate=deflate
        )
        self._decoder: Decoder | None = None  # of its own, as long as something is unfinished
        self._ping: PingFrame | None = None  # the last that came while the transport took no more
        self._reading_paused = False  # reading waits until the session has caught up
        self._ending = False  # the session is over, and its client has a while for what is queued
        self._closing = False  # and has been told why
        self._allowance = ALLOWANCE  # that may come before the meter is asked
        self._pace: ReadingPace | None = None  # most never need one
        self._is_paced = False  # reading waits as more came than may
        self._goes_on = False  # what is held will be looked at
        self._descriptor = descriptor(transport)
        self.slot = -1
        transport.set_protocol(self)
        self._paused = transport.get_write_buffer_size() > 1  # it takes no more for now; it may hold answers of before
        transport.set_write_buffer_limits(high=1, low=0)  # as long as it holds any bytes, the outbox keeps what comes
        connections.add(self)
        self._lobby = lobby
        if lobby is not None:
            lobby.enter(self)
        session.outbox.attach(self, "websocket")
        session.open()

    # ----------------------------------------------------------------------------------------------------- bytes in

    def data_received(self, data: bytes) -> None:
        session = self._session
        decoder = self._decoder or self._shared.decoder
        ping: PingFrame | None = None
        costs = len(data) > LITTLE or (data and (self._shared.deflate or not session.connected))
        events = decoder.feed(data, self._most(data) if costs else AT_ONCE)
        if not decoder.unfinished:
            self._decoder = None
        elif self._decoder is None:
            self._decoder = self._shared.take()
        for event in events:
            if isinstance(event, Frame):
                session.receive(event)
            elif isinstance(event, CloseFrame):
                self._pong(ping)
                self._closed_by_client(event.code)
                return
            elif isinstance(event, PingFrame):
                session.alive()
                ping = event
            else:
                session.answered()
        if ping is not None:
            self._pong(ping)
        if decoder.error is not None:
            self._fail(decoder.error)
            return
        self._allowance -= len(events) + (len(data) >> 10)
        if decoder.cost:
            self._allowance -= decoder.cost
            self._outbox.turn.fair_queue.charge(decoder.cost * EACH_COST)
            decoder.cost = 0
        if self._allowance < 0:
            self._ask_for_more()
        if session.backlog_full or decoder.held or self._reading_paused:
            self._read_on()

    def _most(self, data: bytes) -> int:
        """How many frames of that are looked at now. It is much, or may become much, or opens a session: in each turn
        there is time for so much of all clients, and who comes late in it has his turn in a later one."""
        turn, opens = self._outbox.turn, not self._session.connected
        if not turn.fair_queue.has_time or not (opens or turn.admits(min(len(data), TAKEN))):
            return 0
        turn.fair_queue.charge(min(len(data), TAKEN) * EACH_BYTE + (EACH_OPENING if opens else 0))
        return AT_ONCE

    def _pong(self, ping: PingFrame | None) -> None:
        # RFC 6455, 5.5.3: "If an endpoint receives a Ping frame and has not yet sent Pong frame(s) in response to
        # previous Ping frame(s), the endpoint MAY elect to send a Pong frame for only the most recently processed Ping
        # frame."
        self._ping = ping if self._paused else None
        if ping is not None and not self._paused and not self._closing:
            self._write(encode(Opcode.PONG, ping.data))

    def _ask_for_more(self) -> None:
        """All that it may send for now has come: the meter says whether it may go on, or for how long it may not."""
        host = self._session.host
        if self._closing:  # it goes on, though it was told the end: it is not read any more until it is cut
            self._is_paced = True
            self._read_on()
            return
        if host.frames is None:
            self._allowance = sys.maxsize
            return
        if self._pace is None:
            self._pace = ReadingPace(host.frames)
        wait = self._pace.wait(ALLOWANCE - self._allowance, host.wheel.clock.monotonic())
        if not wait:
            self._allowance = ALLOWANCE
        else:
            self._is_paced = True
            self._read_on()
            host.wheel.schedule(self, wait)
            _log.warning(
                "paced", "%r sends too much, it is read more slowly: see the option rates.frames", self._session
            )
            if self._pace.goes_on:
                self._session.close(Disconnect.too_many_errors())

    def _read_on(self) -> None:
        """Whether more may be read, looked at now that something has changed.

        Bytes that are held are looked at when it is this client's turn again.
        """
        held = self._decoder is not None and bool(self._decoder.held)
        may = not (self._is_paced or (self._session.backlog_full and not self._closing))
        if held and may and not self._goes_on:
            self._goes_on = True
            self._outbox.turn.fair_queue.defer(partial(self._go_on, PATIENCE), self._transport)
        if (may and not held) is self._reading_paused:
            self._reading_paused = not self._reading_paused
            if self._reading_paused:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def _go_on(self, patience: int) -> None:
        """Its turn has come, where it is admitted in that, or has been patient."""
        turn, held = self._outbox.turn, self._decoder.held if self._decoder is not None else b""
        if patience and self._session.connected and not turn.admits(min(len(held), TAKEN)):
            turn.fair_queue.defer(partial(self._go_on, patience - 1), self._transport)
            self._session.alive()  # its answer to a heartbeat may be behind what is held
            return
        self._goes_on = False
        if not self._transport.is_closing():
            self.data_received(b"")

    def eof_received(self) -> bool:
        return False

    # ---------------------------------------------------------------------------------------------------- bytes out

    def __call__(self) -> None:
        """One write of what is queued, or of a piece of it.

        It is what the outbox calls: a bound method would be 64 bytes for each client.

        The kernel is given what it takes at once, the transport only the rest: it would keep all until the loop comes
        by, and by that second visit its memory is out of the processor's cache. That was a fifth of the user-space
        time of a delivery.
        """
        outbox = self._outbox
        frame = outbox.first
        if frame is not None and not self._paused:
            if outbox.more is None and not self._shared.deflate:
                outbox.first = None
                data = frame.wire or wire(frame)
            else:
                data = self._joined(outbox.take_piece())
            try:
                sent = os.write(self._descriptor, data) if outbox.direct >= 0 or self._drained() else 0
            except OSError:  # full, or broken: the transport finds out which, and does what is to be done
                sent = 0
            if sent < len(data):
                self._write(data[sent:])
        if outbox.closed:
            self._close(outbox.closed)
        elif self._reading_paused:
            self._read_on()

    def _joined(self, frames: list[Frame]) -> bytes:
        if self._shared.deflate:
            return b"".join([frame.deflated or deflated_wire(frame) for frame in frames])
        return b"".join([frame.wire or wire(frame) for frame in frames])

    def _write(self, data: bytes) -> None:
        self._outbox.direct = -1
        self._transport.write(data)

    def _drained(self) -> bool:
        """Whether nothing waits in the transport. What comes next may go to the kernel itself, then."""
        drained = self._descriptor >= 0 and not self._transport.get_write_buffer_size()
        if drained and not self._shared.deflate and not self._outbox.closed:
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
        self._pong(self._ping)
        self._outbox.go_on()
        if self._reading_paused:
            self._read_on()

    # -------------------------------------------------------------------------------------------------------- the end

    def _close(self, why: Disconnect) -> None:
        """Give the client a while to read what is queued and why, behind it, and to close its side."""
        if self._closing:
            return
        if self._outbox.first is None:
            self._closing = True
            self._write(encode(Opcode.CLOSE, close_payload(why.code, why.reason)))
            self._is_paced, self._allowance = False, UNDER_WAY
            if self._reading_paused:
                self._read_on()  # for the client's own Close frame
        if not self._ending:
            self._ending = True
            host = self._session.host
            self._session.end(why)
            host.wheel.schedule(self, host.timing.close_timeout)

    def _closed_by_client(self, code: int | None) -> None:
        if not self._closing:
            self._closing = True
            # RFC 6455, 5.5.1: "When sending a Close frame in response, the endpoint typically echos the status code
            # it received."
            self._write(encode(Opcode.CLOSE, close_payload(code, "") if code is not None else b""))
            self._session.end(closed_by_client(code))
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
        """Let the client finish what it sends, and go on as far as this is concerned."""
        self._outbox.take()
        self.connection_lost(None)
        host = self._session.host
        LastWord(self._transport, self._connections, host.wheel, host.timing.close_timeout)

    def visit(self, now: float) -> float:
        """The wheel: the client did not close its side in time, or may be read again."""
        if self._closing or self._ending:
            self._transport.abort()
        elif self._is_paced:
            self._is_paced = False
            self._ask_for_more()
            self._read_on()
        return 0

    # -------------------------------------------------------------------------------------------------- see `Guest`

    def deadline(self) -> float | None:
        """The time is the session's."""
        return None if self._session.connected or self._outbox.closed else inf

    def overdue(self) -> bool:
        """It has no deadline."""
        return False

    def evict(self) -> None:
        self._transport.abort()

    def shutdown(self) -> None:
        """What uvicorn calls when the server ends."""
        self._session.close(Disconnect.shutdown())

    def connection_lost(self, error: Exception | None) -> None:
        self._closing = True
        self._descriptor = self._outbox.direct = -1  # the number is soon another file's
        self._connections.discard(self)
        if self._lobby is not None:
            self._lobby.leave(self)
        self._session.outbox.detach()
        self._session.host.wheel.cancel(self)
        self._session.end(closed_by_client(CUT_OFF))


def descriptor(transport: asyncio.Transport) -> int:
    """The socket that may be written to beside its transport; -1 when that is more than a socket."""
    if transport.get_extra_info("sslcontext") is not None or os.name != "posix":
        return -1
    found = transport.get_extra_info("socket")
    return found.fileno() if found is not None else -1


class SharedDecoder:
    """The decoder of all clients that have the same limits, and nothing unfinished: then it holds nothing of anyone."""

    __slots__ = ("_limits", "decoder", "deflate")

    def __init__(self, limits: MessageLimits, *, deflate: bool) -> None:
        self._limits = limits
        self.deflate = deflate
        self.decoder = Decoder(limits, deflate=deflate)

    def take(self) -> Decoder:
        """What it was fed last is unfinished: it belongs to that client, and the others have another."""
        taken, self.decoder = self.decoder, Decoder(self._limits, deflate=self.deflate)
        return taken


class _SharedDecoders(threading.local):
    """Those of an event loop: it has a thread for itself."""

    def __init__(self) -> None:
        self._by_limits: dict[tuple[MessageLimits, bool], SharedDecoder] = {}

    def of(self, limits: MessageLimits, *, deflate: bool) -> SharedDecoder:
        key = (limits, deflate)
        if key not in self._by_limits:
            self._by_limits[key] = SharedDecoder(limits, deflate=deflate)
        return self._by_limits[key]


_shared = _SharedDecoders()
