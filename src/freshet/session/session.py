"""One client: who it is, what it may, what it is subscribed to.

Its commands run one after the other, as soon as they come; while one waits there is a task, which then runs the others,
too. A client that is quiet has no task and no timer. All that depends on time happens when the wheel visits.
"""

import logging
import secrets
from collections.abc import Coroutine, Iterable
from functools import partial
from random import random
from typing import Any, Protocol

import msgspec

from freshet.config import Bound, Limits, Timing
from freshet.dialects.base import Dialect
from freshet.errors import Disconnect
from freshet.model.commands import Command, Pong
from freshet.model.events import Event, Heartbeat, Published, Subscribed, begun_by
from freshet.model.frame import Frame, Handshake
from freshet.model.json_text import decode
from freshet.model.log import NOTHING, Claims, ClientInfo
from freshet.observe.counts import Counts, Way
from freshet.rules.capabilities import Capabilities
from freshet.rules.hooks import Hook
from freshet.runtime.portal import Portal, from_anywhere
from freshet.runtime.rates import Meter
from freshet.runtime.tasks import Tasks
from freshet.runtime.wheel import Wheel
from freshet.session.backlog import Backlog
from freshet.session.outbox import AT_ONCE, Outbox
from freshet.session.subscription import Reservation, Subscriptions

log = logging.getLogger("freshet.session")

_HEARTBEAT = Heartbeat()


class Host(Protocol):
    """What a session needs from the process that it lives in."""

    limits: Limits
    timing: Timing
    wheel: Wheel
    tasks: Tasks
    portal: Portal
    frames: Meter | None  # how fast a client is read; None: without a limit
    counts: Counts
    compression: bool  # whether a WebSocket that offers permessage-deflate gets it

    def run(self, session: "Session", command: Command) -> Coroutine[Any, Any, None] | None:
        """Run one command to its end; or up to where it has to wait, for whatever the answer waits for then.

        Raises `Disconnect`, now or when that is awaited, when it ends the session.
        """

    async def join(self, session: "Session", channel: str) -> None:
        """Subscribe it by the server's will, if it is not subscribed already. Raises `Refusal`."""

    async def leave(self, session: "Session", channel: str) -> None:
        """End a subscription by the server's will."""

    def visited(self, session: "Session") -> float:
        """The wheel came by a connected session: what expires there? The answer: seconds until the next expiry."""

    def ended(self, session: "Session") -> None:
        """The session is over: let go of all that is kept for it."""


class Session:
    """One client, as hooks and handlers get it.

    id: random; the client knows it.
    user: the `sub` of its token, or what `on_connect` said; empty until connected, and for anonymous clients.
    info: JSON that others in a channel see beside its id.
    expires: epoch seconds until when it may stay, or 0.
    subscriptions: the channels that it is in, those not yet that it is about to enter.
    """

    # token_claims: as JSON, which is small; `claims` are decoded when they are asked for. caps: what its token allows;
    # None: whatever the rules do. post: the secret under which
    # a client's commands come in requests of their own; empty: none do. record: what the endpoint that opened the
    # session keeps for it. spent: what a policy keeps of its rates. address: whose, where those are counted.
    # round_trip: seconds, of the last heartbeat that was answered. may_return: to say where it stood would show that
    # its client was here before; not once it was seen, or has left.
    __slots__ = (
        "_backlog",
        "_next_ping",
        "_pong_received",
        "address",
        "caps",
        "connected",
        "dialect",
        "ended",
        "expires",
        "handshake",
        "host",
        "id",
        "info",
        "may_return",
        "outbox",
        "post",
        "record",
        "reservations",
        "round_trip",
        "slot",
        "spent",
        "subscriptions",
        "token_claims",
        "user",
    )

    def __init__(self, host: Host, dialect: Dialect, outbox: Outbox, handshake: Handshake, record: Any = None) -> None:
        self.host = host
        self.dialect = dialect
        self.outbox = outbox
        self.handshake: Handshake | None = handshake  # until connected
        self.record = record
        self.id = secrets.token_hex(12)
        self.user = ""
        self.token_claims = b""
        self.caps: Capabilities | None = None
        self.post = ""
        self.address = ""
        self.info = NOTHING
        self.expires = 0.0
        self.connected = False
        self.may_return = True
        self.round_trip: float | None = None
        self.ended: Disconnect | None = None
        self.subscriptions = Subscriptions()
        self.reservations: dict[str, Reservation] | None = None  # of the channels that it is about to enter, if any
        self.slot = -1
        self.spent: Any = None
        self._backlog: Backlog | None = None  # while something waits
        self._pong_received = True
        self._next_ping = host.wheel.clock.monotonic() + host.timing.connect_timeout  # until then it has to connect
        host.wheel.schedule(self, host.timing.connect_timeout)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} user={self.user!r} {self.dialect.label}>"

    # ------------------------------------------------------------------------------------------------ from the client

    def open(self) -> None:
        """Begin with what the opening request itself asks for."""
        try:
            assert self.handshake is not None
            self.do(self.dialect.opened(self.handshake))
        except Disconnect as why:
            self.close(why)

    def receive(self, frame: Frame) -> None:
        """Take a frame from the transport. Whatever it holds, nothing is raised."""
        if self.ended or self.outbox.closed:
            return
        counts = self.host.counts
        counts.received += 1
        counts.received_bytes += len(frame.data)
        try:
            self.do(self.dialect.receive(frame))
        except Disconnect as why:
            self.close(why)

    def alive(self) -> None:
        """The client is there, by whatever means its transport knows."""
        self._pong_received = True

    def answered(self) -> None:
        """Its client has answered a heartbeat."""
        if not self._pong_received:
            self._pong_received = True
            sent = self._next_ping - self.host.timing.ping_interval
            self.round_trip = max(0.0, self.host.wheel.clock.monotonic() - sent)
            self.host.counts.round_trips.observe(self.round_trip)

    @property
    def backlog_full(self) -> bool:
        """Backpressure: a transport stops reading, and looks again when the outbox wakes it."""
        return self._backlog is not None and self._backlog.full

    @property
    def busy(self) -> bool:
        """Whether a command is under way, or waits."""
        return self._backlog is not None

    @property
    def crowded_since(self) -> float:
        """Since when its commands wait for it to read; 0: they do not."""
        return self._backlog.crowded_since if self._backlog is not None else 0.0

    @property
    def largest(self) -> Bound:
        return self.host.limits.frame if self.dialect.batches else self.host.limits.message

    @property
    def largest_frame(self) -> int:
        return self.largest.size

    def do(self, commands: Iterable[Command], *, heavy: bool = False) -> None:
        """Run the commands of a frame, behind those that came before. heavy: too large for others to wait behind it."""
        asked, self._pong_received = not self._pong_received, True
        backlog, outbox = self._backlog, self.outbox
        count = len(commands) if type(commands) is list else AT_ONCE
        # Where something waits, the client had its turn, or has to read first.
        waits = backlog is not None or heavy or (outbox.first and outbox.crowded)
        at_once = not waits and outbox.turn.serves(self.id, count)
        if type(commands) is list and not (backlog is not None and backlog.holds_bytes):
            if at_once and count == 1 and type(commands[0]) is not Pong:  # as most come, and behind none
                if self.ended or outbox.closed:
                    return
                try:
                    rest = self.host.run(self, commands[0])
                except Exception as why:
                    self.failed(why)
                    return
                if rest is not None:
                    self._backlog = self._new_backlog()
                    self.host.tasks.start_now(self._backlog.work(rest), "session: commands")
                return
            commands = [command for command in commands if type(command) is not Pong]
            if asked and len(commands) < count:
                self._pong_received = False
                self.answered()
        if backlog is not None:
            backlog.put(commands, heavy=heavy)
            return
        backlog = self._new_backlog()
        backlog.put(commands, heavy=heavy)
        if not backlog:
            return
        self._backlog = backlog
        if at_once:
            self.host.tasks.start_now(backlog.work(), "session: commands")
        else:
            self.host.tasks.start(backlog.work(), "session: commands", may_fail=False)

    def _new_backlog(self) -> Backlog:
        host = self.host
        return Backlog(self, partial(host.run, self), host.limits.backlog, host.wheel.clock.monotonic)

    def failed(self, why: Exception) -> None:
        """See `Behind`."""
        if not isinstance(why, Disconnect):
            log.error("a command of %r failed: it is disconnected with 3004, and reconnects", self, exc_info=why)
            why = Disconnect.server_error()
        self.close(why)

    def caught_up(self) -> None:
        """See `Behind`."""
        self._backlog = None

    # -------------------------------------------------------------------------------------------------- to the client

    def push(self, event: Event, *, volatile: bool = False) -> None:
        """Let this client alone have an event. volatile: it may be dropped for want of room."""
        begun = begun_by(event) if event.begins else None
        if self.dialect.in_order and not begun:  # what was published before these waits behind them, see `Hub.settle`
            self.outbox.turn.flush()
        try:
            frame = self.dialect.encode(event)
        except Disconnect as why:
            self.close(why)
            return
        if frame is not None:
            self.host.counts.sent += 1
            self.host.counts.sent_bytes += frame.size
            if volatile:
                self.outbox.offer(frame, frame)
            else:
                self.outbox.push(frame)
        if begun and not self.dialect.replays_in_reply:
            self.outbox.replay(self._missed(begun))

    def _missed(self, begun: list[Subscribed]) -> list[Frame]:
        missed = (
            self.dialect.encode(Published(subscribed.channel, publication, subscribed.position.epoch))
            for subscribed in begun
            for publication in subscribed.publications
        )
        return [frame for frame in missed if frame is not None]

    def close(self, why: Disconnect) -> None:
        """End the session: what was published before, and what is queued, is sent; then the transport closes."""
        self.outbox.turn.flush()
        self.outbox.close(why)

    def end(self, why: Disconnect) -> None:
        """The transport is gone. Called once by it; later calls do nothing."""
        if self.ended is None:
            self.ended = self.outbox.closed or why
            self.outbox.close(why)
            self.host.wheel.cancel(self)
            self.host.ended(self)

    # -------------------------------------------------------------------------------------- for the server's functions

    @from_anywhere
    async def join(self, channel: str) -> None:
        """Subscribe this client, if it is not subscribed already. Raises `Refusal` 102 when no rule matches."""
        await self.host.join(self, channel)

    @from_anywhere
    async def leave(self, channel: str) -> None:
        """End this client's subscription."""
        await self.host.leave(self, channel)

    @from_anywhere
    async def disconnect(self, why: Disconnect | None = None) -> None:
        """Disconnect this client; without `why`, for good (3503)."""
        self.close(why or Disconnect.force_no_reconnect())

    # ------------------------------------------------------------------------------------------ on its way to a channel

    def reserve(self, channel: str, reservation: Reservation) -> None:
        if self.reservations is None:
            self.reservations = {}
        self.reservations[channel] = reservation

    def reserved(self, channel: str) -> Reservation | None:
        return self.reservations.get(channel) if self.reservations is not None else None

    def release(self, channel: str) -> None:
        """What was reserved has come to something. Whoever waits for that looks again."""
        assert self.reservations is not None  # by the caller
        reservation = self.reservations.pop(channel)
        if not self.reservations:
            self.reservations = None
        if reservation.released is not None:
            reservation.released.set()

    # ------------------------------------------------------------------------------------------------------- who it is

    @property
    def on_disconnect(self) -> Hook | None:
        """The hook for its end, where its endpoint has one of its own."""
        return None

    @property
    def moved(self) -> bool:
        """Whether its client goes on as another session, on another node, that has its id."""
        return False

    @property
    def closing(self) -> Disconnect | None:
        """Why nothing may begin for it any more: it is over, or will be once its client has what is queued."""
        return self.ended or self.outbox.closed

    @property
    def claims(self) -> Claims:
        """What its token says; empty without a token."""
        claims: Claims = decode(self.token_claims) if self.token_claims else {}
        return claims

    def client_info(self, channel_info: msgspec.Raw = NOTHING) -> ClientInfo:
        """How others in a channel see it."""
        return ClientInfo(self.user, self.id, self.info, channel_info)

    @property
    def log_fields(self) -> dict[str, str]:
        """Of a log line that is about it."""
        return {"client": self.id, "user": self.user} if self.user else {"client": self.id}

    @property
    def way(self) -> Way:
        """How it is connected, for metrics."""
        return self.dialect.label, self.outbox.transport

    def enter(self) -> None:
        """It is connected: from now on there are heartbeats."""
        self.connected = True
        self.handshake = None
        now = self.host.wheel.clock.monotonic()
        # The first heartbeat comes at a place in the interval that differs from client to client.
        delay = self.host.timing.ping_interval * (0.5 + random() / 2)  # noqa: S311 - it hides nothing
        self._next_ping = now + delay
        due = self.host.visited(self)
        self.host.wheel.schedule(self, min(delay, due) if self.dialect.has_heartbeat else due)

    def visit(self, now: float) -> float:
        """See `wheel.Member`."""
        if self.ended or self.outbox.closed:
            return 0
        if not self.connected:
            if self.busy:  # its client has asked to connect: what takes so long is a hook, which has its own limit
                return self.host.timing.connect_timeout
            if now < self._next_ping:  # the wheel comes early where that is far away
                return self._next_ping - now
            self.close(Disconnect.stale())
            return 0
        if not self.dialect.has_heartbeat:
            return self.host.visited(self)
        if self.backlog_full or self.crowded_since:
            self._pong_received = True  # it is this side that does not read, or has much to send before a heartbeat
        timing = self.host.timing
        if self.crowded_since and now - self.crowded_since > timing.ping_interval + timing.pong_timeout:
            self.close(Disconnect.slow())
            return 0
        if not self._pong_received and now >= self._pong_by:
            self.close(Disconnect.no_pong())
            return 0
        if now >= self._next_ping:
            self._next_ping = now + self.host.timing.ping_interval
            self._pong_received = not self.dialect.answers_heartbeat
            self.push(_HEARTBEAT)
        due = self._next_ping if self._pong_received else self._pong_by
        return min(max(0.1, due - now), self.host.visited(self))

    @property
    def _pong_by(self) -> float:
        """When the answer to the last heartbeat is overdue."""
        return self._next_ping - self.host.timing.ping_interval + self.host.timing.pong_timeout
