"""What a client of the Centrifugal protocol sends, apart from how it is encoded: a request with an id.

`command_of` makes a `Command` of it. JSON decodes requests into the structs below, Protobuf into generated messages
with the same field names.

Source: `definitions/client.proto` of centrifugal/protocol.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

from msgspec import Raw, Struct

from freshet.errors import Disconnect, Refusal
from freshet.model.commands import (
    Call,
    Command,
    Connect,
    Declined,
    Ping,
    Pong,
    Publish,
    ReadHistory,
    ReadPresence,
    ReadPresenceStats,
    Refresh,
    RefreshSubscription,
    Send,
    Subscribe,
    TagFilter,
    Unsubscribe,
)
from freshet.model.entries import EntryChange, EntryPage
from freshet.model.log import Position

KIB = 1024
MESSAGE = 64 * KIB  # bytes of a command, unless a dialect is told otherwise
DELTA = "fossil"
REJECT_UNRECOVERED = 2  # a bit of a subscription's flag
MAPS = (1, 2, 3)
"""The `type` of a request that is about a channel's state: a map, of clients, of users. 0: about its publications."""
KINDS = {4: "shared poll"}
"""By the `type` of a request: what its channel is to be, where there is no such thing."""
STATE_PHASE = 2
"""The phase of a request for the entries of a map; otherwise for what came since."""
UINT32 = 2**32 - 1
"""The largest id, code and number of seconds that a message can hold."""


class SubscribeMessage(Struct):
    """tf: which publications the subscriber wants, by their tags. flag: bits, of which `REJECT_UNRECOVERED` is known.

    delta: the format in which it can apply differences between publications; only `fossil` is known. phase, cursor,
    limit: of a map: what is asked for, the last key of the page before, and how many entries.
    """

    channel: str = ""
    token: str = ""
    recover: bool = False
    epoch: str = ""
    offset: int = 0
    data: Raw = Raw()
    flag: int = 0
    delta: str = ""
    tf: TagFilter | None = None
    type: Literal[0, 1, 2, 3] = 0
    phase: int = 0
    cursor: str = ""
    limit: int = 0


class ConnectMessage(Struct):
    """subs: where the client stands in channels to which the server subscribes it."""

    token: str = ""
    data: Raw = Raw()
    subs: dict[str, SubscribeMessage] = {}
    name: str = ""
    version: str = ""


class PublishMessage(Struct):
    """data: the payload as it came."""

    channel: str
    data: Raw
    type: Literal[0] = 0


class MapPublishMessage(Struct):
    """The same request for an entry of a map. Apart, so that the frequent one is read by fewer fields."""

    channel: str
    type: Literal[1, 2, 3]
    key: str = ""
    data: Raw = Raw()
    removed: bool = False


class ChannelMessage(Struct):
    """A request that names a channel and nothing else."""

    channel: str


class SinceMessage(Struct):
    """A position in a channel's log."""

    offset: int = 0
    epoch: str = ""


class HistoryMessage(Struct):
    """limit: 0 asks for the position alone, below 0 for all."""

    channel: str
    limit: int = 0
    since: SinceMessage | None = None
    reverse: bool = False


class RpcMessage(Struct):
    """A call of a method of the server."""

    method: str = ""
    data: Raw = Raw()


class SendMessage(Struct):
    """A message to the server that wants no reply."""

    data: Raw = Raw()


class RefreshMessage(Struct):
    """A new token for the connection."""

    token: str = ""


class SubRefreshMessage(Struct):
    """A new token for one subscription."""

    channel: str
    token: str = ""


class EmptyMessage(Struct):
    """A request without fields."""


Read: TypeAlias = Callable[[int, Any], Command]
"""From an id and a request, a struct of the above or the generated message of that name, to the command."""


def position_of(it: SubscribeMessage) -> Position | None:
    """Where a subscriber stands; None: it does not ask for recovery."""
    return Position(it.epoch, it.offset) if it.recover else None


def oversized(id: int, size: int, longest: int) -> Declined:
    """size: bytes of a command that may have no more than `longest`."""
    why = f"a command of {size} bytes: at most {longest}, see limits.message_size"
    return Declined(Refusal.limit_exceeded(why), id)


def declined(id: int, kind: int) -> Declined:
    """To a client that wants another kind of channel than there is: as a stream it would stay empty for ever."""
    name = KINDS.get(kind, f"type {kind}")
    return Declined(Refusal.not_available(f"{name}: not available, channels are streams or maps here"), id)


def subscribe(id: int, it: SubscribeMessage, tf: TagFilter | None) -> Subscribe:
    """tf: the filter of the request, where that is decoded otherwise than the rest."""
    or_refuse = bool(it.flag & REJECT_UNRECOVERED)
    if it.type:
        return _subscribe_to_map(id, it, tf)
    return Subscribe(it.channel, id, it.token, bytes(it.data), position_of(it), or_refuse, it.delta == DELTA, tf)


def _subscribe_to_map(id: int, it: SubscribeMessage, tf: TagFilter | None) -> Subscribe:
    """A page of the state, where the first page tells the others since when; or what came since."""
    since, delta = Position(it.epoch, it.offset), it.delta == DELTA
    if it.phase == STATE_PHASE:
        recover = since if it.cursor else None
        page = EntryPage(it.cursor, it.limit or -1, recover)
        return Subscribe(it.channel, id, it.token, bytes(it.data), recover, delta=delta, filter=tf, entries=page)
    nothing = EntryPage(limit=0)
    return Subscribe(it.channel, id, it.token, bytes(it.data), since, True, delta, tf, nothing)


def publish_entry(id: int, it: MapPublishMessage) -> Publish | Declined:
    data = bytes(it.data)
    if not data and not it.removed:
        return Declined(Refusal.bad_request("data: expected the value of an entry, or `removed`"), id)
    return Publish(it.channel, data, id, change=EntryChange("remove" if it.removed else "set", it.key, data))


def read_history(id: int, it: HistoryMessage, since: SinceMessage | None) -> ReadHistory:
    """since: that of the request; None: it has none."""
    position = Position(since.epoch, since.offset) if since is not None else None
    return ReadHistory(it.channel, id, it.limit, position, it.reverse)


def _connect(id: int, it: ConnectMessage) -> Connect:
    recover = {channel: position for channel, sub in it.subs.items() if (position := position_of(sub))}
    return Connect(id, it.token, bytes(it.data), recover, it.name, it.version)


READ: Mapping[str, Read] = {
    "publish": lambda id, it: Publish(it.channel, bytes(it.data), id),
    "connect": _connect,
    "subscribe": lambda id, it: subscribe(id, it, it.tf),
    "unsubscribe": lambda id, it: Unsubscribe(it.channel, id),
    "presence": lambda id, it: ReadPresence(it.channel, id),
    "presence_stats": lambda id, it: ReadPresenceStats(it.channel, id),
    "history": lambda id, it: read_history(id, it, it.since),
    "ping": lambda id, it: Ping(id),
    "rpc": lambda id, it: Call(it.method, bytes(it.data), id),
    "refresh": lambda id, it: Refresh(it.token, id),
    "sub_refresh": lambda id, it: RefreshSubscription(it.channel, it.token, id),
}
"""How each request that wants a reply becomes a command, by its field in the protocol's `Command`."""

PONG = Pong()
EMPTY = "a frame holds one command or more"


def command_of(id: int, name: str, request: Any, read: Mapping[str, Read] = READ) -> Command:
    """The command that a request stands for.

    name: its field in the protocol's `Command`; empty: there is none. read: as `READ`, for an encoding that differs.

    Raises `Disconnect` when there is no request, or no id between 1 and `UINT32` for its reply.
    """
    if name == "send":
        return Send(bytes(request.data))
    if not 0 < id <= UINT32:
        raise Disconnect.bad_request("command without a valid id")
    if not name:
        raise Disconnect.bad_request("unknown command")
    return read[name](id, request)
