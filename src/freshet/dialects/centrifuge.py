"""The Centrifugal client protocol, version 2, as JSON: what the official `centrifuge` clients speak.

A frame holds commands or replies, each a JSON object on a line of its own. `{}` is the server's ping and the client's
pong. Source: `definitions/client.proto` of centrifugal/protocol, whose JSON mapping this is.
"""

from base64 import b64encode
from typing import Any

import msgspec
from msgspec import Raw, Struct

from freshet.dialects.base import Dialect, info_of
from freshet.errors import Disconnect
from freshet.model import (
    Accepted,
    Alive,
    Answer,
    Call,
    Command,
    Connect,
    Connected,
    Disconnected,
    Event,
    Frame,
    Heartbeat,
    HistoryPage,
    Joined,
    Kind,
    Left,
    Message,
    Ping,
    Pong,
    Position,
    PresenceList,
    PresenceStats,
    Publication,
    Publish,
    Published,
    ReadHistory,
    ReadPresence,
    ReadPresenceStats,
    Refresh,
    Refreshed,
    RefreshSubscription,
    Refused,
    Send,
    Subscribe,
    Subscribed,
    SubscriptionRefreshed,
    Unsubscribe,
    Unsubscribed,
    Unsubscription,
)

VERSION = "freshet"
COMMANDS_PER_FRAME = 1024
REJECT_UNRECOVERED = 2  # a bit of a subscription's flag

# --------------------------------------------------------------------------------------------------- what comes in


class _SubscribeRequest(Struct):
    channel: str = ""
    token: str = ""
    recover: bool = False
    epoch: str = ""
    offset: int = 0
    data: Raw = Raw()
    flag: int = 0

    def position(self) -> Position | None:
        return Position(self.epoch, self.offset) if self.recover else None


class _ConnectRequest(Struct):
    token: str = ""
    data: Raw = Raw()
    subs: dict[str, _SubscribeRequest] = {}
    name: str = ""
    version: str = ""


class _PublishRequest(Struct):
    channel: str
    data: Raw


class _Channel(Struct):
    channel: str


class _Since(Struct):
    offset: int = 0
    epoch: str = ""


class _HistoryRequest(Struct):
    channel: str
    limit: int = 0
    since: _Since | None = None
    reverse: bool = False


class _RpcRequest(Struct):
    method: str = ""
    data: Raw = Raw()


class _SendRequest(Struct):
    data: Raw = Raw()


class _RefreshRequest(Struct):
    token: str = ""


class _SubRefreshRequest(Struct):
    channel: str
    token: str = ""


class _Nothing(Struct):
    pass


class _Command(Struct):
    id: int = 0
    connect: _ConnectRequest | None = None
    subscribe: _SubscribeRequest | None = None
    unsubscribe: _Channel | None = None
    publish: _PublishRequest | None = None
    presence: _Channel | None = None
    presence_stats: _Channel | None = None
    history: _HistoryRequest | None = None
    ping: _Nothing | None = None
    send: _SendRequest | None = None
    rpc: _RpcRequest | None = None
    refresh: _RefreshRequest | None = None
    sub_refresh: _SubRefreshRequest | None = None


def _connect(id: int, it: _ConnectRequest) -> Connect:
    recover = {channel: position for channel, sub in it.subs.items() if (position := sub.position())}
    return Connect(id, it.token, bytes(it.data), recover, it.name, it.version)


def _subscribe(id: int, it: _SubscribeRequest) -> Subscribe:
    return Subscribe(it.channel, id, it.token, bytes(it.data), it.position(), bool(it.flag & REJECT_UNRECOVERED))


def _history(id: int, it: _HistoryRequest) -> ReadHistory:
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

_decode = msgspec.json.Decoder(_Command).decode
_PONG = Pong()


def _read(line: bytes) -> Command:
    if line == b"{}":
        return _PONG
    try:
        wire = _decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Disconnect.bad_request("malformed command") from None
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


def _payload(publication: Publication) -> Raw:
    """A payload as JSON. This client knows nothing else, so text becomes a string, bytes become base64 in a string."""
    if publication.kind is Kind.JSON:
        return Raw(publication.data)
    if publication.kind is Kind.TEXT:
        return Raw(_json(publication.data.decode()))
    return Raw(_json(b64encode(publication.data).decode()))


def _publication(publication: Publication) -> dict[str, object]:
    wire: dict[str, object] = {"data": _payload(publication)}
    if publication.info:
        wire["info"] = info_of(publication.info)
    if publication.offset:
        wire["offset"] = publication.offset
    if publication.tags:
        wire["tags"] = publication.tags
    return wire


def _subscribed(event: Subscribed) -> dict[str, object]:
    wire: dict[str, object] = {}
    if event.recoverable:
        wire |= {"recoverable": True, "positioned": True, "epoch": event.position.epoch}
        if event.position.offset:
            wire["offset"] = event.position.offset
    if event.recovered is not None:
        wire |= {"was_recovering": True, "recovered": event.recovered}
    if event.publications:
        wire["publications"] = [_publication(publication) for publication in event.publications]
    if event.data:
        wire["data"] = Raw(event.data)
    return wire | _expiry(event.ttl)


def _expiry(ttl: int | None) -> dict[str, object]:
    return {} if ttl is None else {"expires": True, "ttl": ttl}


def _connected(event: Connected) -> dict[str, object]:
    wire: dict[str, object] = {"client": event.client, "version": VERSION, "ping": event.ping, "pong": True}
    if event.data:
        wire["data"] = Raw(event.data)
    if event.session:
        wire |= {"session": event.session, "node": event.node}
    if event.subscriptions:
        wire["subs"] = {sub.channel: _subscribed(sub) for sub in event.subscriptions}
    return wire | _expiry(event.ttl)


def _page(event: HistoryPage) -> dict[str, object]:
    publications = [_publication(publication) for publication in event.stream.publications]
    epoch, offset = event.stream.position
    return {"publications": publications, "epoch": epoch, "offset": offset}


def _refreshed(event: Refreshed) -> dict[str, object]:
    return {"client": event.client, "version": VERSION} | _expiry(event.ttl)


_REPLY: dict[type[Any], tuple[str, Any]] = {
    Accepted: ("publish", lambda event: {}),
    Alive: ("ping", lambda event: {}),
    Answer: ("rpc", lambda event: {"data": Raw(event.data or _NULL)}),
    Connected: ("connect", _connected),
    HistoryPage: ("history", _page),
    PresenceList: ("presence", lambda event: {"presence": {id: info_of(info) for id, info in event.clients.items()}}),
    PresenceStats: ("presence_stats", lambda event: {"num_clients": event.clients, "num_users": event.users}),
    Refreshed: ("refresh", _refreshed),
    Refused: ("error", lambda event: {"code": event.code, "message": event.message, "temporary": event.temporary}),
    Subscribed: ("subscribe", _subscribed),
    SubscriptionRefreshed: ("sub_refresh", lambda event: _expiry(event.ttl)),
    Unsubscription: ("unsubscribe", lambda event: {}),
}

_PUSH: dict[type[Any], tuple[str, Any]] = {
    Joined: ("join", lambda event: {"info": info_of(event.info)}),
    Left: ("leave", lambda event: {"info": info_of(event.info)}),
    Subscribed: ("subscribe", _subscribed),
    Unsubscribed: ("unsubscribe", lambda event: {"code": event.code, "reason": event.reason}),
}

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
        if type(event) is Disconnected:
            return Frame(_json({"push": {"disconnect": {"code": event.code, "reason": event.reason}}}))
        if type(event) is Message:
            return Frame(_json({"push": {"message": {"data": Raw(event.data)}}}))
        id = getattr(event, "id", 0)
        if id and type(event) in _REPLY:
            name, write = _REPLY[type(event)]
            return Frame(_json({"id": id, name: write(event)}))
        if type(event) in _PUSH:
            name, write = _PUSH[type(event)]
            return Frame(_json({"push": {"channel": event.channel, name: write(event)}}))  # type: ignore[union-attr]
        return None

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
    return Frame(_json({"push": {"channel": channel, "pub": _publication(publication)}}))
