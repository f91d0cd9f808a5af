"""Socket.IO over an Engine.IO line: a session for each namespace, all of which share the line and its outbox."""

from collections.abc import Callable
from urllib.parse import urlencode

import msgspec

from freshet.dialects.socketio.packets import Packet, PacketDecoder, SocketIO, Stamped, Type, encode_packet
from freshet.endpoints.socketio.engine import Line
from freshet.errors import Disconnect
from freshet.model.commands import Command, Connect
from freshet.model.frame import Frame, Handshake
from freshet.session.outbox import Outbox
from freshet.session.session import Session

Open = Callable[[SocketIO, Handshake, Outbox], Session]
"""Opens a session with a share of an outbox."""


class Branch(Outbox):
    """A session's share of its line's outbox. Its end is a packet, not the end of the line."""

    __slots__ = ("_line", "_places", "_sockets", "_stamp", "namespace")

    def __init__(self, line: Line, sockets: "Sockets", namespace: str) -> None:
        super().__init__(line.outbox.turn, line.outbox.limit)
        self._line = line
        self._sockets = sockets
        self.namespace = namespace
        self.wake = self._room
        self._places: dict[str, str] = {}
        self._stamp = b""

    def _room(self) -> None:
        self._line.outbox.wake()

    def push(self, frame: Frame) -> None:
        if self.closed is None:
            self._line.outbox.push(self._stamped(frame))

    def send(self, frame: Frame) -> None:
        if self.closed is None:
            self._line.outbox.send(self._stamped(frame))

    def offer(self, frame: Frame, key: object) -> None:
        if self.closed is None:
            self._line.outbox.offer(self._stamped(frame), (self.namespace, key))

    def answer(self, frames: list[Frame]) -> None:
        if self.closed is None:
            self._line.outbox.answer([self._stamped(frame) for frame in frames])

    def _stamped(self, frame: Frame) -> Frame:
        """With where this session stands in each of its rooms, if it is one to say so."""
        if type(frame) is not Stamped:
            return frame
        if frame.channel:
            self._places[frame.channel] = frame.place
            self._stamp = urlencode(self._places).encode()
        return frame.stamped(self._stamp)

    def close(self, why: Disconnect) -> None:
        if self.closed is None:
            self.closed = why
            self._sockets.closed(self.namespace, why)


class Sockets:
    """The sessions of one line, by namespace. dialects: those that there are.

    Implements `engineio.Upper`.
    """

    __slots__ = ("_decoder", "_dialects", "_handshake", "_line", "_open", "_sessions", "settled")

    def __init__(
        self, line: Line, open_session: Open, dialects: Callable[[str], SocketIO | None], handshake: Handshake
    ) -> None:
        self._line = line
        self._open = open_session
        self._dialects = dialects
        self._handshake = handshake
        self._decoder = PacketDecoder(line.host.limits.message_size)
        self._sessions: dict[str, Session] = {}
        self.settled = False

    @property
    def congested(self) -> bool:
        return any(session.congested for session in self._sessions.values())

    def receive(self, frame: Frame) -> None:
        packet = self._decoder.feed(frame)
        if packet is None:
            return
        session = self._sessions.get(packet.namespace)
        if packet.type is Type.CONNECT:
            if session is None:
                self._connect(packet)
        elif session is None:
            return  # on its way when the server ended the session: the client will hear of it
        elif packet.type is Type.DISCONNECT:
            self._sessions.pop(packet.namespace)
            session.host.forget(session)
            session.end(Disconnect.normal())
        elif packet.type in (Type.ACK, Type.BINARY_ACK):
            # Past the commands that wait: one of them may be what waits for it.
            session.acknowledge(0 if packet.id is None else packet.id + 1, packet.data)
        else:
            session.do(session.dialect.command(packet))  # type: ignore[attr-defined]

    def _connect(self, packet: Packet) -> None:
        dialect = self._dialects(packet.namespace)
        if dialect is None or len(self._sessions) >= self._line.host.limits.channels_per_client:
            message = "Invalid namespace" if dialect is None else "Too many namespaces"
            self._line.outbox.push(encode_packet(Type.CONNECT_ERROR, packet.namespace, None, {"message": message}))
            return
        self.settled = True
        session = self._open(dialect, self._handshake, Branch(self._line, self, packet.namespace))
        self._sessions[packet.namespace] = session
        session.do([self._with_token(command) for command in dialect.command(packet)])

    def _with_token(self, command: Command) -> Command:
        """The token may also come with the request that opened the line."""
        if type(command) is Connect and not command.token and (token := self._handshake.token):
            return msgspec.structs.replace(command, token=token)
        return command

    def alive(self) -> None:
        for session in self._sessions.values():
            session.alive()

    def closed(self, namespace: str, why: Disconnect) -> None:
        """The server ended a session. A client that is to come back comes back by a line of its own."""
        session = self._sessions.pop(namespace, None)
        if session is None or self._line.ended:
            return
        if not session.connected:
            error = {"message": why.reason, "data": {"code": why.code}}
            self._line.outbox.push(encode_packet(Type.CONNECT_ERROR, namespace, None, error))
        elif not why.reconnect:
            self._line.outbox.push(encode_packet(Type.DISCONNECT, namespace, None))
        session.end(why)
        if session.connected and why.reconnect:
            self._line.close(why)

    def ended(self, why: Disconnect) -> None:
        sessions, self._sessions = self._sessions, {}
        for session in sessions.values():
            session.end(why)
