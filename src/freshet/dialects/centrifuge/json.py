"""The Centrifugal client protocol, version 2, as JSON: what the official `centrifuge` clients speak.

A frame holds commands or replies, each a JSON object on a line of its own. `{}` is the server's ping and the client's
pong. Source: `definitions/client.proto` of centrifugal/protocol, whose JSON mapping this is.
"""

from base64 import b64encode
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw, Struct

from freshet.dialects.base import Dialect, info_of
from freshet.dialects.centrifuge import fossil
from freshet.errors import Disconnect
from freshet.model.commands import (
    Call,
    Command,
    Connect,
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
from freshet.model.events import (
    Accepted,
    Alive,
    Answer,
    Connected,
    Disconnected,
    Event,
    Heartbeat,
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
from freshet.model.frame import Frame
from freshet.model.log import Kind, Position, Publication

VERSION = "freshet"
COMMANDS_PER_FRAME = 1024
DELTA = "fossil"
REJECT_UNRECOVERED = 2  # a bit of a subscription's flag

# --------------------------------------------------------------------------------------------------- what comes in


class SubscribeMessage(Struct):
    channel: str = ""
    token: str = ""
    recover: bool = False
    epoch: str = ""
    offset: int = 0
    data: Raw = Raw()
    flag: int = 0
    delta: str = ""
    tf: TagFilter | None = None

    def position(self) -> Position | None:
        return Position(self.epoch, self.offset) if self.recover else None


class ConnectMessage(Struct):
    token: str = ""
    data: Raw = Raw()
    subs: dict[str, SubscribeMessage] = {}
    name: str = ""
    version: str = ""


class PublishMessage(Struct):
    channel: str
    data: Raw


class ChannelMessage(Struct):
    channel: str


class SinceMessage(Struct):
    offset: int = 0
    epoch: str = ""


class HistoryMessage(Struct):
    channel: str
    limit: int = 0
    since: SinceMessage | None = None
    reverse: bool = False


class RpcMessage(Struct):
    method: str = ""
    data: Raw = Raw()


class SendMessage(Struct):
    data: Raw = Raw()


class RefreshMessage(Struct):
    token: str = ""


class SubRefreshMessage(Struct):
    channel: str
    token: str = ""


class EmptyMessage(Struct):
    pass


class WireCommand(Struct):
    id: int = 0
    connect: ConnectMessage | None = None
    subscribe: SubscribeMessage | None = None
    unsubscribe: ChannelMessage | None = None
    publish: PublishMessage | None = None
    presence: ChannelMessage | None = None
    presence_stats: ChannelMessage | None = None
    history: HistoryMessage | None = None
    ping: EmptyMessage | None = None
    send: SendMessage | None = None
    rpc: RpcMessage | None = None
    refresh: RefreshMessage | None = None
    sub_refresh: SubRefreshMessage | None = None


def _connect(id: int, it: ConnectMessage) -> Connect:
    recover = {channel: position for channel, sub in it.subs.items() if (position := sub.position())}
    return Connect(id, it.token, bytes(it.data), recover, it.name, it.version)


def _subscribe(id: int, it: SubscribeMessage) -> Subscribe:
    or_refuse = bool(it.flag & REJECT_UNRECOVERED)
    return Subscribe(it.channel, id, it.token, bytes(it.data), it.position(), or_refuse, it.delta == DELTA, it.tf)


def _history(id: int, it: HistoryMessage) -> ReadHistory:
    since = Position(it.since.epoch, it.since.offset) if it.since else None
    return ReadHistory(it.channel, id, it.limit, since, it.reverse)


_READ: dict[str, Any] = {
    "connect": _connect,
    "subscribe": _subscribe,
    "unsubscribe": lambda id, it: Unsubscribe(it.channel, id),
    "presence": lambda id, it: ReadPresence(it.channel, id),
    "presence_stats": lambda id, it: ReadPresenceStats(it.channel, id),
    "history": _history,
    "ping": lambda id, it: Ping(id),
    "rpc": lambda id, it: Call(it.method, bytes(it.data), id),
    "refresh": lambda id, it: Refresh(it.token, id),
    "sub_refresh": lambda id, it: RefreshSubscription(it.channel, it.token, id),
}

_decode = msgspec.json.Decoder(WireCommand).decode
PONG = Pong()


def _read(line: bytes) -> Command:
    if line == b"{}":
        return PONG
    try:
        wire = _decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Disconnect.bad_request("malformed command") from None
    return command_of(wire)


def command_of(wire: WireCommand) -> Command:
    """What a command asks for, however it was encoded. Raises `Disconnect`."""
    if wire.publish is not None and wire.id > 0:
        return Publish(wire.publish.channel, bytes(wire.publish.data), wire.id)
    if wire.send is not None:
        return Send(bytes(wire.send.data))
    if not 0 < wire.id < 2**32:
        raise Disconnect.bad_request("command without a valid id")
    for name, make in _READ.items():
        request = getattr(wire, name)
        if request is not None:
            command: Command = make(wire.id, request)
            return command
    raise Disconnect.bad_request("unknown command")


# -------------------------------------------------------------------------------------------------- what goes out

_json = msgspec.json.Encoder().encode
_NULL = b"null"


class Payload(NamedTuple):
    """A publication's data, as the encoding has it.

    data: to be read as it is. part: bytes of it, or a delta of them, for a client that puts them together.
    """

    data: Callable[[Publication], bytes | Raw]
    part: Callable[[bytes], bytes | str]


def _data(publication: Publication) -> Raw:
    """A payload as JSON. This client knows nothing else, so text becomes a string, bytes become base64 in a string."""
    if publication.kind is Kind.JSON:
        return Raw(publication.data)
    if publication.kind is Kind.TEXT:
        return Raw(_json(publication.data.decode()))
    return Raw(_json(b64encode(publication.data).decode()))


_PAYLOAD = Payload(_data, bytes.decode)


def _publication(publication: Publication, payload: Payload) -> dict[str, object]:
    wire: dict[str, object] = {"data": payload.data(publication)}
    if publication.info:
        wire["info"] = info_of(publication.info)
    if publication.offset:
        wire["offset"] = publication.offset
    if publication.tags:
        wire["tags"] = publication.tags
    return wire


def _after(publication: Publication, before: Publication | None, payload: Payload) -> dict[str, object]:
    """A publication for a client that has the one before: the difference, or the whole where that is not longer."""
    wire = _publication(publication, payload)
    data = bytes(payload.data(publication))
    if before is not None:
        delta = fossil.create(bytes(payload.data(before)), data)
        if len(delta) < len(data):
            data, wire["delta"] = delta, True
    wire["data"] = payload.part(data)
    return wire


def _subscribed(event: Subscribed, payload: Payload) -> dict[str, object]:
    wire: dict[str, object] = {"delta": True} if event.delta else {}
    if event.recoverable:
        wire |= {"recoverable": True, "positioned": True, "epoch": event.position.epoch}
        if event.position.offset:
            wire["offset"] = event.position.offset
    if event.recovered is not None:
        wire |= {"was_recovering": True, "recovered": event.recovered}
    if event.publications and event.delta:
        befores = [None, *event.publications]
        wire["publications"] = [
            _after(each, before, payload) for each, before in zip(event.publications, befores, strict=False)
        ]
    elif event.publications:
        wire["publications"] = [_publication(each, payload) for each in event.publications]
    if event.data:
        wire["data"] = Raw(event.data)
    return wire | _expiry(event.ttl)


def _expiry(ttl: int | None) -> dict[str, object]:
    return {} if ttl is None else {"expires": True, "ttl": ttl}


def _connected(event: Connected, payload: Payload) -> dict[str, object]:
    wire: dict[str, object] = {"client": event.client, "version": VERSION, "ping": event.ping, "pong": True}
    if event.data:
        wire["data"] = Raw(event.data)
    if event.session:
        wire |= {"session": event.session, "node": event.node}
    if event.subscriptions:
        wire["subs"] = {sub.channel: _subscribed(sub, payload) for sub in event.subscriptions}
    return wire | _expiry(event.ttl)


def _page(event: HistoryPage, payload: Payload) -> dict[str, object]:
    publications = [_publication(each, payload) for each in event.stream.publications]
    epoch, offset = event.stream.position
    return {"publications": publications, "epoch": epoch, "offset": offset}


def _refreshed(event: Refreshed, payload: Payload) -> dict[str, object]:
    return {"client": event.client, "version": VERSION} | _expiry(event.ttl)


def _presence(event: PresenceList, payload: Payload) -> dict[str, object]:
    return {"presence": {id: info_of(info) for id, info in event.clients.items()}}


def _refused(event: Refused, payload: Payload) -> dict[str, object]:
    return {"code": event.code, "message": event.message, "temporary": event.temporary}


REPLIES: dict[type[Any], tuple[str, Any]] = {
    Accepted: ("publish", lambda event, payload: {}),
    Alive: ("ping", lambda event, payload: {}),
    Answer: ("rpc", lambda event, payload: {"data": Raw(event.data or _NULL)}),
    Connected: ("connect", _connected),
    HistoryPage: ("history", _page),
    PresenceList: ("presence", _presence),
    PresenceStats: ("presence_stats", lambda event, payload: {"num_clients": event.clients, "num_users": event.users}),
    Refreshed: ("refresh", _refreshed),
    Refused: ("error", _refused),
    Subscribed: ("subscribe", _subscribed),
    SubscriptionRefreshed: ("sub_refresh", lambda event, payload: _expiry(event.ttl)),
    Unsubscription: ("unsubscribe", lambda event, payload: {}),
}

PUSHES: dict[type[Any], tuple[str, Any]] = {
    Joined: ("join", lambda event, payload: {"info": info_of(event.info)}),
    Left: ("leave", lambda event, payload: {"info": info_of(event.info)}),
    Subscribed: ("subscribe", _subscribed),
    Unsubscribed: ("unsubscribe", lambda event, payload: {"code": event.code, "reason": event.reason}),
}


def push_after(event: Published, before: Publication | None, payload: Payload) -> dict[str, object]:
    """A publication for a client that was told `before` before."""
    return {"push": {"channel": event.channel, "pub": _after(event.publication, before, payload)}}


def reply_of(event: Event, payload: Payload) -> dict[str, object] | None:
    """A reply or a push as the fields of its message; None: there is no word for it."""
    if type(event) is Disconnected:
        return {"push": {"disconnect": {"code": event.code, "reason": event.reason}}}
    if type(event) is Message:
        return {"push": {"message": {"data": Raw(event.data)}}}
    if type(event) is Published:
        return {"push": {"channel": event.channel, "pub": _publication(event.publication, payload)}}
    id = getattr(event, "id", 0)
    if id and type(event) in REPLIES:
        name, write = REPLIES[type(event)]
        return {"id": id, name: write(event, payload)}
    if type(event) in PUSHES:
        name, write = PUSHES[type(event)]
        return {"push": {"channel": event.channel, name: write(event, payload)}}  # type: ignore[attr-defined]
    return None


_HEARTBEAT = Frame(b"{}")


class Centrifuge(Dialect):
    """Holds nothing, so that all sessions share one."""

    __slots__ = ()
    name = "centrifuge"

    def receive(self, frame: Frame) -> list[Command]:
        if frame.binary and not frame.data.isascii():
            _refuse_what_is_no_utf8(frame.data)  # a text frame was checked by the transport
        if b"\n" not in frame.data:
            return [_read(frame.data)]
        lines = [line for line in frame.data.split(b"\n", COMMANDS_PER_FRAME) if line]
        if not lines or len(lines) > COMMANDS_PER_FRAME:
            raise Disconnect.bad_request(f"a frame holds 1 to {COMMANDS_PER_FRAME} commands")
        return [_read(line) for line in lines]

    def encode(self, event: Event) -> Frame | None:
        if type(event) is Published:
            return _encode_published(event.channel, event.publication)
        if type(event) is Heartbeat:
            return _HEARTBEAT
        wire = reply_of(event, _PAYLOAD)
        return Frame(_json(wire)) if wire is not None else None

    def encode_after(self, event: Published, before: Publication | None) -> Frame:
        return Frame(_json(push_after(event, before, _PAYLOAD)))

    def join(self, frames: list[Frame]) -> list[Frame]:
        """One frame with all lines."""
        return [Frame(b"\n".join([frame.data for frame in frames]))] if len(frames) > 1 else frames


def _refuse_what_is_no_utf8(data: bytes) -> None:
    """A payload goes on to others as it is, in a text frame, in which it would end them."""
    try:
        data.decode()
    except UnicodeDecodeError:
        raise Disconnect.bad_request("a command is UTF-8") from None


def _encode_published(channel: str, publication: Publication) -> Frame:
    if publication.kind is Kind.JSON and publication.info is None and publication.tags is None:
        # The common case is put together from bytes: the payload is not looked at again.
        end = b',"offset":%d}}}' % publication.offset if publication.offset else b"}}}"
        return Frame(b'{"push":{"channel":%b,"pub":{"data":%b%b' % (_json(channel), publication.data, end))
    return Frame(_json({"push": {"channel": channel, "pub": _publication(publication, _PAYLOAD)}}))
