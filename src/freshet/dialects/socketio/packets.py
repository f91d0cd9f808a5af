"""Socket.IO, version 5, without I/O: events with acknowledgements, in namespaces that share one connection.

A packet is `<type>[<attachments>-][<namespace>,][<id>][<JSON>]`; binary values in it are frames of their own, behind
it. A frame here begins with the `4` of the Engine.IO message that carries it. A channel is a room: its publications are
events, named by their tag `event`. Source: `docs/socket.io-protocol` of socketio/socket.io.
"""

import re
from collections.abc import Callable
from enum import IntEnum
from typing import Any, NamedTuple
from urllib.parse import urlencode

import msgspec

from freshet.config import Bound
from freshet.dialects.base import Dialect, disconnect_for
from freshet.errors import Disconnect
from freshet.model.commands import Command, Connect
from freshet.model.events import Connected, Event, Message, Published, Refused, Subscribed, Unsubscribed
from freshet.model.frame import Batch, Frame
from freshet.model.json_text import TOO_DEEP, Reader, decode, encode, one_line, outline
from freshet.model.log import NOWHERE, Kind, Publication

ATTACHMENT = 128
"""Bytes that a binary value of a packet counts for at least: it is an object of its own."""

NO_ATTACHMENTS = Bound(0, "limits.packet_size")

DEPTH = 64
"""How deep arrays and objects with binary values may be nested."""

EVENT, NAMESPACE, ARGUMENTS = "event", "namespace", "arguments"
"""Tags of a publication: the event's name, the one namespace that gets it, and that its data are several arguments."""

_RESERVED = frozenset({"connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"})
_HEAD = re.compile(rb"4([0-6])(?:(\d{1,10})-)?(?:(/[^,]{0,255})(?:,|\Z))?(\d{1,15})?", re.DOTALL)

_AUTH = ("token", "pid", "offset")  # what Freshet reads of the `auth` object of a CONNECT packet

_json = msgspec.json.Encoder().encode
_values = Reader(list[msgspec.Raw])
_name = msgspec.json.Decoder(str).decode


class ConnectNamespace(Command, frozen=True):
    """A client wants a session in a namespace.

    pid, stamp: the session that was cut off, which it resumes, and what it received last.
    """

    connect: Connect
    pid: str = ""
    stamp: str = ""
    id: int = 1


class Emit(Command, frozen=True):
    """A client has an event for the server's functions. id: 0 when it wants no acknowledgement.

    arguments: each JSON as it came, `msgspec.Raw`; those of an event with attachments are decoded. refused: why it is
    not answered by a function.
    """

    event: str
    arguments: list[Any]
    id: int = 0
    refused: str = ""


class NamespaceConnected(Connected, frozen=True):
    """pid: with which the client can resume this session; the same as before if it did; empty: it cannot."""

    pid: str = ""


class Emitted(Event, frozen=True):
    """The server has an event for one client. id: 0 when it wants no acknowledgement."""

    event: str
    arguments: list[Any]
    id: int = 0


class Acknowledged(Event, frozen=True):
    """The answer to `Emit`."""

    id: int
    arguments: list[Any]


class Type(IntEnum):
    """The packet types of the protocol, by their number on the wire."""

    CONNECT = 0
    DISCONNECT = 1
    EVENT = 2
    ACK = 3
    CONNECT_ERROR = 4
    BINARY_EVENT = 5
    BINARY_ACK = 6


class Packet(NamedTuple):
    """What a client sent. id: as sent; None: it wants no acknowledgement. data: decoded, with its attachments.

    The arguments of an event without attachments are not decoded: each is `msgspec.Raw`. refused: why only the name of
    the event is known.
    """

    type: Type
    namespace: str
    id: int | None = None
    data: Any = None
    refused: str = ""


class PacketDecoder:
    """Frames to packets, for one connection. bound: what the attachments of a packet may have together."""

    __slots__ = ("_attachments", "_bound", "_pending", "_size", "_wanted")

    def __init__(self, bound: Bound) -> None:
        self._bound = bound
        self._pending: Packet | None = None
        self._wanted = 0
        self._attachments: list[bytes] = []
        self._size = 0

    def feed(self, frame: Frame) -> Packet | None:
        """The packet that is complete with this frame. Raises `Disconnect` and nothing else, whatever the bytes."""
        if frame.binary:
            return self._attach(frame.data)
        if self._pending is not None:
            raise Disconnect.bad_request("expected a binary attachment")
        packet, attachments = _parse(frame.data)
        if attachments * ATTACHMENT > self._bound.size:
            raise Disconnect.too_big(*self._bound)
        if not attachments:
            return packet if packet.type < Type.BINARY_EVENT else _complete(packet, [])
        self._pending, self._wanted = packet, attachments
        return None

    def forget(self) -> None:
        """The client is gone: let go of a packet that is not complete."""
        self._pending, self._attachments = None, []

    def _attach(self, data: bytes) -> Packet | None:
        if self._pending is None:
            raise Disconnect.bad_request("a binary attachment without a packet")
        self._size += max(len(data), ATTACHMENT)
        if self._size > self._bound.size:
            raise Disconnect.too_big(*self._bound)
        self._attachments.append(data)
        if len(self._attachments) < self._wanted:
            return None
        packet, attachments = self._pending, self._attachments
        self._pending, self._attachments, self._size = None, [], 0
        return _complete(packet, attachments)


def _parse(data: bytes) -> tuple[Packet, int]:
    """A packet, and how many attachments follow."""
    head = _HEAD.match(data)
    if head is None:
        raise Disconnect.bad_request("malformed packet")
    kind = Type(int(head[1]))
    binary = kind >= Type.BINARY_EVENT
    attachments = int(head[2] or 0)
    if (head[2] is not None) is not binary:
        raise Disconnect.bad_request("a binary packet says how many attachments it has, and no other has any")
    rest = one_line(data[head.end() :])
    try:
        namespace = head[3].decode() if head[3] else "/"
        value, refused = _read_event(rest) if kind is Type.EVENT else _read(kind, rest)
    except (msgspec.DecodeError, ValueError, IndexError, RecursionError):
        raise Disconnect.bad_request("malformed packet") from None
    packet = Packet(kind, namespace.partition("?")[0], int(head[4]) if head[4] else None, value, refused)
    _check(packet)
    return packet, attachments


def _read(kind: Type, text: bytes) -> tuple[Any, str]:
    """What a packet holds, and why it is refused all the same."""
    try:
        return decode(text) if text else None, ""
    except RecursionError:
        if kind is not Type.BINARY_EVENT:
            raise
    return decode(outline(text)), TOO_DEEP


def _read_event(text: bytes) -> tuple[list[Any], str]:
    refused = ""
    try:
        values: list[Any] = _values.decode(text)
        values[0] = _name(values[0])
    except (msgspec.DecodeError, RecursionError):
        try:
            values = list(_values(text))
        except RecursionError:
            values, refused = list(_values(outline(text))), TOO_DEEP
        values[0] = decode(bytes(values[0]))
    return values, refused


def _check(packet: Packet) -> None:
    kind, data = packet.type, packet.data
    if kind is Type.CONNECT:
        fits = packet.id is None and (data is None or isinstance(data, dict))
    elif kind is Type.DISCONNECT:
        fits = packet.id is None and data is None
    elif kind in (Type.EVENT, Type.BINARY_EVENT):
        fits = isinstance(data, list) and bool(data) and _names_event(data[0])
    else:
        fits = kind is not Type.CONNECT_ERROR and isinstance(data, list) and packet.id is not None
    if not fits:
        raise Disconnect.bad_request(f"malformed {kind.name.lower()} packet")


def _names_event(name: Any) -> bool:
    # A number, too, as in the official parser; `on` of an event emitter makes a text of it.
    return name not in _RESERVED if isinstance(name, str) else type(name) in (int, float)


def _complete(packet: Packet, attachments: list[bytes]) -> Packet:
    """The packet with its attachments in place of their placeholders, each used once at most."""
    left = dict(enumerate(attachments))

    def fill(value: Any, depth: int) -> Any:
        if depth > DEPTH:
            raise RecursionError
        if isinstance(value, list):
            return [fill(each, depth + 1) for each in value]
        if not isinstance(value, dict):
            return value
        if value.get("_placeholder") is True:
            number = value.get("num")
            if type(number) is not int or number not in left:
                raise Disconnect.bad_request("a placeholder without an attachment")
            return left.pop(number)
        return {name: fill(each, depth + 1) for name, each in value.items()}

    try:
        return packet._replace(data=fill(packet.data, 0))
    except RecursionError:
        return packet._replace(data=packet.data[:1], refused=f"binary values in more than {DEPTH} levels")


def encode_packet(kind: Type, namespace: str, id: int | None, data: Any = None) -> Frame:
    """A packet as the frame that carries it, with its attachments as the tail. data: bytes in it become attachments."""
    attachments: list[bytes] = []
    if kind in (Type.EVENT, Type.ACK):
        data = _extract(data, attachments, 0)
    head = b"4%d" % (kind + 3 if attachments else kind)
    if attachments:
        head += b"%d-" % len(attachments)
    if namespace != "/":
        head += namespace.encode() + b","
    if id is not None:
        head += b"%d" % id
    tail: Frame | None = None
    for attachment in reversed(attachments):
        tail = Frame(attachment, binary=True, tail=tail)
    return Frame(head + (encode(data) if data is not None else b""), tail=tail)


def _extract(value: Any, attachments: list[bytes], depth: int) -> Any:
    """A value without the bytes in it, which go to `attachments`."""
    if isinstance(value, bytes | bytearray | memoryview):
        attachments.append(bytes(value))
        return {"_placeholder": True, "num": len(attachments) - 1}
    if depth <= DEPTH and isinstance(value, list | tuple):
        return [_extract(each, attachments, depth + 1) for each in value]
    if depth <= DEPTH and isinstance(value, dict):
        return {name: _extract(each, attachments, depth + 1) for name, each in value.items()}
    return value


class Stamped(Frame):
    """An event to which each session appends its stamp as the last argument: the client gives it back when it returns.

    A stamp says where a session stands in each of its rooms. channel: the one in which this event moves it; empty:
    none. place: where it stands then, the channel and `epoch:offset` as in a query.
    """

    __slots__ = ("_by_stamp", "channel", "place")

    def __init__(self, frame: Frame, channel: str = "", position: str = "") -> None:
        super().__init__(frame.data, tail=frame.tail)
        self.channel = channel
        self.place = urlencode({channel: position}).encode() if channel else b""
        self._by_stamp: dict[bytes, Frame] = {}

    def move(self, places: dict[str, bytes]) -> bytes:
        """Move a session, whose places are these; its stamp then."""
        if self.channel:
            places[self.channel] = self.place
        return b"&".join(places.values())

    def stamped(self, places: dict[str, bytes]) -> Frame:
        """The same, and the event with the stamp: one frame for all sessions that have the same."""
        stamp = self.move(places)
        frame = self._by_stamp.get(stamp)
        if frame is None:
            data = b"%b,%b]" % (self.data[:-1], _json(stamp.decode()))
            frame = self._by_stamp[stamp] = Frame(data, tail=self.tail)
        return frame


class StampedBatch(Batch):
    """Several events of a turn that move a session in the same channel, one after the other."""

    __slots__ = ("_by_stamp", "_events")

    def __init__(self, events: list[Stamped]) -> None:
        super().__init__([*events])
        self._events = events
        self._by_stamp: dict[bytes, Frame] = {}

    def stamped(self, places: dict[str, bytes]) -> Frame:
        """As of each event. Stamps that are the same behind the last are so behind each: they move in one place."""
        stamp = self._events[-1].move(places)
        batch = self._by_stamp.get(stamp)
        if batch is None:
            batch = self._by_stamp[stamp] = Batch([event.stamped(places) for event in self._events])
        return batch


class SocketIO(Dialect):
    """The dialect of one namespace, which its sessions share. name: differs by namespace, as the encoding does.

    recovers: its clients can recover their connection, so that events are `Stamped`.
    """

    __slots__ = ("name", "namespace", "recovers")
    replays_in_reply = False
    has_heartbeat = False
    in_order = True

    def __init__(self, namespace: str, *, recovers: bool = False) -> None:
        self.namespace = namespace
        self.recovers = recovers
        self.name = f"socketio:{namespace}"

    def batch(self, frames: list[Frame]) -> list[Frame]:
        if not self.recovers:
            return super().batch(frames)
        events = [frame for frame in frames if type(frame) is Stamped]
        together = 1 < len(events) == len(frames) and len({event.channel for event in events}) == 1
        return [StampedBatch(events)] if together else frames

    def receive(self, frame: Frame) -> list[Command]:
        packet = PacketDecoder(NO_ATTACHMENTS).feed(frame)
        return self.command(packet) if packet is not None else []

    def command(self, packet: Packet) -> list[Command]:
        """The commands that a packet of this namespace stands for. An acknowledgement is none."""
        if packet.type is Type.CONNECT:
            auth = packet.data or {}
            token, pid, stamp = (it if isinstance(it := auth.get(name), str) else "" for name in _AUTH)
            return [ConnectNamespace(Connect(1, token, encode(auth)), pid, stamp)]
        if packet.type in (Type.EVENT, Type.BINARY_EVENT):
            event, *arguments = packet.data
            return [Emit(str(event), arguments, 0 if packet.id is None else packet.id + 1, packet.refused)]
        return []

    def encode(self, event: Event) -> Frame | None:
        write = _WRITE.get(type(event))
        frame = write(self.namespace, event) if write is not None else None
        # A client does not read a position behind an event that wants an acknowledgement.
        wants_ack = type(event) is Emitted and event.id
        if frame is None or not self.recovers or type(event) not in _STAMPED or wants_ack:
            return frame
        if type(event) is Published and event.publication.offset:
            return Stamped(frame, event.channel, f"{event.epoch}:{event.publication.offset}")
        return Stamped(frame)


def _published(namespace: str, event: Published) -> Frame | None:
    publication = event.publication
    tags = publication.tags or {}
    if tags.get(NAMESPACE, namespace) != namespace:
        return None
    name = tags.get(EVENT, "message")
    if publication.kind is Kind.BYTES:
        return encode_packet(Type.EVENT, namespace, None, [name, publication.data])
    data = publication.data if publication.kind is Kind.JSON else _json(publication.data.decode())
    if ARGUMENTS in tags and data[:1] == b"[":
        data = data[1:-1]  # a list of arguments: they follow the name as they are
    prefix = b"42" if namespace == "/" else b"42%b," % namespace.encode()
    return Frame(b"%b[%b,%b]" % (prefix, _json(name), data) if data else b"%b[%b]" % (prefix, _json(name)))


def _refused(namespace: str, event: Refused) -> Frame | None:
    """Only a refused `Connect` comes here: the refusal of an event is its acknowledgement."""
    raise disconnect_for(event)


def _described(subscribed: Subscribed) -> dict[str, Any]:
    described: dict[str, Any] = {"channel": subscribed.channel}
    if subscribed.position != NOWHERE:
        described |= {"epoch": subscribed.position.epoch, "offset": subscribed.position.offset}
    if subscribed.recovered is not None:
        described["recovered"] = subscribed.recovered
    return described


_WRITE: dict[type[Any], Callable[[str, Any], Frame | None]] = {
    Acknowledged: lambda ns, it: encode_packet(Type.ACK, ns, it.id - 1, it.arguments),
    NamespaceConnected: lambda ns, it: encode_packet(
        Type.CONNECT, ns, None, {"sid": it.client} | ({"pid": it.pid} if it.pid else {})
    ),
    Emitted: lambda ns, it: encode_packet(Type.EVENT, ns, it.id - 1 if it.id else None, [it.event, *it.arguments]),
    Message: lambda ns, it: _published(ns, Published("", Publication(it.data))),
    Published: _published,
    Refused: _refused,
    Subscribed: lambda ns, it: encode_packet(Type.ACK, ns, it.id - 1, [_described(it)]) if it.id else None,
    Unsubscribed: lambda ns, it: encode_packet(
        Type.EVENT, ns, None, ["unsubscribed", {"channel": it.channel, "code": it.code}]
    ),
}

_STAMPED = frozenset({Emitted, Message, Published, Unsubscribed})
"""The events that go out as an EVENT packet, to which a position can be appended."""
