"""Socket.IO over an Engine.IO session: a session for each namespace, all of which share its outbox."""

import asyncio
import secrets
from collections.abc import Callable
from typing import Any

import msgspec

from freshet.dialects.socketio.packets import (
    ConnectNamespace,
    Emitted,
    NamespaceConnected,
    Packet,
    PacketDecoder,
    SocketIO,
    Stamped,
    StampedBatch,
    Type,
    encode_packet,
)
from freshet.endpoints.socketio.engine import EngineSession
from freshet.endpoints.socketio.namespaces import Namespace
from freshet.endpoints.socketio.resume import Resumption
from freshet.errors import Disconnect
from freshet.model.commands import Command
from freshet.model.events import Event
from freshet.model.frame import Frame, Handshake
from freshet.rules.hooks import Hook
from freshet.runtime.portal import from_anywhere
from freshet.session.outbox import Outbox, broadcast
from freshet.session.session import Session


class SocketRecord:
    """What a session has beside that of other dialects.

    pid: the secret with which its client goes on after a cut; empty: it cannot. calls: what the client was asked and
    has not acknowledged, by its id. last_id: of the calls so far; they begin anywhere. early: emitted before the client
    knows that it is connected. moved: it has resumed on another node.
    """

    __slots__ = ("calls", "early", "last_id", "moved", "namespace", "pid", "resumption")

    def __init__(self, namespace: Namespace, resumption: Resumption) -> None:
        self.namespace = namespace
        self.resumption = resumption
        self.pid = ""
        self.calls: dict[int, asyncio.Future[list[Any]]] = {}
        # What a client acknowledges too late, even after it has reconnected, must not answer another call.
        self.last_id = secrets.randbelow(1 << 30)
        self.early: list[Emitted] = []
        self.moved = False


class SocketSession(Session):
    """One Socket.IO client in one namespace: a `Session` that can be sent events, which handlers of events get."""

    __slots__ = ()

    record: SocketRecord

    # -------------------------------------------------------------------------------------- for the server's functions

    async def emit(self, event: str, *arguments: Any, volatile: bool = False) -> None:
        """Send an event to this client alone. It is in no log: a client that is away misses it.

        volatile: it may be dropped, the oldest first, if the client does not read in time.
        """
        portal = self.host.portal
        if not portal.is_here():  # rather than `from_anywhere`, which costs a coroutine for each emit
            return await portal.run(self.emit(event, *arguments, volatile=volatile))
        emitted = Emitted(event, list(arguments))
        if self.connected:
            self.push(emitted, volatile=volatile)
        elif len(self.record.early) < self.host.limits.backlog:
            self.record.early.append(emitted)  # behind the answer to its connect
        else:
            raise Disconnect.slow()
        return None

    @from_anywhere
    async def call(self, event: str, *arguments: Any, timeout: float = 60) -> Any:  # noqa: ASYNC109 - as users write it
        """Send an event to this client and wait for its acknowledgement: its value, or a tuple of several.

        Raises TimeoutError after `timeout` seconds, and `Disconnect` when the client is gone.
        """
        calls = self.record.calls
        if self.ended or len(calls) >= self.host.limits.backlog:
            raise self.ended or Disconnect.slow()
        self.record.last_id += 1
        id = self.record.last_id
        answer = calls[id] = asyncio.get_running_loop().create_future()
        self.push(Emitted(event, list(arguments), id))
        try:
            async with asyncio.timeout(timeout):
                values = await answer
        except asyncio.CancelledError:
            if self.ended and answer.cancelled():
                raise self.ended from None
            raise
        finally:
            calls.pop(id, None)
        return values[0] if len(values) == 1 else tuple(values) or None

    @from_anywhere
    async def join(self, channel: str) -> None:
        await super().join(channel)
        await self.record.resumption.remember(self)

    @from_anywhere
    async def leave(self, channel: str) -> None:
        await super().leave(channel)
        await self.record.resumption.remember(self)

    # ---------------------------------------------------------------------------------------------------- how it lives

    @property
    def on_disconnect(self) -> Hook | None:
        return self.record.namespace.disconnect

    @property
    def moved(self) -> bool:
        return self.record.moved

    def push(self, event: Event, *, volatile: bool = False) -> None:
        super().push(event, volatile=volatile)
        if type(event) is NamespaceConnected:
            early, self.record.early = self.record.early, []
            for emitted in early:
                super().push(emitted)

    def acknowledge(self, id: int, values: list[Any]) -> None:
        """The client acknowledged a call. An acknowledgement that nobody waits for is dropped."""
        answer = self.record.calls.get(id)
        if answer is not None and not answer.done():
            answer.set_result(values)

    def visit(self, now: float) -> float:
        due = super().visit(now)
        if self.record.pid and due:
            self.host.tasks.start(self.record.resumption.remember(self), "socket.io: remember a session")
        return due

    def end(self, why: Disconnect) -> None:
        if self.ended is None:
            super().end(why)
            for call in self.record.calls.values():
                call.cancel()
            self.record.resumption.ended(self)


class NamespaceOutbox(Outbox):
    """A session's share of its Engine.IO session's outbox. Its end is a packet, not the end of that.

    places: where the session stands, as in a stamp, by channel; None: what goes out has no stamp.
    """

    __slots__ = ("_engine", "_sessions", "namespace", "places")

    def __init__(self, engine: EngineSession, sessions: "NamespaceSessions", namespace: str) -> None:
        self._engine = engine
        super().__init__(engine.outbox.turn, engine.outbox.limit)
        self._sessions = sessions
        self.namespace = namespace
        self.places: dict[str, bytes] | None = None

    @property
    def transport(self) -> str:  # an Engine.IO session is upgraded, and has another then
        return self._engine.outbox.transport

    @transport.setter
    def transport(self, name: str) -> None:
        """It has none of its own."""

    @property
    def direct(self) -> int:  # so that what is the same for all of a room does not come by here
        if self.places is not None or self.closed:
            return -1
        outbox = self._engine.outbox
        return outbox.direct if outbox.first is None else -1

    @direct.setter
    def direct(self, descriptor: int) -> None:
        self._engine.outbox.direct = descriptor

    @property
    def waiting(self) -> int:
        return self._engine.outbox.waiting

    @property
    def wake(self) -> Callable[[], None]:
        return self._engine.outbox.wake

    @wake.setter
    def wake(self, wake: Callable[[], None]) -> None:
        """It has none of its own."""

    def push(self, frame: Frame) -> None:
        if self.closed is None:
            self._engine.outbox.push(self._stamped(frame))

    def send(self, frame: Frame) -> None:
        if self.closed is None:
            broadcast((self._engine.outbox,), self._stamped(frame))

    def put_back(self, frame: Frame) -> None:
        self._engine.outbox.put_back(frame)

    def offer(self, frame: Frame, key: object) -> None:
        if self.closed is None:
            self._engine.outbox.offer(self._stamped(frame), (self.namespace, key))

    def replay(self, frames: list[Frame]) -> None:
        if self.closed is None:
            self._engine.outbox.replay([self._stamped(frame) for frame in frames])

    def _stamped(self, frame: Frame) -> Frame:
        """With where this session stands in each of its rooms, if it is one to say so."""
        places = self.places
        return frame.stamped(places) if places is not None and isinstance(frame, (Stamped, StampedBatch)) else frame

    def close(self, why: Disconnect) -> None:
        if self.closed is None:
            self.closed = why
            self._sessions.closed(self.namespace, why)


Open = Callable[[str, Handshake, NamespaceOutbox], SocketSession | None]
"""Opens a session of a namespace with a share of an outbox; None: there is no such namespace."""


class NamespaceSessions:
    """The sessions of one Engine.IO session, by namespace. Implements `engine.MessageLayer`."""

    __slots__ = ("_decoder", "_engine", "_handshake", "_open", "_sessions", "_size", "settled")

    def __init__(self, engine: EngineSession, open_session: Open, handshake: Handshake) -> None:
        self._engine = engine
        self._open = open_session
        self._handshake = handshake
        self._decoder = PacketDecoder(engine.host.limits.packet)
        self._size = 0  # bytes of the packet that is being received
        self._sessions: dict[str, SocketSession] = {}
        self.settled = False

    @property
    def backlog_full(self) -> bool:
        return any(session.backlog_full for session in self._sessions.values())

    def receive(self, frame: Frame) -> None:
        self._size += len(frame.data)
        packet = self._decoder.feed(frame)
        if packet is None:
            return
        size, self._size = self._size, 0
        session = self._sessions.get(packet.namespace)
        if packet.type is Type.CONNECT:
            if session is None:
                self._connect(packet)
        elif session is None:
            return  # on its way when the server ended the session: the client will learn of it
        elif packet.type is Type.DISCONNECT:
            self._sessions.pop(packet.namespace)
            session.record.resumption.forget(session)
            session.end(Disconnect.normal())
        elif packet.type in (Type.ACK, Type.BINARY_ACK):
            # Past the queued commands: one of them may be what waits for it.
            session.acknowledge(0 if packet.id is None else packet.id + 1, packet.data)
        else:
            session.do(self._commands(session, packet), heavy=size > self._engine.host.limits.message_size)

    def _connect(self, packet: Packet) -> None:
        namespace, session = packet.namespace, None
        full = len(self._sessions) >= self._engine.host.limits.channels_per_client
        if not full:
            session = self._open(namespace, self._handshake, NamespaceOutbox(self._engine, self, namespace))
        if session is None:
            message = "Too many namespaces" if full else "Invalid namespace"
            self._engine.outbox.push(encode_packet(Type.CONNECT_ERROR, namespace, None, {"message": message}))
            return
        self.settled = True
        self._sessions[namespace] = session
        session.do([self._with_token(command) for command in self._commands(session, packet)])

    @staticmethod
    def _commands(session: SocketSession, packet: Packet) -> list[Command]:
        dialect = session.dialect
        assert isinstance(dialect, SocketIO)
        return dialect.command(packet)

    def _with_token(self, command: Command) -> Command:
        """The token may also come with the request that opened the Engine.IO session."""
        if type(command) is ConnectNamespace and not command.connect.token and (token := self._handshake.token):
            return msgspec.structs.replace(command, connect=msgspec.structs.replace(command.connect, token=token))
        return command

    def alive(self) -> None:
        for session in self._sessions.values():
            session.alive()

    def closed(self, namespace: str, why: Disconnect) -> None:
        """The server ended a session. A client that is to reconnect does so by an Engine.IO session of its own."""
        session = self._sessions.pop(namespace, None)
        if session is None or self._engine.ended:
            return
        if not why.reconnect:  # which both of these mean to the official clients
            error = {"message": why.reason, "data": {"code": why.code}}
            what = (Type.DISCONNECT, None) if session.connected else (Type.CONNECT_ERROR, error)
            self._engine.outbox.push(encode_packet(what[0], namespace, None, what[1]))
        session.end(why)
        if why.reconnect:
            self._engine.close(why)

    def ended(self, why: Disconnect) -> None:
        self._decoder.forget()  # what refers to itself is collected late, and attachments are large
        sessions, self._sessions = self._sessions, {}
        for session in sessions.values():
            session.end(why)
