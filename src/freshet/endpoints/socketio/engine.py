"""An Engine.IO line: what carries Socket.IO, over HTTP polls, over a WebSocket, or first the one and then the other.

A `Line` has the outbox that its transport of the moment drains. A WebSocket brings a `Socket`, which probes the way
and then takes the line over: what waits moves into its outbox, so that nothing is lost or overtaken.
"""

import asyncio
import secrets
from collections.abc import Callable
from typing import Protocol

from freshet.dialects.socketio import engineio
from freshet.errors import Disconnect
from freshet.model.frame import Frame
from freshet.session.outbox import Outbox, Turn
from freshet.session.session import Host

PACKETS_PER_POLL = 16
"""The Python client takes no more: it would close the line."""


class Upper(Protocol):
    """What is spoken over a line. settled: it has come to something, so that the line may stay."""

    settled: bool

    @property
    def congested(self) -> bool: ...

    def receive(self, frame: Frame) -> None:
        """A message. Raises `Disconnect` for what ends the line."""

    def alive(self) -> None:
        """The client was heard."""

    def ended(self, why: Disconnect) -> None:
        """The line is over. Called once."""


class Lines:
    """The lines of a process, by their secret `sid`, which begins with the name of the node."""

    def __init__(self, host: Host, turn: Turn, node: str) -> None:
        self.host = host
        self.node = node
        self._turn = turn
        self._by_sid: dict[str, Line] = {}

    def outbox(self) -> Outbox:
        return Outbox(self._turn, self.host.limits.outbox)

    def open(self, upper: Callable[["Line"], Upper]) -> "Line":
        line = Line(self, upper)
        self._by_sid[line.sid] = line
        return line

    def find(self, sid: str) -> "Line | None":
        """The line, if it is there: one whose client is overdue is not, even if the wheel comes only later."""
        line = self._by_sid.get(sid)
        if line is not None and line.overdue:
            line.end(Disconnect.no_pong())
        return line if line is not None and line.ended is None else None

    def close(self, line: "Line") -> None:
        self._by_sid.pop(line.sid, None)


class Line:
    """One client's line.

    socket: the WebSocket that carries it; None while it polls. probing: one is trying to take over. poll: the request
    that waits, which is answered with what waits then and the packet that is its result. posting: a request brings
    something.
    """

    __slots__ = (
        "_heard",
        "_lines",
        "_next_ping",
        "_settle_by",
        "ended",
        "held",
        "host",
        "outbox",
        "poll",
        "posting",
        "probing",
        "room",
        "sid",
        "slot",
        "socket",
        "upper",
    )

    def __init__(self, lines: Lines, upper: Callable[["Line"], Upper]) -> None:
        self.host = lines.host
        self._lines = lines
        self.sid = f"{lines.node}.{secrets.token_urlsafe(15)}"
        self.outbox = lines.outbox()
        self.outbox.attach(self._answer_poll)
        self.socket: Socket | None = None
        self.probing = False
        self.poll: asyncio.Future[Frame | None] | None = None
        self.posting = False
        self.held: list[Frame] = []  # taken from the outbox, for the polls that come next
        self.room: asyncio.Future[None] | None = None  # a request waits until the client's sessions take more
        self.ended: Disconnect | None = None
        self.slot = -1
        self.upper = upper(self)
        timing, now = self.host.timing, self._now()
        self._settle_by = now + timing.connect_timeout
        # The first ping comes at a place in the interval that differs from client to client.
        self._next_ping = now + timing.ping_interval * (0.5 + secrets.randbelow(450) / 1024)
        self._heard = True
        self.host.wheel.schedule(self, min(self._next_ping - now, timing.connect_timeout))

    def _now(self) -> float:
        return self.host.wheel.clock.monotonic()

    def opening(self, upgrades: list[str]) -> Frame:
        timing = self.host.timing
        return engineio.opening(
            self.sid, upgrades, timing.ping_interval, timing.pong_timeout, self.host.limits.message_size
        )

    # ------------------------------------------------------------------------------------------------ from the client

    def receive(self, frame: Frame) -> None:
        """A packet, by whatever transport. Whatever it holds, nothing is raised."""
        if self.ended or self.outbox.closed:
            return
        self._heard = True
        kind = frame.data[:1]
        try:
            if frame.binary or kind == b"4":
                self.upper.receive(frame)
            elif kind == b"3":
                self.upper.alive()
            elif kind == b"1":
                self._left()
            elif kind != b"6":
                raise Disconnect.bad_request("unknown packet type")
        except Disconnect as why:
            self.close(why)

    def _left(self) -> None:
        """The client closes it."""
        if self.socket is not None:
            self.outbox.close(Disconnect.normal())
            return
        self._answer_poll(engineio.NOOP)
        self.end(Disconnect.normal())

    # -------------------------------------------------------------------------------------------------- to the client

    def _answer_poll(self, last: Frame | None = None) -> None:
        """What wakes the outbox while the client polls."""
        if self.poll is not None and not self.poll.done() and (last or self.outbox.first):
            self.poll.set_result(last)
        if self.room is not None and not self.room.done() and not self.upper.congested:
            self.room.set_result(None)
        if self.outbox.closed:
            self.end(self.outbox.closed)

    def close(self, why: Disconnect) -> None:
        """End it from this side: a waiting poll is told, a WebSocket closes once what waits is sent."""
        if self.socket is None:
            self._answer_poll(engineio.CLOSE)
            self.end(why)
        else:
            self.outbox.close(why)

    def end(self, why: Disconnect) -> None:
        """It is over. Later calls do nothing."""
        if self.ended is None:
            self.ended = self.outbox.closed or why
            self._lines.close(self)
            self.host.wheel.cancel(self)
            self.outbox.close(why)
            if self.poll is not None and not self.poll.done():
                self.poll.set_result(engineio.CLOSE)
            if self.room is not None and not self.room.done():
                self.room.set_result(None)
            self.upper.ended(self.ended)

    def probe(self) -> None:
        """A WebSocket may take over: the poll that waits is answered, so that the client can stop polling."""
        self.probing = True
        if self.poll is not None and not self.poll.done():
            self.poll.set_result(engineio.NOOP)

    def carry(self, socket: "Socket") -> None:
        """From now on the WebSocket is the transport."""
        waiting, self.outbox = self.outbox, socket.outbox
        self.probing = False
        self.socket = socket
        for frame in [*self.held, *waiting.take()]:
            self.outbox.push(frame)
        self.held = []

    def portion(self) -> list[Frame]:
        """What waits, for one poll: whole frames, and not more packets than a client takes at once."""
        if self.socket is not None:
            return []  # it took over meanwhile, and what waits with it
        self.held = self.held or self.outbox.take()
        packets = 0
        for count, frame in enumerate(self.held):
            packets += engineio.packets_of(frame)
            if packets > PACKETS_PER_POLL and count:
                portion, self.held = self.held[:count], self.held[count:]
                return portion
        portion, self.held = self.held, []
        return portion

    # ------------------------------------------------------------------------------------------------------ the wheel

    @property
    def overdue(self) -> bool:
        """The answer to a ping did not come in time, or nothing ever came of the line."""
        now, timing = self._now(), self.host.timing
        if not self.upper.settled and now >= self._settle_by:
            return True
        if self._heard:
            # A ping that the wheel has not sent yet counts from when it was due.
            return self.socket is None and now >= self._next_ping + timing.pong_timeout
        return now >= self._next_ping - timing.ping_interval + timing.pong_timeout

    def visit(self, now: float) -> float:
        """See `wheel.Member`."""
        timing = self.host.timing
        if self.ended or self.outbox.closed:
            return 0
        if self.overdue:
            self.close(Disconnect.no_pong() if self.upper.settled else Disconnect.stale())
            return 0
        if now >= self._next_ping:
            self._next_ping += timing.ping_interval * max(1, (now - self._next_ping) // timing.ping_interval)
            self._heard = False
            self.outbox.push(engineio.PING)
        due = self._next_ping if self._heard else self._next_ping - timing.ping_interval + timing.pong_timeout
        if not self.upper.settled:
            due = min(due, self._settle_by)
        return max(0.01, due - now)


class Socket:
    """A WebSocket of a line. probes: it comes to a line that polls, and has to show first that it gets through."""

    __slots__ = ("_line", "_probed", "_probes", "host", "outbox")

    def __init__(self, line: Line, lines: Lines, *, probes: bool) -> None:
        self._line = line
        self._probes = probes
        self._probed = False
        self.host = line.host
        self.outbox = lines.outbox()

    @property
    def congested(self) -> bool:
        return self._line.upper.congested

    def open(self) -> None:
        if not self._probes:
            self._line.carry(self)
            self.outbox.push(self._line.opening([]))
        elif self._line.socket is not None or self._line.probing:
            self.outbox.close(Disconnect.bad_request("the line has a WebSocket"))

    def receive(self, frame: Frame) -> None:
        if not self._probes:
            self._line.receive(frame)
        elif frame.data == engineio.PROBE and self._line.ended is None:
            self._probed = True
            self.outbox.push(engineio.PROBED)
            self._line.probe()
        elif frame.data == engineio.UPGRADE and self._probed and self._line.ended is None:
            self._probes = False
            self._line.carry(self)
        else:
            self.outbox.close(Disconnect.bad_request("expected a probe"))

    def alive(self) -> None:
        """A WebSocket pong. Engine.IO has its own."""

    def close(self, why: Disconnect) -> None:
        self.outbox.close(why)

    def end(self, why: Disconnect) -> None:
        if self._probes:
            self._line.probing = False
        else:
            self._line.end(why)
