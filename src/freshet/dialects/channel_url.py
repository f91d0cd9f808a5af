"""A channel is a URL: a bare WebSocket, with no envelope and no client library.

Every frame that comes in is published, every publication goes out as it is. The query says the rest: `token`, and
`since=epoch:offset` (or the header `Last-Event-ID`) to go on where an earlier socket stopped, or `since=oldest` for all
that the log still keeps.
"""

import msgspec

from freshet.dialects.base import HEARTBEAT, Dialect
from freshet.errors import Disconnect, Refusal
from freshet.model import (
    OLDEST,
    Command,
    Connect,
    Event,
    Frame,
    Handshake,
    Heartbeat,
    Kind,
    Position,
    Publish,
    Published,
    Refused,
    Subscribe,
    begun_by,
)

ALREADY = Refusal.already_subscribed().code  # the server subscribed it before it asked

_valid = msgspec.json.Decoder(msgspec.Raw).decode


def kind_of(frame: Frame) -> Kind:
    """Whether a frame holds JSON, other text, or bytes."""
    if frame.binary:
        return Kind.BYTES
    try:
        _valid(frame.data)
    except (msgspec.DecodeError, RecursionError):
        return Kind.TEXT
    return Kind.JSON


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


class ChannelUrl(Dialect):
    """channel: the one that the URL names."""

    __slots__ = ("channel",)
    name = "channel_url"
    tells_missed = False

    def __init__(self, channel: str) -> None:
        self.channel = channel

    def opened(self, request: Handshake) -> list[Command]:
        token = request.query.get("token", "")
        if not token and (authorization := request.headers.get("authorization", "")).lower().startswith("bearer "):
            token = authorization[7:].strip()
        since = position(request.query.get("since") or request.headers.get("last-event-id", ""))
        recover = {self.channel: since} if since else {}  # in case the server subscribes it by itself
        connect = Connect(id=1, token=token, recover=recover, only=self.channel)
        return [connect, Subscribe(self.channel, id=2, recover=since)]

    def receive(self, frame: Frame) -> list[Command]:
        kind = kind_of(frame)
        data = frame.data
        if kind is Kind.JSON and b"\n" in data:
            data = msgspec.json.format(data, indent=-1)  # JSON is passed on in one line, as `Kind` says
        return [Publish(self.channel, data, id=3, kind=kind)]

    def encode(self, event: Event) -> Frame | None:
        if type(event) is Published:
            return Frame(event.publication.data, binary=event.publication.kind is Kind.BYTES)
        if type(event) is Heartbeat:
            return HEARTBEAT
        if type(event) is Refused and event.code != ALREADY:
            # There is no reply to hang a refusal on: it ends the session, with the refusal's code and reason.
            raise Disconnect((4000 if event.temporary else 4500) + min(event.code, 499), event.message)
        if any(each.recovered is False for each in begun_by(event)):
            raise Disconnect(4612, "unrecoverable position")
        return None
