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
from freshet.model.commands import Command, Connect, Publish, Subscribe
from freshet.model.events import (
    Accepted,
    Disconnected,
    Event,
    Heartbeat,
    Published,
    Refused,
    Subscribed,
    Unsubscribed,
    begun_by,
)
from freshet.model.frame import Frame, Handshake
from freshet.model.log import OLDEST, Kind, Position, Publication

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


def _leave(ended: Unsubscribed) -> Disconnect:
    """What is left of a client whose only channel the server took away: nothing that it could wait for."""
    return Disconnect.subscription_expired() if ended.code >= 2500 else Disconnect.force_no_reconnect()


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
        if type(event) is Unsubscribed and event.channel == self.channel:
            raise _leave(event)
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

    A refusal ends the stream of one channel. Of several each is told, as an event, and the others go on.
    """

    __slots__ = ("_left", "_places", "_unsaid", "channels", "name")
    tells_missed = False
    answers_heartbeat = False

    def __init__(self, channels: Sequence[str]) -> None:
        self.channels = tuple(dict.fromkeys(channels))
        self._places: dict[str, str] = {}  # of several channels
        self._left = set(self.channels)  # those that are not refused, and not ended
        self._unsaid: bytes | None = b""  # refusals, until there is something to hear; None: there was
        self.name = "channel_events" if len(self.channels) == 1 else f"channel_events:{id(self)}"

    def opened(self, request: Handshake) -> list[Command]:
        since = self._since(_since(request))
        connect = Connect(id=1, token=request.token, recover=since, only=self.channels)
        return [
            connect,
            *(Subscribe(name, id=number, recover=since.get(name)) for number, name in enumerate(self.channels, 2)),
        ]

    def _since(self, text: str) -> dict[str, Position]:
        if len(self.channels) == 1 or text in ("", "oldest"):
            told = dict.fromkeys(self.channels, text) if text else {}
        else:
            try:
                told = dict(parse_qsl(text, strict_parsing=True, max_num_fields=len(self.channels)))
            except ValueError:
                told = {"": text}
            if not told.keys() <= set(self.channels):
                raise Disconnect.bad_request("since: expected channel=epoch:offset, joined by &")
        self._places = told  # a stream that is cut before all have begun still knows where each goes on
        return {name: place for name in told if (place := position(told[name]))}

    def receive(self, frame: Frame) -> list[Command]:
        raise Disconnect.bad_request("nothing is said on an event stream")

    def encode(self, event: Event) -> Frame | None:
        if type(event) is Published:
            return Frame(self._published(event))
        if type(event) is Heartbeat:
            return Frame(b":\n\n")
        if type(event) is Refused:
            return self._refused(event)
        if type(event) is Unsubscribed:
            return self._ended(event)
        if type(event) is Disconnected:
            return Frame(
                _event(msgspec.json.encode({"code": event.code, "reason": event.reason}), event="disconnected")
            )
        began = b"".join([self._began(each) for each in begun_by(event)])
        if not began:
            return None
        unsaid, self._unsaid = self._unsaid or b"", None
        return Frame(unsaid + began)

    def _refused(self, refused: Refused) -> Frame | None:
        if refused.code == ALREADY:
            return None
        channel = self.channels[refused.id - 2] if 0 <= refused.id - 2 < len(self.channels) else ""
        self._left.discard(channel)
        if refused.temporary or not channel or not self._left:
            _refuse(refused)
        return self._without(channel, "refused", refused.code, refused.message)

    def _ended(self, ended: Unsubscribed) -> Frame | None:
        if ended.channel not in self._left:
            return None
        self._left.discard(ended.channel)
        if not self._left or ended.code >= 2500:  # coming back is worth while
            raise _leave(ended)
        return self._without(ended.channel, "unsubscribed", ended.code, ended.reason)

    def _without(self, channel: str, event: str, code: int, reason: str) -> Frame | None:
        news = _event(msgspec.json.encode({"channel": channel, "code": code, "reason": reason}), event=event)
        if self._unsaid is None:
            return Frame(news)
        self._unsaid += news
        return None

    def _id(self, channel: str, epoch: str, offset: int) -> str:
        if not epoch:
            return ""
        if len(self.channels) == 1:
            return f"{epoch}:{offset}"
        self._places[channel] = f"{epoch}:{offset}"
        return urlencode(self._places)

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


class Page(msgspec.Struct):
    """Part of a log, and where its reader stands behind it. publications: JSON."""

    epoch: str
    offset: int
    recovered: bool
    publications: list[msgspec.Raw]


class ChannelPage(Dialect):
    """One request and its answer: what a channel holds after a place, or something to publish.

    A reader gets one frame, a `Page` of at most `limit` publications; one that `waits`, and got an empty one, then gets
    what is published, a frame each. body: what to publish; None: it is a reader.
    """

    __slots__ = ("_newest", "body", "channel", "limit", "waits")
    name = "channel_page"
    answers_heartbeat = False
    is_seen = False

    def __init__(self, channel: str, body: Frame | None = None, *, limit: int = 0, waits: bool = False) -> None:
        self.channel = channel
        self.body = body
        self.limit = limit
        self.waits = waits
        self._newest = False

    def opened(self, request: Handshake) -> list[Command]:
        connect = Connect(id=1, token=request.token, only=(self.channel,))
        if self.body is not None:
            return [connect, *ChannelUrl(self.channel).receive(self.body)]
        since = position(_since(request))
        if since is None and not self.waits:
            since, self._newest = OLDEST, True
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
        if type(event) is Unsubscribed and event.channel == self.channel:
            raise _leave(event)
        for begun in begun_by(event):
            return Frame(msgspec.json.encode(self._page(begun)))
        return None

    def _page(self, begun: Subscribed) -> Page:
        missed, (epoch, offset) = begun.publications, begun.position
        chosen = missed[max(0, len(missed) - self.limit) :] if self._newest else missed[: self.limit]
        if chosen:
            offset = chosen[-1].offset
        elif missed and not self._newest:
            offset = missed[0].offset - 1
        publications = [msgspec.Raw(_described(each)) for each in chosen]
        return Page(epoch, offset, begun.recovered is not False, publications)


def _described(publication: Publication) -> bytes:
    data = msgspec.Raw(publication.data) if publication.kind is Kind.JSON else _text(publication).decode()
    wire: dict[str, object] = {"offset": publication.offset, "data": data}
    if publication.tags:
        wire["tags"] = publication.tags
    if publication.info:
        wire["info"] = info_of(publication.info)
    return msgspec.json.encode(wire)
