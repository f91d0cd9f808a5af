"""The Centrifugal client protocol, version 2, as Protobuf: what the mobile clients speak.

The same commands and replies as in JSON, each behind its length; payloads are bytes of any sort. An empty message is
the server's ping and the client's pong. Source of the numbers: `definitions/client.proto` of centrifugal/protocol.
"""

from collections.abc import Sequence
from functools import partial

from msgspec import Raw

from freshet.dialects.base import Dialect, kind_of
from freshet.dialects.centrifuge.json import (
    COMMANDS_PER_FRAME,
    PONG,
    ChannelMessage,
    ConnectMessage,
    EmptyMessage,
    HistoryMessage,
    Payload,
    PublishMessage,
    RefreshMessage,
    RpcMessage,
    SendMessage,
    SinceMessage,
    SubRefreshMessage,
    SubscribeMessage,
    WireCommand,
    command_of,
    push_after,
    reply_of,
)
from freshet.dialects.centrifuge.wire import (
    Kind,
    Many,
    Map,
    Message,
    Scalar,
    decode,
    encode,
    field,
    read_delimited,
    varint,
)
from freshet.errors import Disconnect
from freshet.model.commands import Command, Publish, TagFilter
from freshet.model.events import Event, Heartbeat, Published
from freshet.model.frame import Frame
from freshet.model.log import Publication
from freshet.rules.filters import DEPTH

INT, UINT, BOOL, TEXT, BYTES = Scalar.INT, Scalar.UINT, Scalar.BOOL, Scalar.TEXT, Scalar.BYTES

# --------------------------------------------------------------------------------------------------- what comes in


def _filter(vals: Sequence[str] = (), nodes: Sequence[TagFilter] = (), **texts: str) -> TagFilter:
    return TagFilter(vals=tuple(vals), nodes=tuple(nodes), **texts)


def _filters(depth: int) -> Message:
    """A table for filters within filters. One more than is allowed, so that what is too deep is not passed over."""
    texts: dict[str, tuple[int, Kind]] = {"op": (1, TEXT), "key": (2, TEXT), "cmp": (3, TEXT), "val": (4, TEXT)}
    nodes: dict[str, tuple[int, Kind]] = {"nodes": (6, Many(_filters(depth - 1)))} if depth else {}
    return Message(_filter, **texts, vals=(5, Many(TEXT)), **nodes)


_SUBSCRIBE = Message(
    SubscribeMessage,
    channel=(1, TEXT),
    token=(2, TEXT),
    recover=(3, BOOL),
    epoch=(6, TEXT),
    offset=(7, UINT),
    data=(8, BYTES),
    flag=(14, INT),
    delta=(12, TEXT),
    tf=(13, _filters(DEPTH)),
)
_CONNECT = Message(
    ConnectMessage,
    token=(1, TEXT),
    data=(2, BYTES),
    subs=(3, Map(_SUBSCRIBE)),
    name=(4, TEXT),
    version=(5, TEXT),
)
_CHANNEL = Message(partial(ChannelMessage, channel=""), channel=(1, TEXT))
_COMMAND = Message(
    WireCommand,
    id=(1, UINT),
    connect=(4, _CONNECT),
    subscribe=(5, _SUBSCRIBE),
    unsubscribe=(6, _CHANNEL),
    publish=(7, Message(partial(PublishMessage, channel="", data=Raw()), channel=(1, TEXT), data=(2, BYTES))),
    presence=(8, _CHANNEL),
    presence_stats=(9, _CHANNEL),
    history=(
        10,
        Message(
            partial(HistoryMessage, channel=""),
            channel=(1, TEXT),
            limit=(7, INT),
            since=(8, Message(SinceMessage, offset=(1, UINT), epoch=(2, TEXT))),
            reverse=(9, BOOL),
        ),
    ),
    ping=(11, Message(EmptyMessage)),
    send=(12, Message(SendMessage, data=(1, BYTES))),
    rpc=(13, Message(RpcMessage, data=(1, BYTES), method=(2, TEXT))),
    refresh=(14, Message(RefreshMessage, token=(1, TEXT))),
    sub_refresh=(15, Message(partial(SubRefreshMessage, channel=""), channel=(1, TEXT), token=(2, TEXT))),
)

EMULATION = Message(node=(1, TEXT), session=(2, TEXT), data=(3, BYTES))
"""What the client of a stream posts."""

# -------------------------------------------------------------------------------------------------- what goes out

_INFO = Message(user=(1, TEXT), client=(2, TEXT), conn_info=(3, BYTES), chan_info=(4, BYTES))
_PUBLICATION = Message(data=(4, BYTES), info=(5, _INFO), offset=(6, UINT), tags=(7, Map(TEXT)), delta=(8, BOOL))
_PUBLICATIONS = Many(_PUBLICATION)
_SUBSCRIBED = Message(
    expires=(1, BOOL),
    ttl=(2, UINT),
    recoverable=(3, BOOL),
    epoch=(6, TEXT),
    publications=(7, _PUBLICATIONS),
    recovered=(8, BOOL),
    offset=(9, UINT),
    positioned=(10, BOOL),
    data=(11, BYTES),
    was_recovering=(12, BOOL),
    delta=(13, BOOL),
)
_CONNECTED = Message(
    client=(1, TEXT),
    version=(2, TEXT),
    expires=(3, BOOL),
    ttl=(4, UINT),
    data=(5, BYTES),
    subs=(6, Map(_SUBSCRIBED)),
    ping=(7, UINT),
    pong=(8, BOOL),
    session=(9, TEXT),
    node=(10, TEXT),
)
_EXPIRY = Message(expires=(1, BOOL), ttl=(2, UINT))
_REASON = Message(code=(2, UINT), reason=(3, TEXT))
_PUSH = Message(
    channel=(2, TEXT),
    pub=(4, _PUBLICATION),
    join=(5, Message(info=(1, _INFO))),
    leave=(6, Message(info=(1, _INFO))),
    unsubscribe=(7, _REASON),
    message=(8, Message(data=(1, BYTES))),
    subscribe=(
        9,
        Message(
            recoverable=(1, BOOL),
            epoch=(4, TEXT),
            offset=(5, UINT),
            positioned=(6, BOOL),
            data=(7, BYTES),
        ),
    ),
    disconnect=(11, Message(code=(1, UINT), reason=(2, TEXT), reconnect=(3, BOOL))),
)
_REPLY = Message(
    id=(1, UINT),
    error=(2, Message(code=(1, UINT), message=(2, TEXT), temporary=(3, BOOL))),
    push=(4, _PUSH),
    connect=(5, _CONNECTED),
    subscribe=(6, _SUBSCRIBED),
    unsubscribe=(7, Message()),
    publish=(8, Message()),
    presence=(9, Message(presence=(1, Map(_INFO)))),
    presence_stats=(10, Message(num_clients=(1, UINT), num_users=(2, UINT))),
    history=(11, Message(publications=(1, _PUBLICATIONS), epoch=(2, TEXT), offset=(3, UINT))),
    ping=(12, Message()),
    rpc=(13, Message(data=(1, BYTES))),
    refresh=(14, Message(client=(1, TEXT), version=(2, TEXT), expires=(3, BOOL), ttl=(4, UINT))),
    sub_refresh=(15, _EXPIRY),
)

_HEARTBEAT = Frame(b"\0", binary=True)


class CentrifugeProtobuf(Dialect):
    """Holds nothing, so that all sessions share one."""

    __slots__ = ()
    name = "centrifuge_protobuf"
    subprotocol = "centrifuge-protobuf"

    def receive(self, frame: Frame) -> list[Command]:
        commands: list[Command] = []
        at = 0
        try:
            while at < len(frame.data):
                if len(commands) == COMMANDS_PER_FRAME:
                    raise Disconnect.bad_request(f"a frame holds 1 to {COMMANDS_PER_FRAME} commands")
                data, at = read_delimited(frame.data, at)
                commands.append(_read(data))
        except ValueError:
            raise Disconnect.bad_request("malformed command") from None
        if not commands:
            raise Disconnect.bad_request(f"a frame holds 1 to {COMMANDS_PER_FRAME} commands")
        return commands

    def encode(self, event: Event) -> Frame | None:
        if type(event) is Published and event.publication.info is None and event.publication.tags is None:
            return _encode_published(event.channel, event.publication)
        if type(event) is Heartbeat:
            return _HEARTBEAT
        wire = reply_of(event, _PAYLOAD)
        return _frame(wire) if wire is not None else None

    def encode_after(self, event: Published, before: Publication | None) -> Frame:
        return _frame(push_after(event, before, _PAYLOAD))

    def join(self, frames: list[Frame]) -> list[Frame]:
        """One frame with all messages."""
        return [Frame(b"".join([frame.data for frame in frames]), binary=True)] if len(frames) > 1 else frames


def _read(data: bytes) -> Command:
    if not data:
        return PONG
    command = command_of(decode(_COMMAND, data))
    if type(command) is not Publish:
        return command
    kind, payload = kind_of(command.data)
    return Publish(command.channel, payload, command.id, kind)


_PAYLOAD = Payload(lambda publication: publication.data, bytes)


def _frame(wire: dict[str, object]) -> Frame:
    reply = encode(_REPLY, wire)
    return Frame(varint(len(reply)) + reply, binary=True)


def _encode_published(channel: str, publication: Publication) -> Frame:
    """The common case, without a table."""
    offset = b"\x30" + varint(publication.offset) if publication.offset else b""
    push = field(2, channel.encode()) + field(4, field(4, publication.data) + offset)
    reply = field(4, push)
    return Frame(varint(len(reply)) + reply, binary=True)
