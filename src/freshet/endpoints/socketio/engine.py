"""An Engine.IO session: what carries Socket.IO, over HTTP polls, over a WebSocket, or first one and then the other.

An `EngineSession` has the outbox that its transport of the moment drains. A WebSocket brings an `EngineWebSocket`,
which probes the way and then takes the session over: its backlog moves into the WebSocket's outbox, so that nothing is
lost or overtaken.
"""

import asyncio
import secrets
from collections.abc import Callable
from typing import Protocol

from freshet.config import Bound
from freshet.dialects.socketio import engineio
from freshet.errors import Disconnect
from freshet.model.frame import Frame
from freshet.session.outbox import Outbox, Turn
from freshet.session.session import Host

PACKETS_PER_POLL = 16
"""The Python client takes no more: it would close the session."""


class MessageLayer(Protocol):
    """What is spoken over a session. settled: it has come to something, so that the session may stay."""

    settled: bool

    @property
    def backlog_full(self) -> bool: ...

    def receive(self, frame: Frame) -> None:
        """A message. Raises `Disconnect` for what ends the session."""

    def alive(self) -> None:
        """The client is there."""

    def ended(self, why: Disconnect) -> None:
        """The session is over. Called once."""


class EngineSessions:
    """The sessions of a process, by their secret `sid`, which begins with the name of the node."""

    def __init__(self, host: Host, turn: Turn, node: str) -> None:
        self.host = host
        self.node = node
        self._turn = turn
        self._by_sid: dict[str, EngineSession] = {}

    def outbox(self) -> Outbox:
        return Outbox(self._turn, self.host.limits.outbox)

    def open(self, messages: Callable[["EngineSession"], MessageLayer]) -> "EngineSession":
        session = EngineSession(self, messages)
        self._by_sid[session.sid] = session
        return session

    def find(self, sid: str) -> "EngineSession | None":
        """The session, if it is there: one whose client is overdue is not, even if the wheel comes only later."""
        session = self._by_sid.get(sid)
        if session is not None and session.overdue:
            session.end(Disconnect.no_pong())
        return session if session is not None and session.ended is None else None

    def close(self, session: "EngineSession") -> None:
        self._by_sid.pop(session.sid, None)

    def close_all(self, why: Disconnect) -> None:
        """Also those on which nothing is spoken, whose polls would wait on."""
        for session in list(self._by_sid.values()):
            session.close(why)


class EngineSession:
    """One client's session.

    socket: the WebSocket that carries it; None while it polls. upgrading: one that is to take over, the last that came.
    probing: it is about to, so that polls do not wait. poll: the request that waits, which is answered with what waits
    then and the packet that is its result. posting: a request brings something.
    """

    __slots__ = (
        "_next_ping",
        "_pong_received",
        "_sessions",
        "_settle_by",
        "ended",
        "held",
        "host",
        "messages",
        "outbox",
        "poll",
        "posting",
        "probing",
        "room",
        "sid",
        "slot",
        "socket",
        "upgrading",
    )

    def __init__(self, sessions: EngineSessions, messages: Callable[["EngineSession"], MessageLayer]) -> None:
        self.host = sessions.host
        self._sessions = sessions
        self.sid = f"{sessions.node}.{secrets.token_urlsafe(15)}"
        self.outbox = sessions.outbox()
        self.outbox.attach(self._answer_poll, "polling")
        self.socket: EngineWebSocket | None = None
        self.upgrading: EngineWebSocket | None = None
        self.probing = False
        self.poll: asyncio.Future[Frame | None] | None = None
        self.posting = False
        self.held: list[Frame] = []  # taken from the outbox, for the polls that come next
        self.room: asyncio.Future[None] | None = None  # a request waits until the client's sessions take more
        self.ended: Disconnect | None = None
        self.slot = -1
        self.messages = messages(self)
        timing, now = self.host.timing, self._now()
        self._settle_by = now + timing.connect_timeout
        # The first ping comes at a place in the interval that differs from client to client.
        self._next_ping = now + timing.ping_interval * (0.5 + secrets.randbelow(450) / 1024)
        self._pong_received = True
        self.host.wheel.schedule(self, min(self._next_ping - now, timing.connect_timeout))

    def _now(self) -> float:
        return self.host.wheel.clock.monotonic()

    def opening(self, upgrades: list[str]) -> Frame:
        timing = self.host.timing
        return engineio.opening(
            self.sid, upgrades, timing.ping_interval, timing.pong_timeout, self.host.limits.packet_size
        )

    # ------------------------------------------------------------------------------------------------ from the client

    def receive(self, frame: Frame) -> None:
        """A packet, by whatever transport. Whatever it holds, nothing is raised."""
        if self.ended or self.outbox.closed:
            return
        asked = not self._pong_received
        self._pong_received = True
        counts = self.host.counts
        counts.received += 1
        counts.received_bytes += len(frame.data)
        kind = frame.data[:1]
        try:
            if frame.binary or kind == b"4":
                self.messages.receive(frame)
            elif kind == b"3":
                if asked:
                    counts.round_trips.observe(max(0.0, self._now() - self._next_ping + self.host.timing.ping_interval))
                self.messages.alive()
            elif kind == b"1":
                self._left()
            elif kind != b"6":
                raise Disconnect.bad_request("unknown packet type")
        except Disconnect as why:
            self.close(why)

    def alive(self) -> None:
        """The client is there, by whatever means its transport knows."""
        self._pong_received = True

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
        if self.room is not None and not self.room.done() and not self.messages.backlog_full:
            self.room.set_result(None)
        if self.outbox.closed:
            self.end(self.outbox.closed)

    def close(self, why: Disconnect) -> None:
        """End it from this side: a waiting poll is answered, a WebSocket closes once its backlog is sent."""
        if self.socket is None:
            self.end(why)
        else:
            self.outbox.close(why)

    def end(self, why: Disconnect) -> None:
        """It is over. Later calls do nothing."""
        if self.ended is None:
            self.ended = self.outbox.closed or why
            self._sessions.close(self)
            self.host.wheel.cancel(self)
            self.outbox.close(why)
            if self.poll is not None and not self.poll.done():
                # To the Python client a close packet means that it is to stay away.
                self.poll.set_result(None if self.ended.reconnect else engineio.CLOSE)
            if self.room is not None and not self.room.done():
                self.room.set_result(None)
            if self.upgrading is not None:
                self.upgrading.fail(self.ended)
            self.messages.ended(self.ended)

    @property
    def takes_upgrade(self) -> bool:
        """It polls: whoever comes to take it over may be late, or the second."""
        return self.ended is None and self.socket is None

    def probe(self) -> None:
        """A WebSocket may take over: the poll that waits is answered, so that the client can stop polling."""
        self.probing = True
        if self.poll is not None and not self.poll.done():
            self.poll.set_result(engineio.NOOP)

    def upgrade(self, socket: "EngineWebSocket") -> None:
        """From now on the WebSocket is the transport."""
        waiting, self.outbox = self.outbox, socket.outbox
        self.probing, self.upgrading = False, None
        self.socket = socket
        for frame in [*self.held, *waiting.take()]:
            self.outbox.push(frame)
        self.held = []

    def take_portion(self) -> list[Frame]:
        """What waits, for one poll: whole frames, and not more packets than a client takes at once."""
        if self.socket is not None:
            return []  # it took over meanwhile, and what waits with it
        self.held = self.held or self.outbox.take()
        packets = 0
        for count, frame in enumerate(self.held):
            packets += engineio.packets_of(frame)
            if packets > PACKETS_PER_POLL and count:
                portion, self.held = self.held[:count], self.held[count:]
                self._pong_received = True  # who takes this is there; a ping may be behind what is left
                return portion
        portion, self.held = self.held, []
        return portion

    # ------------------------------------------------------------------------------------------------------ the wheel

    @property
    def overdue(self) -> bool:
        """The answer to a ping did not come in time, or nothing ever came of the session."""
        now, timing = self._now(), self.host.timing
        stale = not self.messages.settled and now >= self._settle_by
        # A ping that the wheel has not sent yet counts from when it was due.
        pinged = self._next_ping if self._pong_received else self._next_ping - timing.ping_interval
        if not stale and now < pinged + timing.pong_timeout:
            return False
        if self.host.wheel.stalled:
            return False  # the answer may be here, and not be read yet
        if stale:
            return True
        if self.messages.backlog_full:
            return False  # it is this side that does not read
        return self.socket is None or not self._pong_received

    def visit(self, now: float) -> float:
        """See `wheel.Member`."""
        timing = self.host.timing
        if self.ended or self.outbox.closed:
            return 0
        if self.messages.backlog_full:
            self._pong_received = True
        if self.overdue:
            self.close(Disconnect.no_pong() if self.messages.settled else Disconnect.stale())
            return 0
        if now >= self._next_ping:
            self._next_ping = now + timing.ping_interval
            self._pong_received = False
            self.outbox.push(engineio.PING)
        due = self._next_ping if self._pong_received else self._next_ping - timing.ping_interval + timing.pong_timeout
        if not self.messages.settled:
            due = min(due, self._settle_by)
        return max(0.01, due - now)


class EngineWebSocket:
    """A WebSocket of a session. probes: it comes to one that polls, and has to show first that it gets through."""

    __slots__ = ("_probed", "_probes", "_session", "host", "outbox")

    def __init__(self, session: EngineSession, sessions: EngineSessions, *, probes: bool) -> None:
        self._session = session
        self._probes = probes
        self._probed = False
        self.host = session.host
        self.outbox = sessions.outbox()

    @property
    def largest(self) -> Bound:
        return self.host.limits.packet

    @property
    def largest_frame(self) -> int:
        return self.largest.size

    @property
    def connected(self) -> bool:
        return self._session.messages.settled

    @property
    def backlog_full(self) -> bool:
        return self._session.messages.backlog_full

    def open(self) -> None:
        if not self._probes:
            self._session.upgrade(self)
            self.outbox.push(self._session.opening([]))
        elif self._session.socket is not None or self._session.probing:
            self.fail(Disconnect.bad_request("the session has a WebSocket"))
        else:
            self._session.upgrading = self

    def receive(self, frame: Frame) -> None:
        if not self._probes:
            self._session.receive(frame)
        elif frame.data == engineio.PROBE and self._session.takes_upgrade:
            self._probed = True
            self.outbox.push(engineio.PROBED)
            self._session.probe()
        elif frame.data == engineio.UPGRADE and self._probed and self._session.takes_upgrade:
            self._probes = False
            self._session.upgrade(self)
        else:
            self.fail(Disconnect.bad_request("expected a probe"))

    def fail(self, why: Disconnect) -> None:
        """It takes nothing over: its client goes on polling.

        The Python client takes the end of a WebSocket that comes in place of the answer to its probe for an error of
        its own, and never reconnects after that; another packet it understands.
        """
        if self._probes and not self._probed:
            self.outbox.push(engineio.NOOP)
        self.outbox.close(why)

    def alive(self) -> None:
        if not self._probes:
            self._session.alive()

    def answered(self) -> None:
        """Of a WebSocket's own heartbeats. Engine.IO has its own."""

    def close(self, why: Disconnect) -> None:
        self.outbox.close(why)

    def end(self, why: Disconnect) -> None:
        if self._probes:
            self._session.probing &= not self._probed  # another one may be under way
            if self._session.upgrading is self:
                self._session.upgrading = None
        else:
            self._session.end(why)
