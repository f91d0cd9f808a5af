"""A channel is a URL: a bare WebSocket, an event stream, or a request and its answer; no client library is needed.

On a WebSocket every frame that comes in is published, every publication goes out as it is. The query says the rest:
`token`, and `since=epoch:offset` (or the header `Last-Event-ID`) to go on where an earlier client stopped, or
`since=oldest` for all that the log still keeps.
"""

import re
from base64 import b64encode
from collections.abc import Sequence
from urllib.parse import parse_qsl, urlencode

import msgspec

from freshet.dialects.base import HEARTBEAT, Dialect, info_of, kind_of
from freshet.errors import Disconnect, Refusal
from freshet.model import (
    OLDEST,
    Accepted,
    Command,
    Connect,
    Event,
    Frame,
    Handshake,
    Heartbeat,
    Kind,
    Position,
    Publication,
    Publish,
    Published,
    Refused,
    Subscribe,
    Subscribed,
    begun_by,
)

ALREADY = Refusal.already_subscribed().code  # the server subscribed it before it asked


def position(text: str) -> Position | None:
    """A position from `epoch:offset` or `oldest`. Raises `Disconnect` for anything else but an empty text."""
    if not text:
        return None
    if text == "oldest":
        return OLDEST
    epoch, _, offset = text.rpartition(":")
    if not offset.isascii() or not offset.isdecimal() or len(offset) > 19 or ":" not in text:
        raise Disconnect.bad_request("since: expected epoch:offset or oldest")
    return Position(epoch, int(offset))


def _since(request: Handshake) -> str:
    """Where the client stands, as it says. A page cannot set headers on an `EventSource`, so that both will do."""
    query, headers = request.query, request.headers
    return headers.get("last-event-id") or query.get("lastEventId") or query.get("since") or ""


def _refuse(refused: Refused) -> None:
    """There is no reply to hang a refusal on: it ends the session, with the refusal's code and reason."""
    if refused.code != ALREADY:
        raise Disconnect((4000 if refused.temporary else 4500) + min(refused.code, 499), refused.message)


class ChannelUrl(Dialect):
    """channel: the one that the URL names."""

    __slots__ = ("channel",)
    name = "channel_url"
    tells_missed = False

    def __init__(self, channel: str) -> None:
        self.channel = channel

    def opened(self, request: Handshake) -> list[Command]:
        since = position(_since(request))
        recover = {self.channel: since} if since else {}  # in case the server subscribes it by itself
        connect = Connect(id=1, token=request.token, recover=recover, only=(self.channel,))
        return [connect, Subscribe(self.channel, id=2, recover=since)]

    def receive(self, frame: Frame) -> list[Command]:
        kind, data = (Kind.BYTES, frame.data) if frame.binary else kind_of(frame.data)
        return [Publish(self.channel, data, id=3, kind=kind)]

    def encode(self, event: Event) -> Frame | None:
        if type(event) is Published:
            return Frame(event.publication.data, binary=event.publication.kind is Kind.BYTES)
        if type(event) is Heartbeat:
            return HEARTBEAT
        if type(event) is Refused:
            _refuse(event)
        if any(each.recovered is False for each in begun_by(event)):
            raise Disconnect(4612, "unrecoverable position")
        return None


RETRY = 2000  # milliseconds after which an EventSource comes back
_LINES = re.compile(rb"\r\n|\n|\r")


def _event(data: bytes, id: str = "", event: str = "") -> bytes:
    """One event of an event stream. What cannot be in a field's line is left out."""
    lines = [b"id: " + id.encode()] if id and _one_line(id) else []
    if event and _one_line(event):
        lines.append(b"event: " + event.encode())
    lines += [b"data: " + line for line in _LINES.split(data)]
    return b"\n".join(lines) + b"\n\n"


def _one_line(text: str) -> bool:
    return not any(character in text for character in "\r\n\0")


def _text(publication: Publication) -> bytes:
    """A payload as text: bytes become base64."""
    return b64encode(publication.data) if publication.kind is Kind.BYTES else publication.data


class ChannelEvents(Dialect):
    """An event stream (server-sent events) of one channel, or of several, whose data then say from which they come.

    Every event has as its id the place of the stream, so that an `EventSource` goes on from there by itself:
    `epoch:offset`, and of several channels a query string with one for each. Those streams share no encoding, since
    each stands at a place of its own.
    """

    __slots__ = ("_positions", "channels", "name")
    tells_missed = False
    answers_heartbeat = False

    def __init__(self, channels: Sequence[str]) -> None:
        self.channels = tuple(dict.fromkeys(channels))
        self._positions: dict[str, str] = {}
        self.name = "channel_events" if len(self.channels) == 1 else f"channel_events:{id(self)}"

    def opened(self, request: Handshake) -> list[Command]:
        since = self._places(_since(request))
        connect = Connect(id=1, token=request.token, recover=since, only=self.channels)
        return [
            connect,
            *(Subscribe(name, id=number, recover=since.get(name)) for number, name in enumerate(self.channels, 2)),
        ]

    def _places(self, text: str) -> dict[str, Position]:
        if len(self.channels) > 1 and text != "oldest":
            try:
                told = dict(parse_qsl(text, max_num_fields=len(self.channels)))
            except ValueError:
                raise Disconnect.bad_request("since: expected a place for each channel") from None
        else:
            told = dict.fromkeys(self.channels, text)
        return {name: place for name in self.channels if (place := position(told.get(name, "")))}

    def receive(self, frame: Frame) -> list[Command]:
        raise Disconnect.bad_request("nothing is said on an event stream")

    def encode(self, event: Event) -> Frame | None:
        if type(event) is Published:
            return Frame(self._published(event))
        if type(event) is Heartbeat:
            return Frame(b":\n\n")
        if type(event) is Refused:
            _refuse(event)
        began = b"".join([self._began(each) for each in begun_by(event)])
        return Frame(began) if began else None

    def _id(self, channel: str, epoch: str, offset: int) -> str:
        if not epoch:
            return ""
        if len(self.channels) == 1:
            return f"{epoch}:{offset}"
        self._positions[channel] = f"{epoch}:{offset}"
        return urlencode(self._positions)

    def _published(self, event: Published) -> bytes:
        publication = event.publication
        tag = (publication.tags or {}).get("event", "")
        data = _text(publication)
        if len(self.channels) > 1:
            value = msgspec.Raw(data) if publication.kind is Kind.JSON else data.decode()
            data = msgspec.json.encode({"channel": event.channel, "data": value})
        return _event(data, self._id(event.channel, event.epoch, publication.offset) if publication.offset else "", tag)

    def _began(self, subscribed: Subscribed) -> bytes:
        """An event that says where the stream stands, with the id of the place before what it is told next."""
        missed, (epoch, offset) = subscribed.publications, subscribed.position
        id = self._id(subscribed.channel, epoch, missed[0].offset - 1 if missed else offset)
        place = msgspec.json.encode({"channel": subscribed.channel, "epoch": epoch, "offset": offset})
        name = "unrecoverable" if subscribed.recovered is False else "subscribed"
        return b"retry: %d\n" % RETRY + _event(place, id, name)


class ChannelPage(Dialect):
    """One request and its answer: what a channel holds after a place, or something to publish.

    Each frame is JSON: where the log stands, then a publication each. body: what to publish; None: it is a reader.
    """

    __slots__ = ("body", "channel", "waits")
    name = "channel_page"
    tells_missed = False
    answers_heartbeat = False

    def __init__(self, channel: str, body: Frame | None = None, *, waits: bool = False) -> None:
        self.channel = channel
        self.body = body
        self.waits = waits

    def opened(self, request: Handshake) -> list[Command]:
        connect = Connect(id=1, token=request.token, only=(self.channel,))
        if self.body is not None:
            return [connect, *ChannelUrl(self.channel).receive(self.body)]
        since = position(_since(request)) or (None if self.waits else OLDEST)
        recover = {self.channel: since} if since else {}
        return [msgspec.structs.replace(connect, recover=recover), Subscribe(self.channel, id=2, recover=since)]

    def receive(self, frame: Frame) -> list[Command]:
        raise Disconnect.bad_request("there is nothing more to say")

    def encode(self, event: Event) -> Frame | None:
        if type(event) is Published:
            return Frame(_described(event.publication))
        if type(event) is Accepted:
            return Frame(msgspec.json.encode({"epoch": event.position.epoch, "offset": event.position.offset}))
        if type(event) is Refused:
            _refuse(event)
        for begun in begun_by(event):
            missed, (epoch, offset) = begun.publications, begun.position
            at = missed[0].offset - 1 if missed else offset
            return Frame(msgspec.json.encode({"epoch": epoch, "offset": at, "recovered": begun.recovered is not False}))
        return None


def _described(publication: Publication) -> bytes:
    data = msgspec.Raw(publication.data) if publication.kind is Kind.JSON else _text(publication).decode()
    wire: dict[str, object] = {"offset": publication.offset, "data": data}
    if publication.tags:
        wire["tags"] = publication.tags
    if publication.info:
        wire["info"] = info_of(publication.info)
    return msgspec.json.encode(wire)
