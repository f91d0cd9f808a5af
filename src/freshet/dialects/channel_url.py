"""A channel is a URL: a bare WebSocket, an event stream, or a request and its response; no client library is needed.

On a WebSocket every frame that comes in is published, and every publication goes out as it is. The query has the rest:
`token`, and `since=epoch:offset` (or the header `Last-Event-ID`) to recover from the position where an earlier client
stopped, or `since=oldest` for all that the log still keeps. Sources: RFC 6455 for WebSocket, section 9.2 of the HTML
standard (server-sent events) for event streams; the rest is Freshet's own.
"""

import re
import sys
from base64 import b64encode
from collections.abc import Iterable, Sequence
from itertools import chain, repeat

import msgspec

from freshet.dialects.base import ALREADY, HEARTBEAT, Dialect, info_of, kind_of, refuse
from freshet.dialects.event_stream import COMMENT, stream_event
from freshet.errors import Disconnect
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


def position(text: str) -> Position | None:
    """A position from `epoch:offset` or `oldest`; None for an empty text. Raises `Disconnect` for anything else."""
    if not text:
        return None
    if text == "oldest":
        return OLDEST
    epoch, _, offset = text.rpartition(":")
    if not offset.isascii() or not offset.isdecimal() or len(offset) > 19 or ":" not in text:
        raise Disconnect.bad_request("since: expected epoch:offset or oldest")
    return Position(epoch, int(offset))


def _since(request: Handshake) -> str:
    """The position that the client gives. A page cannot set headers on an `EventSource`, so the query counts too."""
    query, headers = request.query, request.headers
    return headers.get("last-event-id") or query.get("lastEventId") or query.get("since") or ""


def _disconnect_for(ended: Unsubscribed) -> Disconnect:
    """The end of a session whose only subscription the server ended."""
    return Disconnect.subscription_expired() if ended.code >= 2500 else Disconnect.force_no_reconnect()


class ChannelUrl(Dialect):
    """One channel on a WebSocket: frames are publications, both ways. channel: the one that the URL names."""

    __slots__ = ("channel",)
    name = "channel_url"
    replays_in_reply = False

    def __init__(self, channel: str) -> None:
        self.channel = channel

    def opened(self, request: Handshake) -> list[Command]:
        since = position(_since(request))
        recover = {self.channel: since} if since else {}  # in case the server subscribes the client by itself
        connect = Connect(id=1, token=request.token, recover=recover, only=(self.channel,))
        return [connect, Subscribe(self.channel, id=2, recover=since)]

    def receive(self, frame: Frame) -> list[Command]:
        """JSON of too many levels goes on as the text that it also is: a refusal would end the session."""
        try:
            kind, data = (Kind.BYTES, frame.data) if frame.binary else kind_of(frame.data)
        except RecursionError:
            kind, data = Kind.TEXT, frame.data
        return [Publish(self.channel, data, id=3, kind=kind)]

    def encode(self, event: Event) -> Frame | None:
        if type(event) is Published:
            return Frame(event.publication.data, binary=event.publication.kind is Kind.BYTES)
        if type(event) is Heartbeat:
            return HEARTBEAT
        if type(event) is Refused:
            refuse(event)
        if type(event) is Unsubscribed and event.channel == self.channel:
            raise _disconnect_for(event)
        if any(each.recovered is False for each in begun_by(event)):
            raise Disconnect(4612, "unrecoverable position")
        return None


RETRY = 2000  # milliseconds after which an EventSource reconnects


def end_of_stream(code: int, reason: str) -> bytes:
    """The last event, which says why the server ends it."""
    return stream_event(msgspec.json.encode({"code": code, "reason": reason}), name="disconnected")


def _text(publication: Publication) -> bytes:
    """A payload as text: bytes become base64."""
    return b64encode(publication.data) if publication.kind is Kind.BYTES else publication.data


class ChannelEvents(Dialect):
    """An event stream (server-sent events) of one channel, or of several, whose events then name their channel.

    An event has as its id the position of the stream, so that an `EventSource` recovers from there by itself:
    `epoch:offset`, and of several channels one for each, in the order of the URL, joined by commas; it is empty for a
    channel that has not begun, or has no log. So an id is about as long as the URL, and any node can read it. Streams
    of several channels share no encoding, since each has positions of its own.

    That channels have begun is held until it is so of as many as were said before, or of all, or something is
    published: events in one piece have one id, and all ids of an opening together are a few times as long as the last.

    A refusal ends the stream of one channel. On a stream of several it is an event, and the other channels go on.
    """

    __slots__ = ("_active", "_begun", "_held", "_index", "_positions", "_said", "_undecided", "channels", "name")
    replays_in_reply = False
    answers_heartbeat = False

    def __init__(self, channels: Sequence[str]) -> None:
        self.channels = tuple(dict.fromkeys(channels))
        self._index = {channel: number for number, channel in enumerate(self.channels)}
        self._positions = [""] * len(self.channels)  # as in an id
        self._active = set(self.channels)  # those that are not refused, and not ended
        self._undecided = set(self.channels)  # those that have not begun and are not refused
        self._begun = False  # until then nothing is said: a refusal of all channels ends the session
        self._held: list[tuple[bytes, str]] = []  # events: data and name
        self._said = 0  # how many of those that were held
        self.name = "channel_events" if len(self.channels) == 1 else f"channel_events:{id(self)}"

    def opened(self, request: Handshake) -> list[Command]:
        since = self._since(_since(request))
        connect = Connect(id=1, token=request.token, recover=since, only=self.channels)
        return [
            connect,
            *(Subscribe(name, id=number, recover=since.get(name)) for number, name in enumerate(self.channels, 2)),
        ]

    def _since(self, text: str) -> dict[str, Position]:
        if text in ("", "oldest"):
            return dict.fromkeys(self.channels, OLDEST) if text else {}
        given = text.split(",") if len(self.channels) > 1 else [text]
        if len(given) != len(self.channels):
            raise Disconnect.bad_request("since: expected an epoch:offset for each channel, joined by commas")
        places = [position(each) for each in given]
        self._positions = given  # so that the ids of a stream which is cut before all have begun have every channel
        return {channel: place for channel, place in zip(self.channels, places, strict=True) if place}

    def receive(self, frame: Frame) -> list[Command]:
        raise Disconnect.bad_request("an event stream takes no commands")

    def encode(self, event: Event) -> Frame | None:
        if type(event) is Published:
            return Frame(self._release() + self._published(event) if self._held else self._published(event))
        if type(event) is Heartbeat:
            return Frame(self._release() + COMMENT)
        if type(event) is Refused:
            return self._refused(event)
        if type(event) is Unsubscribed:
            return self._ended(event)
        if type(event) is Disconnected:
            return Frame(self._release() + end_of_stream(event.code, event.reason))
        for subscribed in begun_by(event):
            self._begin(subscribed)
        return self._release_in_time()

    def _release_in_time(self) -> Frame | None:
        """What is held, if as much as was said before, or nothing else will come."""
        if len(self._held) < self._said and self._undecided:
            return None
        released = self._release()
        return Frame(released) if released else None

    def _release(self) -> bytes:
        """What is held, behind the one id of all of it."""
        if not self._begun or not self._held:
            return b""
        first = b"" if self._said else b"retry: %d\n" % RETRY
        self._said += len(self._held)
        ids = chain([self._id], repeat(""))
        held, self._held = self._held, []
        return first + b"".join([stream_event(data, id, name) for (data, name), id in zip(held, ids, strict=False)])

    def _refused(self, refused: Refused) -> Frame | None:
        if refused.code == ALREADY:
            return None
        channel = self.channels[refused.id - 2] if 0 <= refused.id - 2 < len(self.channels) else ""
        self._active.discard(channel)
        self._undecided.discard(channel)
        if refused.temporary or not channel or not self._active:
            refuse(refused)
        self._lose(channel, "refused", refused.code, refused.message)
        return self._release_in_time()

    def _ended(self, ended: Unsubscribed) -> Frame | None:
        if ended.channel not in self._active:
            return None
        self._active.discard(ended.channel)
        if not self._active or ended.code >= 2500:  # the client is to subscribe again, for which it has to reconnect
            raise _disconnect_for(ended)
        self._lose(ended.channel, "unsubscribed", ended.code, ended.reason)
        return Frame(released) if (released := self._release()) else None

    def _lose(self, channel: str, name: str, code: int, reason: str) -> None:
        """A channel is no longer part of the stream."""
        self._held.append((msgspec.json.encode({"channel": channel, "code": code, "reason": reason}), name))

    @property
    def _id(self) -> str:
        return ",".join(self._positions) if any(self._positions) else ""

    def _published(self, event: Published) -> bytes:
        publication = event.publication
        tag = (publication.tags or {}).get("event", "")
        data = _text(publication)
        if len(self.channels) > 1:
            value = msgspec.Raw(data) if publication.kind is Kind.JSON else data.decode()
            data = msgspec.json.encode({"channel": event.channel, "data": value})
        if not publication.offset:
            return stream_event(data, name=tag)
        if len(self.channels) == 1:
            return stream_event(data, f"{event.epoch}:{publication.offset}", tag)
        self._move(event.channel, event.epoch, publication.offset)
        return stream_event(data, self._id, tag)

    def _move(self, channel: str, epoch: str, offset: int) -> None:
        """Note where the stream stands in a channel, if it is one of the URL."""
        if channel in self._index:
            self._positions[self._index[channel]] = f"{epoch}:{offset}"

    def _begin(self, subscribed: Subscribed) -> None:
        """Hold the event that a subscription began; its id is the position before the first publication behind it."""
        missed, (epoch, offset) = subscribed.publications, subscribed.position
        self._begun = True
        self._undecided.discard(subscribed.channel)
        if epoch and not (subscribed.summed_up and missed):  # its id comes with what sums it up
            self._move(subscribed.channel, epoch, missed[0].offset - 1 if missed else offset)
        place = msgspec.json.encode({"channel": subscribed.channel, "epoch": epoch, "offset": offset})
        name = "unrecoverable" if subscribed.recovered is False else "subscribed"
        self._held.append((place, name))


class Page(msgspec.Struct):
    """Part of a log, and the position behind it, from which the reader goes on. publications: JSON objects."""

    epoch: str
    offset: int
    recovered: bool
    publications: list[msgspec.Raw]

    @property
    def is_empty(self) -> bool:
        """Whether a reader may wait for more: what it missed goes to it at once, and that something is lost, too."""
        return self.recovered and not self.publications

    def filled(self, live: Sequence[Frame]) -> bytes:
        """An empty page with what came while its reader waited, as JSON."""
        last = _OFFSET.match(live[-1].data) if live else None
        publications = [msgspec.Raw(frame.data) for frame in live]
        return msgspec.json.encode(Page(self.epoch, int(last[1]) if last else self.offset, True, publications))


class ChannelPage(Dialect):
    """One request and its response: a part of a channel's log, or something to publish.

    A reader gets one frame, a `Page` of at most `limit` publications and, nearly, `size` bytes; one that `waits` gets
    instead of an empty page what is published then, a frame each (long polling). body: what to publish; None: it is a
    reader. page: what there was for it.
    """

    __slots__ = ("_newest", "body", "channel", "limit", "page", "size", "waits")
    pages = True
    name = "channel_page"
    answers_heartbeat = False
    has_presence = False

    def __init__(
        self, channel: str, body: Frame | None = None, *, limit: int = 0, size: int = sys.maxsize, waits: bool = False
    ) -> None:
        self.channel = channel
        self.body = body
        self.limit = limit
        self.size = size
        self.waits = waits
        self.page: Page | None = None
        self._newest = False

    def opened(self, request: Handshake) -> list[Command]:
        only = (self.channel,)
        if self.body is not None:
            connect = Connect(id=1, token=request.token, only=only)
            return [connect, *ChannelUrl(self.channel).receive(self.body)]
        since = position(_since(request))
        if since is None and not self.waits:
            since, self._newest = OLDEST, True
        connect = Connect(id=1, token=request.token, recover={self.channel: since} if since else {}, only=only)
        return [connect, Subscribe(self.channel, id=2, recover=since)]

    def receive(self, frame: Frame) -> list[Command]:
        raise Disconnect.bad_request("a request holds one command")

    def encode(self, event: Event) -> Frame | None:
        if type(event) is Published:
            return Frame(_described(event.publication))
        if type(event) is Accepted:
            place = {"epoch": event.position.epoch, "offset": event.position.offset}
            return Frame(event.answer or msgspec.json.encode(place))
        if type(event) is Refused:
            refuse(event)
        if type(event) is Unsubscribed and event.channel == self.channel:
            raise _disconnect_for(event)
        for begun in begun_by(event):
            self.page = self._page(begun)
            return None if self.waits and self.page.is_empty else Frame(msgspec.json.encode(self.page))
        return None

    def _page(self, begun: Subscribed) -> Page:
        missed, (epoch, offset) = begun.publications, begun.position
        chosen = missed[max(0, len(missed) - self.limit) :] if self._newest else missed[: self.limit]
        if self._newest:
            chosen = fitting(reversed(chosen), self.size)[::-1]
        else:
            chosen = fitting(chosen, self.size)
        if chosen:
            offset = chosen[-1].offset
        elif missed and not self._newest:
            offset = missed[0].offset - 1
        publications = [msgspec.Raw(_described(each)) for each in chosen]
        return Page(epoch, offset, begun.recovered is not False, publications)


def fitting(publications: Iterable[Publication], size: int) -> list[Publication]:
    """The first of them, at most so many bytes, nearly; one at least."""
    fits: list[Publication] = []
    for publication in publications:
        size -= publication.size
        if size < 0 and fits:
            break
        fits.append(publication)
    return fits


_OFFSET = re.compile(rb'\{"offset":(\d+)')  # how `_described` begins


def _described(publication: Publication) -> bytes:
    data = msgspec.Raw(publication.data) if publication.kind is Kind.JSON else _text(publication).decode()
    wire: dict[str, object] = {"offset": publication.offset, "data": data}
    if publication.tags:
        wire["tags"] = publication.tags
    if publication.info:
        wire["info"] = info_of(publication.info)
    return msgspec.json.encode(wire)
