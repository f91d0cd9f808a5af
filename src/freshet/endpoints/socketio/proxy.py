"""A WebSocket that reached another node than its session's: the two carry it together, as polls are passed on.

The node with the socket has a `WebSocketProxy`, that with the session a `ProxiedWebSocket`. Between them are requests
and replies, so that nothing is lost unnoticed: one waits for what goes to the client, another brings what comes from
it. When one fails, the socket ends, and the client reconnects.
"""

import asyncio
import secrets
from collections.abc import Callable, Iterable
from typing import Literal

import msgspec

from freshet.config import Bound
from freshet.dialects.socketio import engineio
from freshet.endpoints.socketio.engine import EngineSession, EngineSessions, EngineWebSocket
from freshet.errors import Disconnect, EngineUnavailable
from freshet.model.frame import Frame
from freshet.node.bus import Bus
from freshet.session.outbox import Outbox
from freshet.session.session import Host

PORTION = 64 * 1024  # bytes of one request or reply, unless a single frame has more
DRAIN_INTERVAL = 0.05  # seconds between looks at a client that does not read
MARGIN = 5.0  # seconds beyond the heartbeat, within which each request is answered and the next one comes

WireFrame = tuple[bool, bytes]
"""Whether it is binary, and its data."""


class ProxyRequest(msgspec.Struct, array_like=True, frozen=True):
    """sid: the session's. socket: the secret name of the WebSocket. frames: that came from the client, to `bring`."""

    sid: str
    socket: str
    action: Literal["open", "take", "bring"]
    frames: list[WireFrame] = []


class ProxyReply(msgspec.Struct, array_like=True, frozen=True):
    """frames: for the client. closed: code and reason with which the socket is to close behind them."""

    frames: list[WireFrame] = []
    closed: tuple[int, str] | None = None


NO_SESSION = ProxyReply(closed=(4400, "no such session"))


def _patience(host: Host) -> float:
    """Seconds for a request: within them there is at least a heartbeat to reply with."""
    return host.timing.ping_interval + host.timing.pong_timeout + MARGIN


def _portion(frames: list[WireFrame]) -> tuple[list[WireFrame], list[WireFrame]]:
    """What goes at once, and the rest."""
    size = 0
    for count, (_, data) in enumerate(frames):
        size += len(data)
        if size > PORTION and count:
            return frames[:count], frames[count:]
    return frames, []


def _wire(frames: Iterable[Frame]) -> list[WireFrame]:
    wires: list[WireFrame] = []
    for first in frames:
        frame: Frame | None = first
        while frame is not None:
            wires.append((frame.binary, frame.data))
            frame = frame.tail
    return wires


def _resolve(future: asyncio.Future[ProxyReply] | None, reply: ProxyReply) -> None:
    if future is not None and not future.done():
        future.set_result(reply)


class WebSocketProxy:
    """At the node that has the WebSocket: what its transport carries. Implements `session.Carried`.

    kind: of its requests, for which the other node has `ProxiedWebSockets.handle`.
    """

    __slots__ = ("_answered", "_bringing", "_bus", "_incoming", "_kind", "_sid", "_socket", "host", "outbox")

    def __init__(self, host: Host, bus: Bus, kind: str, sid: str, outbox: Outbox) -> None:
        self.host = host
        self.outbox = outbox
        self._bus = bus
        self._kind = kind
        self._sid = sid
        self._socket = secrets.token_urlsafe(9)
        self._incoming: list[WireFrame] = []
        self._bringing = False
        self._answered = False  # its client has an answer to its probe

    @property
    def connected(self) -> bool:
        """It knows a session's secret; if that comes to nothing, its node ends both."""
        return True

    @property
    def backlog_full(self) -> bool:
        limits, incoming = self.host.limits, self._incoming
        return len(incoming) >= limits.backlog or sum(len(data) for _, data in incoming) >= limits.packet_size

    @property
    def largest(self) -> Bound:
        return self.host.limits.packet

    @property
    def largest_frame(self) -> int:
        return self.largest.size

    async def find(self) -> bool:
        """Whether the other node has the session, which then waits for the probe."""
        try:
            return (await self._request("open")).closed is None
        except EngineUnavailable:
            return False

    def open(self) -> None:
        self.host.tasks.start(self._take(), "websocket of another node: to its client", may_fail=False)

    def receive(self, frame: Frame) -> None:
        self._incoming.append((frame.binary, frame.data))
        if not self._bringing:
            self._bringing = True
            self.host.tasks.start(self._bring(), "websocket of another node: from its client", may_fail=False)

    def alive(self) -> None:
        """Of a WebSocket's own frames. Engine.IO has its own."""

    def answered(self) -> None:
        """As `alive`."""

    def close(self, why: Disconnect) -> None:
        if not self._answered:  # see `EngineWebSocket.fail`
            self.outbox.push(engineio.NOOP)
        self.outbox.close(why)

    def end(self, why: Disconnect) -> None:
        """Its client is gone. That is the last that it says, behind all that it said before."""
        self.outbox.close(why)
        self.receive(engineio.CLOSE)

    async def _take(self) -> None:
        closed: tuple[int, str] | None = None
        try:
            while closed is None:
                reply = await self._request("take")
                closed = reply.closed
                self._answered |= bool(reply.frames)
                for binary, data in reply.frames:
                    self.outbox.push(Frame(data, binary=binary))
                await asyncio.sleep(0)  # the turn at whose end the transport writes
                while self.outbox.first is not None and not self.outbox.closed:  # noqa: ASYNC110 - no event says so
                    await asyncio.sleep(DRAIN_INTERVAL)  # meanwhile more is queued at the session, up to its limit
            self.close(Disconnect(*closed))
        except EngineUnavailable:
            self.close(Disconnect.server_error())

    async def _bring(self) -> None:
        try:
            while self._incoming:
                frames, self._incoming = _portion(self._incoming)
                await self._request("bring", frames)
                self.outbox.wake()  # it may be read again
        except EngineUnavailable:
            self._incoming = []
            self.close(Disconnect.server_error())
        finally:
            self._bringing = False

    async def _request(self, action: Literal["open", "take", "bring"], frames: Iterable[WireFrame] = ()) -> ProxyReply:
        body = msgspec.msgpack.encode(ProxyRequest(self._sid, self._socket, action, list(frames)))
        node = self._sid.partition(".")[0]
        reply = await self._bus.request(node, self._kind, body, _patience(self.host))
        return msgspec.msgpack.decode(reply, type=ProxyReply)


class ProxiedWebSocket:
    """At the node that has the session: the transport of its WebSocket. Implements `wheel.Member`.

    ended: called once.
    """

    __slots__ = (
        "_ended",
        "_host",
        "_on_end",
        "_outbox",
        "_queued",
        "_room",
        "_session",
        "_socket",
        "_taken",
        "_taking",
        "slot",
    )

    def __init__(self, session: EngineSession, sessions: EngineSessions, ended: Callable[[], None]) -> None:
        self.slot = -1
        self._session = session
        self._host = session.host
        self._on_end = ended
        self._ended = False
        self._queued: list[WireFrame] = []  # taken from the outbox, for the requests that come next
        self._taking: asyncio.Future[ProxyReply] | None = None
        self._room: asyncio.Future[ProxyReply] | None = None  # who brings something waits until the session takes more
        self._taken = self._host.wheel.clock.monotonic()
        self._socket = EngineWebSocket(session, sessions, probes=True)
        self._outbox = self._socket.outbox
        self._outbox.attach(self._wake, "websocket")
        self._host.wheel.schedule(self, MARGIN)
        self._socket.open()

    async def take(self) -> ProxyReply:
        """What there is for the client, when there is something."""
        self._taken = self._host.wheel.clock.monotonic()
        if not (self._queued or self._outbox.first or self._outbox.closed):
            self._taking = asyncio.get_running_loop().create_future()
            return await self._taking
        return self._reply()

    async def bring(self, frames: list[WireFrame]) -> ProxyReply:
        """What came from the client. The reply comes once there is room for more."""
        for binary, data in frames:
            self._socket.receive(Frame(data, binary=binary))
        if self._socket.backlog_full and not self._ended:
            self._room = asyncio.get_running_loop().create_future()
            await self._room
        return ProxyReply()

    def _wake(self) -> None:
        if self._taking is not None and (self._outbox.first or self._outbox.closed):
            taking, self._taking = self._taking, None
            _resolve(taking, self._reply())
        if not self._socket.backlog_full:
            _resolve(self._room, ProxyReply())

    def _reply(self) -> ProxyReply:
        frames, self._queued = _portion(self._queued or _wire(self._outbox.take()))
        closed = self._outbox.closed
        if self._queued or self._outbox.first or closed is None:
            return ProxyReply(frames)
        self._end(closed)
        return ProxyReply(frames, (closed.code, closed.reason))

    def _end(self, why: Disconnect) -> None:
        if self._ended:
            return
        self._ended = True
        self._host.wheel.cancel(self)
        self._on_end()
        self._socket.end(why)
        _resolve(self._taking, NO_SESSION)
        _resolve(self._room, ProxyReply())

    def visit(self, now: float) -> float:
        """The wheel: a node that no longer asks is gone, and the WebSocket with it.

        Before the session pings over it, it is let ask again now and then: so long a probe keeps polls from waiting.
        """
        probing = self._session.socket is not self._socket
        patience = MARGIN if probing else _patience(self._host)
        if now - self._taken > 2 * patience:
            self._end(Disconnect.normal())
            return 0
        if probing and self._taking is not None:
            taking, self._taking = self._taking, None
            _resolve(taking, ProxyReply())
        return patience


class ProxiedWebSockets:
    """Those of this node's sessions, by their secret names."""

    def __init__(self, sessions: EngineSessions) -> None:
        self._sessions = sessions
        self._by_name: dict[str, ProxiedWebSocket] = {}

    async def handle(self, body: bytes) -> bytes:
        """A request of the node that has the WebSocket."""
        it = msgspec.msgpack.decode(body, type=ProxyRequest)
        return msgspec.msgpack.encode(await self._reply(it))

    async def _reply(self, it: ProxyRequest) -> ProxyReply:
        if it.action == "open":
            return self._open(it)
        socket = self._by_name.get(it.socket)
        if socket is None:
            return NO_SESSION
        return await (socket.take() if it.action == "take" else socket.bring(it.frames))

    def _open(self, it: ProxyRequest) -> ProxyReply:
        session = self._sessions.find(it.sid)
        if session is None:
            return NO_SESSION
        self._by_name[it.socket] = ProxiedWebSocket(session, self._sessions, lambda: self._forget(it.socket))
        return ProxyReply()

    def _forget(self, name: str) -> None:
        self._by_name.pop(name, None)
