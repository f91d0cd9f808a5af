"""The Centrifugal client protocol, version 2, as JSON: what the official `centrifuge` clients speak.

A frame holds commands or replies, each a JSON object on a line of its own. `{}` is the server's ping and the client's
pong. Source: `definitions/client.proto` of centrifugal/protocol, whose JSON mapping this is.
"""

import re
from base64 import b64encode
from collections.abc import Iterable, Iterator
from contextlib import suppress

import msgspec
from msgspec import Raw, Struct

from freshet.dialects.base import Dialect, info_of
from freshet.dialects.centrifuge.replies import (
    Payload,
    entry_push,
    entry_push_after,
    presence_fields,
    publication_fields,
    push_after,
    reply_of,
)
from freshet.dialects.centrifuge.requests import (
    EMPTY,
    MESSAGE,
    PONG,
    READ,
    UINT32,
    ChannelMessage,
    ConnectMessage,
    EmptyMessage,
    HistoryMessage,
    MapPublishMessage,
    PublishMessage,
    Read,
    RefreshMessage,
    RpcMessage,
    SendMessage,
    SubRefreshMessage,
    SubscribeMessage,
    command_of,
    declined,
    oversized,
    publish_entry,
)
from freshet.errors import Disconnect, Refusal
from freshet.model.commands import Command, Declined, Publish
from freshet.model.events import Accepted, Event, Heartbeat, PresenceList, Published
from freshet.model.frame import Frame
from freshet.model.json_text import LF, TOO_DEEP, HalfInText, Reader, outline
from freshet.model.log import NOTHING, Kind, Publication

# ------------------------------------------------------------------------------------------------- from the client


class WireCommand(Struct):
    """One line: an id, and the request under its name. Of several requests the first of `_NAMES` counts."""

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


class WireMapCommand(Struct):
    """A line that sets or removes an entry of a map."""

    publish: MapPublishMessage
    id: int = 0


class _Typed(Struct, frozen=True):
    """A request of which only the `type` counts."""

    type: int = 0


class _RefusedCommand(Struct, frozen=True):
    """What has to be known of a command that is not carried out."""

    id: int = 0
    subscribe: _Typed = _Typed()
    publish: _Typed = _Typed()


_reader = Reader(WireCommand)
_decode = _reader.decode
_map_reader = Reader(WireMapCommand)
_OF_MAPS: dict[str, Read] = {"publish": publish_entry}
_decode_refused = msgspec.json.Decoder(_RefusedCommand).decode
_MALFORMED = (msgspec.DecodeError, UnicodeDecodeError)
_NAMES = ("publish", "send", *(name for name in READ if name != "publish"))


class _OversizedCommand(Struct):
    """What is looked at of a line that is too long. One that connects may be: it has a position in each channel."""

    id: int = 0
    connect: Raw = Raw()


_skim = msgspec.json.Decoder(_OversizedCommand).decode
_ID_FIRST = re.compile(rb'\{"id": ?(\d{1,9}),')
_ID_LAST = re.compile(rb', ?"id": ?(\d{1,9})\}\s*\Z')
_LINE = re.compile(rb"([^\n]++)\n*+")  # with the empty lines behind it, of which there may be many
_EMPTY_LINES = re.compile(rb"\n*+")
AT_ONCE = 64  # lines of a frame that are decoded together, which is faster; of more, each when it is asked for


def _read(line: bytes) -> Command:
    if line == b"{}":
        return PONG
    try:
        wire = _decode(line)
    except (*_MALFORMED, RecursionError):
        return _read_again(line)
    publish = wire.publish
    if publish is not None and 0 < wire.id <= UINT32:  # the most frequent one, without the table: 0.85 us, not 1.0
        return Publish(publish.channel, bytes(publish.data), wire.id)
    return _command(wire)


def _command(wire: WireCommand) -> Command:
    for name in _NAMES:
        request = getattr(wire, name)
        if request is not None:
            return command_of(wire.id, name, request)
    return command_of(wire.id, "", None)


def _read_again(line: bytes) -> Command:
    """A command of which msgspec makes nothing: it may be right all the same, or refused with a reply."""
    try:
        return _command(_reader.again(line))
    except HalfInText as half:
        why = str(half)
    except RecursionError:
        why = TOO_DEEP
    except _MALFORMED:
        why = ""
    with suppress(*_MALFORMED, RecursionError):
        entry = _map_reader(line)
        return command_of(entry.id, "publish", entry.publish, _OF_MAPS)
    try:
        refused = _decode_refused(outline(line))
    except _MALFORMED:
        raise Disconnect.bad_request("malformed command") from None
    id, kind = refused.id, refused.subscribe.type or refused.publish.type
    if not (0 <= id <= UINT32 and (why or (kind and id))):
        raise Disconnect.bad_request("malformed command")
    return declined(id, kind) if kind else Declined(Refusal.bad_request(why), id)


def _read_oversized(line: bytes, longest: int) -> Command:
    """A line is looked at no further than is fast, whatever it holds: one that msgspec refuses may have its id."""
    try:
        wire = _skim(line)
    except (*_MALFORMED, RecursionError):
        found = _ID_FIRST.match(line[:40]) or _ID_LAST.search(line[-40:])
        if found is None:
            raise Disconnect.bad_request("malformed command") from None
        return oversized(int(found[1]), len(line), longest)
    return _read(line) if wire.connect else oversized(wire.id, len(line), longest)


def _few_lines(data: bytes) -> list[Command]:
    commands = [_read(line) for line in data.split(b"\n") if line]
    if not commands:
        raise Disconnect.bad_request(EMPTY)
    return commands


def portions(data: bytes, size: int) -> Iterator[bytes]:
    """A frame as several of at most `size` bytes, but for a command that is longer."""
    start = 0
    while len(data) - start > size:
        end = data.rfind(b"\n", start, start + size)
        end = data.find(b"\n", start + size) if end < 0 else end
        if end < 0:
            break
        if data[start:end].strip():
            yield data[start:end]
        start = end + 1
    yield data[start:]


# --------------------------------------------------------------------------------------------------- to the client

_json = msgspec.json.Encoder().encode


def _data(publication: Publication) -> Raw:
    """A payload as JSON. This client knows nothing else, so text becomes a string, bytes become base64 in a string."""
    if publication.kind is Kind.JSON:
        return Raw(publication.data)
    if publication.kind is Kind.TEXT:
        return Raw(_json(publication.data.decode()))
    return Raw(_json(b64encode(publication.data).decode()))


_JSON_DATA = Kind.JSON  # a look at an enumeration takes longer than at a name of this module
_PAYLOAD = Payload(_data, bytes.decode, Raw)
_HEARTBEAT = Frame(b"{}")


class Centrifuge(Dialect):
    """The dialect that all clients of the JSON encoding share: it holds no state. longest: bytes of a command."""

    __slots__ = ("_longest",)
    name = "centrifuge"
    batches = True

    def __init__(self, longest: int = MESSAGE) -> None:
        self._longest = longest

    @property
    def entries(self) -> Dialect:
        return _MAP

    def receive(self, frame: Frame) -> Iterable[Command]:
        if frame.binary and not frame.data.isascii():
            _refuse_invalid_utf8(frame.data)  # a text frame was checked by the transport
        data = frame.data
        short = len(data) <= self._longest
        if LF not in data:
            return [_read(data) if short else _read_oversized(data, self._longest)]
        return _few_lines(data) if short and data.count(LF) < AT_ONCE else self._lines(data)

    def _one(self, line: bytes) -> Command:
        return _read(line) if len(line) <= self._longest else _read_oversized(line, self._longest)

    def _lines(self, data: bytes) -> Iterator[Command]:
        match = None
        for match in _LINE.finditer(data, _EMPTY_LINES.match(data).end()):  # type: ignore[union-attr] # it always does
            yield self._one(match[1])
        if match is None:
            raise Disconnect.bad_request(EMPTY)

    def encode(self, event: Event) -> Frame | None:
        if type(event) is Published:
            return _encode_published(event.channel, event.publication)
        if type(event) is Accepted:
            return Frame(b'{"id":%d,"publish":{}}' % event.id) if event.id else None
        if type(event) is Heartbeat:
            return _HEARTBEAT
        if type(event) is PresenceList:
            return _encode_presence(event)
        fields = reply_of(event, _PAYLOAD)
        return Frame(_json(fields)) if fields is not None else None

    def encode_after(self, event: Published, before: Publication | None) -> Frame | None:
        return Frame(_json(push_after(event, before, _PAYLOAD)))

    def join(self, frames: list[Frame]) -> list[Frame]:
        """One frame with all lines."""
        return [Frame(b"\n".join([frame.data for frame in frames]))] if len(frames) > 1 else frames


class CentrifugeMap(Centrifuge):
    """The same for a client that takes a channel's state as a map."""

    __slots__ = ()
    name = "centrifuge:map"

    def encode(self, event: Event) -> Frame | None:
        if type(event) is not Published:
            return super().encode(event)
        fields = entry_push(event, _PAYLOAD)
        return Frame(_json(fields)) if fields is not None else None

    def encode_after(self, event: Published, before: Publication | None) -> Frame | None:
        fields = entry_push_after(event, before, _PAYLOAD)
        return Frame(_json(fields)) if fields is not None else None


_MAP = CentrifugeMap()


def _refuse_invalid_utf8(data: bytes) -> None:
    """A payload passes through undecoded, in a text frame: invalid UTF-8 would end every subscriber's connection."""
    try:
        data.decode()
    except UnicodeDecodeError:
        raise Disconnect.bad_request("a command is UTF-8") from None


def _encode_presence(event: PresenceList) -> Frame:
    """Most of it is the same for all who ask."""
    encoded = event.encoded.get(Centrifuge.name)
    if encoded is None:
        encoded = event.encoded[Centrifuge.name] = _json(presence_fields(event, _PAYLOAD))
    return Frame(b'{"id":%d,"presence":%b}' % (event.id, encoded))


def _encode_published(channel: str, publication: Publication) -> Frame:
    if publication.kind is _JSON_DATA and not publication.tags:
        # The common case is put together from bytes: the payload is not looked at again.
        end, offset, who = b"}}}", publication.offset, publication.info
        if offset:
            end = b',"offset":%d}}}' % offset
        if who is not None:
            named = (
                who.conn_info is NOTHING and who.chan_info is NOTHING
            )  # and nothing else is known: it is as it goes out
            end = b',"info":%b%b' % (_json(who if named else info_of(who)), end)
        return Frame(b'{"push":{"channel":%b,"pub":{"data":%b%b' % (_json(channel), publication.data, end))
    return Frame(_json({"push": {"channel": channel, "pub": publication_fields(publication, _PAYLOAD)}}))
