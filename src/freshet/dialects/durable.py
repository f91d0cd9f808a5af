"""Durable Streams: one request of `/v1/stream/{channel}`, and the event stream that its readers may get."""

import re
from base64 import b64encode
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from freshet.dialects.base import Dialect, refuse
from freshet.dialects.event_stream import COMMENT, LINE_ENDS
from freshet.errors import Disconnect
from freshet.model.commands import Command, Connect
from freshet.model.events import Event, Heartbeat, Published, Refused, Unsubscribed
from freshet.model.frame import Frame, Handshake
from freshet.model.log import Kind, Publication

BEATS = 2  # heartbeats for which an event stream goes on: a reader then comes back, so that caches can join readers
NOTHING = Frame(b"-")
_CODES = {400: 4607, 404: 4602, 410: 4612}
_CONTROL = b"event: control\n"
_LAST = re.compile(rb'"streamNextOffset":"(\d{16})')


class StreamCommand(Command, frozen=True):
    """What a request asks for; the endpoint knows what that is."""

    channel: str
    ask: Any
    id: int = 2


class StreamAnswered(Event, frozen=True):
    """answer: the endpoint's own."""

    answer: Any


class StreamPage(Event, frozen=True):
    """A part of a stream for one reader. parts: its messages. start, end: positions. next: the token of the end.

    base, id: of the stream, by which tokens of what is published later are made. whole: nothing is left out that a
    session without a reader's own page would have to read first.
    """

    type: str
    is_json: bool
    is_text: bool
    parts: Sequence[bytes]
    start: int
    end: int
    next: str
    base: int
    id: str
    up_to_date: bool
    closed: bool
    etag: str = ""
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def body(self) -> bytes:
        return b"[%b]" % b",".join(self.parts) if self.is_json else b"".join(self.parts)


def event_of(name: bytes, data: bytes) -> bytes:
    """An event, without the space behind the colon that others write: the suite wants none."""
    lines = [b" " + line if line.startswith(b" ") else line for line in LINE_ENDS.split(data)]
    return b"event: %b\ndata:%b\n\n" % (name, b"\ndata:".join(lines))


def payload(publication: Publication, is_json: bool) -> bytes:
    """What a publication is in a stream. One of JSON has texts and bytes that others published as strings."""
    if not is_json or publication.kind is Kind.JSON:
        return publication.data
    data = publication.data if publication.kind is Kind.TEXT else b64encode(publication.data)
    return msgspec.json.encode(data.decode())


class StreamRequest(Dialect):
    """A request that writes, or asks what there is. answer: once it was given."""

    __slots__ = ("answer", "ask", "channel")
    name = "durable_request"
    answers_heartbeat = False
    has_presence = False

    def __init__(self, channel: str, ask: Any) -> None:
        self.channel = channel
        self.ask = ask
        self.answer: Any = None

    def opened(self, request: Handshake) -> list[Command]:
        return [Connect(id=1, token=request.token, only=(self.channel,)), StreamCommand(self.channel, self.ask)]

    def answered(self, frames: list[Frame]) -> bool:
        """Whether a frame is the answer: those of a channel may come before it."""
        return self.answer is not None

    def receive(self, frame: Frame) -> list[Command]:
        raise Disconnect.bad_request("a request holds one command")

    def encode(self, event: Event) -> Frame | None:
        if isinstance(event, StreamAnswered | StreamPage):
            self.answer = event.answer if isinstance(event, StreamAnswered) else event
            return NOTHING
        if type(event) is Refused:
            refuse(event)
        if type(event) is Unsubscribed and event.channel == self.channel:
            raise Disconnect.force_no_reconnect()
        return None


class StreamPoll(StreamRequest):
    """A reader that wants one page: a frame says that there is one, and any behind it that there is more."""

    __slots__ = ()
    name = "durable_poll"

    def encode(self, event: Event) -> Frame | None:
        return NOTHING if type(event) is Published else super().encode(event)


class StreamEvents(StreamRequest):
    """A reader of an event stream. cursor: what the clock says; a client that gave a later one gets that.

    The events of a publication are the same for all readers of the stream, unless they came with such a cursor.
    """

    __slots__ = (
        "_base",
        "_beats",
        "_cursor",
        "_floor",
        "_id",
        "_is_json",
        "_is_text",
        "final",
        "headers",
        "is_part",
        "last",
        "name",
    )

    def __init__(self, channel: str, ask: Any, cursor: Callable[[], int], floor: int) -> None:
        super().__init__(channel, ask)
        self.name = f"durable_events:{id(self)}"
        self.headers: list[tuple[bytes, bytes]] = []  # of the response; complete before the first frame
        self.final = -1  # where the stream was closed; -1: it is open, as far as this reader knows
        self.last = -1  # the position behind what the reader has
        self.is_part = False  # more is behind its page, for which it has to come again
        self._cursor, self._floor = cursor, floor
        self._base, self._id = 0, ""
        self._is_json = self._is_text = False
        self._beats = 0

    def encode(self, event: Event) -> Frame | None:
        if type(event) is Published:
            if self.is_part or not self._id:
                return None  # it comes again for what is behind its page
            publication = event.publication
            token = f"{publication.offset - self._base:016d}_{self._id}"
            data = self._data([payload(publication, self._is_json)])
            return Frame(data + self.control(token, up_to_date=True))
        if type(event) is StreamPage:
            return self._begin(event)
        if type(event) is StreamAnswered:  # there is nothing to read
            raise Disconnect(_CODES.get(event.answer.status, 3004), event.answer.text.strip())
        if type(event) is Heartbeat:
            self._beats += 1
            if self._beats >= BEATS:
                raise Disconnect.normal()
            return Frame(COMMENT + b"\n")
        return super().encode(event)

    def _begin(self, page: StreamPage) -> Frame:
        self._base, self._id, self._is_json, self._is_text = page.base, page.id, page.is_json, page.is_text
        self.is_part = not page.up_to_date
        if not self._floor and not self.is_part:
            self.name = f"durable_events:{page.id}"
        if not page.is_text:
            self.headers.append((b"stream-sse-data-encoding", b"base64"))
        self.headers += [(name.lower().encode(), value.encode("latin-1")) for name, value in page.headers]
        if page.closed:
            self.final = page.end
        data = self._data(page.parts) if page.parts else b""
        return Frame(data + self.control(page.next, up_to_date=page.up_to_date, closed=page.closed))

    def _data(self, parts: Sequence[bytes]) -> bytes:
        if self._is_json:
            data = b"[%b]" % b",".join(parts)
        else:
            data = b"".join(parts) if self._is_text else b64encode(b"".join(parts))
        return event_of(b"data", data)

    def control(self, token: str, *, up_to_date: bool, closed: bool = False) -> bytes:
        """The event that says where its reader is."""
        about: dict[str, object] = {"streamNextOffset": token}
        if not closed:
            about["streamCursor"] = str(max(self._cursor(), self._floor))
        if up_to_date or closed:
            about["upToDate"] = True
        if closed:
            about["streamClosed"] = True
        return event_of(b"control", msgspec.json.encode(about))

    def token(self, position: int) -> str:
        """Of a position in this stream's own part."""
        return f"{position:016d}_{self._id}"

    def sent(self, frame: Frame) -> bool:
        """A frame goes to the reader; the answer: it has all of a stream that was closed."""
        if (found := _LAST.search(_control_in(frame))) is not None:
            self.last = int(found[1])
        return 0 <= self.final <= self.last

    @staticmethod
    def closes(frame: Frame) -> bool:
        """Whether it says that the stream is closed."""
        return b'"streamClosed":true' in _control_in(frame)


def _control_in(frame: Frame) -> bytes:
    """The last event of a frame, as `StreamEvents.control` wrote it: what is before it may say anything."""
    return frame.data.rpartition(_CONTROL)[2]
