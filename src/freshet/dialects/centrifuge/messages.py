"""The messages of the Centrifugal client protocol, version 2, apart from how they are encoded.

What a client sends is a request with an id; `command_of` makes a `Command` of it. What the server sends is a reply to
one request or a push; `reply_of` gives the fields of its message, by the names of the protocol. Both encodings use
these: JSON decodes requests into the structs below, Protobuf into generated messages with the same field names.

Source: `definitions/client.proto` of centrifugal/protocol.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

from msgspec import Raw, Struct

from freshet.dialects.centrifuge import fossil
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
from freshet.model.entries import EntryChange, EntryPage, StateEntry, entry_of
from freshet.model.events import (
    Accepted,
    Alive,
    Answer,
    Connected,
    Disconnected,
    Event,
    HistoryPage,
    Joined,
    Left,
    Message,
    PresenceList,
    PresenceStats,
    Published,
    Refreshed,
    Refused,
    Subscribed,
    SubscriptionRefreshed,
    Unsubscribed,
    Unsubscription,
)
from freshet.model.log import ClientInfo, Position, Publication

VERSION = "freshet"
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

# ------------------------------------------------------------------------------------------------------- requests


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
    since = Position(it.epoch, it.offset)
    if it.phase == STATE_PHASE:
        recover = since if it.cursor else None
        page = EntryPage(it.cursor, it.limit or -1, recover)
        return Subscribe(it.channel, id, it.token, bytes(it.data), recover, filter=tf, entries=page)
    nothing = EntryPage(limit=0)
    return Subscribe(it.channel, id, it.token, bytes(it.data), since, or_refuse=True, filter=tf, entries=nothing)


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


# ------------------------------------------------------------------------------------------------ replies and pushes


class Payload(NamedTuple):
    """How an encoding writes what passes through it undecoded.

    data: a publication's data, to be read as it is.
    part: bytes of a publication's data, or a delta of them, for a client that applies deltas.
    json: JSON of the server or of another client.
    """

    data: Callable[[Publication], bytes | Raw]
    part: Callable[[bytes], bytes | str]
    json: Callable[[bytes | Raw], bytes | Raw]


Fields: TypeAlias = dict[str, Any]
"""A message's fields by the names of the protocol; those that are empty may be left out."""


def _uint32(number: int) -> int:
    """A number that comes from a token or from the application, within the range of its field."""
    return max(0, min(number, UINT32))


def _info(info: ClientInfo, payload: Payload) -> Fields:
    fields: Fields = {"user": info.user, "client": info.client}
    if info.conn_info:
        fields["conn_info"] = payload.json(info.conn_info)
    if info.chan_info:
        fields["chan_info"] = payload.json(info.chan_info)
    return fields


def publication_fields(publication: Publication, payload: Payload) -> Fields:
    """A publication with its data whole."""
    fields: Fields = {"data": payload.data(publication)}
    if publication.info:
        fields["info"] = _info(publication.info, payload)
    if publication.offset:
        fields["offset"] = publication.offset
    if publication.tags:
        fields["tags"] = publication.tags
    return fields


def entry_fields(entry: StateEntry, payload: Payload, offset: int = 0) -> Fields:
    """An entry of a map, or its removal."""
    fields: Fields = {"key": entry.key}
    if entry.value:
        fields["data"] = payload.data(Publication(entry.value))
    else:
        fields["removed"] = True
    if offset:
        fields["offset"] = offset
    if entry.tags:
        fields["tags"] = entry.tags
    if entry.info is not None:
        fields["info"] = _info(entry.info, payload)
    return fields


def entry_push(event: Published, payload: Payload) -> Fields | None:
    """A publication for a client that takes the channel as a map; None: it changes nothing in there."""
    entry = entry_of(event.publication)
    if entry is None:
        return None
    return {"push": {"channel": event.channel, "pub": entry_fields(entry, payload, event.publication.offset)}}


def _delta_fields(publication: Publication, before: Publication | None, payload: Payload) -> Fields:
    """A publication for a client that has the one before: the delta, or the whole where that is not longer."""
    fields = publication_fields(publication, payload)
    data = bytes(payload.data(publication))
    if before is not None:
        delta = fossil.create(bytes(payload.data(before)), data)
        if len(delta) < len(data):
            data, fields["delta"] = delta, True
    fields["data"] = payload.part(data)
    return fields


def _expiry(ttl: int | None) -> Fields:
    return {} if ttl is None else {"expires": True, "ttl": _uint32(ttl)}


def _stand(event: Subscribed, payload: Payload) -> Fields:
    """Where a subscription begins: what the reply to `Subscribe` and the push of a server's subscription share."""
    fields: Fields = {}
    if event.recoverable:
        fields |= {"recoverable": True, "positioned": True, "epoch": event.position.epoch}
        if event.position.offset:
            fields["offset"] = event.position.offset
    if event.data:
        fields["data"] = payload.json(event.data)
    return fields


def _subscribed(event: Subscribed, payload: Payload) -> Fields:
    fields = _stand(event, payload) | _expiry(event.ttl)
    if event.recovered is not None:
        fields |= {"was_recovering": True, "recovered": event.recovered}
    if event.delta:
        fields["delta"] = True
    if event.debounce:
        fields["publish_debounce"] = max(1, round(event.debounce * 1000))
    publications = event.publications
    if event.entries is not None:
        return fields | _map(event, payload)
    if publications and event.delta:
        befores = [None, *publications]
        fields["publications"] = [
            _delta_fields(each, before, payload) for each, before in zip(publications, befores, strict=False)
        ]
    elif publications:
        fields["publications"] = [publication_fields(each, payload) for each in publications]
    return fields


def _map(event: Subscribed, payload: Payload) -> Fields:
    """The protocol has it that the server says the type again, and no phase once the flow is live."""
    fields: Fields = {"type": MAPS[0], "state": [entry_fields(each, payload) for each in event.entries or ()]}
    if event.cursor:
        fields |= {"phase": STATE_PHASE, "cursor": event.cursor}
    changes = [(each.offset, entry_of(each)) for each in event.publications]
    fields["publications"] = [entry_fields(entry, payload, offset) for offset, entry in changes if entry is not None]
    return fields


def _connected(event: Connected, payload: Payload) -> Fields:
    fields: Fields = {"client": event.client, "version": VERSION, "ping": _uint32(event.ping), "pong": True}
    if event.data:
        fields["data"] = payload.json(event.data)
    if event.session:
        fields |= {"session": event.session, "node": event.node}
    if event.subscriptions:
        fields["subs"] = {each.channel: _subscribed(each, payload) for each in event.subscriptions}
    return fields | _expiry(event.ttl)


def _history_page(event: HistoryPage, payload: Payload) -> Fields:
    publications = [publication_fields(each, payload) for each in event.stream.publications]
    epoch, offset = event.stream.position
    return {"publications": publications, "epoch": epoch, "offset": offset}


def presence_fields(event: PresenceList, payload: Payload) -> Fields:
    return {"presence": {id: _info(info, payload) for id, info in event.clients.items()}}


def _presence_stats(event: PresenceStats, payload: Payload) -> Fields:
    return {"num_clients": event.clients, "num_users": event.users}


def _refreshed(event: Refreshed, payload: Payload) -> Fields:
    return {"client": event.client, "version": VERSION} | _expiry(event.ttl)


def _refused(event: Refused, payload: Payload) -> Fields:
    return {"code": _uint32(event.code), "message": event.message, "temporary": event.temporary}


def _presence_change(event: Joined | Left, payload: Payload) -> Fields:
    return {"info": _info(event.info, payload)}


def _unsubscribed(event: Unsubscribed, payload: Payload) -> Fields:
    return {"code": _uint32(event.code), "reason": event.reason}


def _nothing(event: Event, payload: Payload) -> Fields:
    return {}


Write: TypeAlias = Callable[[Any, Payload], Fields]

REPLIES: dict[type[Any], tuple[str, Write]] = {
    Accepted: ("publish", _nothing),
    Alive: ("ping", _nothing),
    Answer: ("rpc", lambda event, payload: {"data": payload.json(event.data or b"null")}),
    Connected: ("connect", _connected),
    HistoryPage: ("history", _history_page),
    PresenceList: ("presence", presence_fields),
    PresenceStats: ("presence_stats", _presence_stats),
    Refreshed: ("refresh", _refreshed),
    Refused: ("error", _refused),
    Subscribed: ("subscribe", _subscribed),
    SubscriptionRefreshed: ("sub_refresh", lambda event, payload: _expiry(event.ttl)),
    Unsubscription: ("unsubscribe", _nothing),
}
"""The replies to commands: their field in the protocol's `Reply`, and how its fields are made."""

PUSHES: dict[type[Any], tuple[str, Write]] = {
    Joined: ("join", _presence_change),
    Left: ("leave", _presence_change),
    Published: ("pub", lambda event, payload: publication_fields(event.publication, payload)),
    Subscribed: ("subscribe", _stand),
    Unsubscribed: ("unsubscribe", _unsubscribed),
}
"""What belongs to a channel and answers no command: its field in the protocol's `Push`, and how its fields are made."""


def push_after(event: Published, before: Publication | None, payload: Payload) -> Fields:
    """A publication for a client that applies deltas and has `before`; None: it has none yet."""
    return {"push": {"channel": event.channel, "pub": _delta_fields(event.publication, before, payload)}}


def reply_of(event: Event, payload: Payload) -> Fields | None:
    """A reply or a push as the fields of the protocol's `Reply`; None: the protocol has no message for it."""
    if type(event) is Disconnected:
        return {"push": {"disconnect": {"code": _uint32(event.code), "reason": event.reason}}}
    if type(event) is Message:
        return {"push": {"message": {"data": payload.json(event.data)}}}
    id = getattr(event, "id", 0)
    if id and (reply := REPLIES.get(type(event))):
        name, write = reply
        return {"id": id, name: write(event, payload)}
    if push := PUSHES.get(type(event)):
        name, write = push
        return {"push": {"channel": event.channel, name: write(event, payload)}}  # type: ignore[attr-defined]
    return None
