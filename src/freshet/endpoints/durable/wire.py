"""Headers and queries of Durable Streams (PROTOCOL.md of the project of that name, 1.0). No I/O."""

import re
import secrets
from collections.abc import Mapping
from urllib.parse import unquote

import msgspec

from freshet.dialects.base import kind_of
from freshet.endpoints.durable.record import BINARY, JSON, BadRequest, Fork, StreamProducer, timestamp
from freshet.endpoints.durable.streams import StreamConfig, Write
from freshet.model.json_text import TOO_DEEP, Reader, one_line
from freshet.model.log import Kind
from freshet.model.query import fields_of

PREFIX = "/v1/stream/"
CURSOR_EPOCH, CURSOR_INTERVAL = 1_728_432_000, 20  # 2024-10-09T00:00:00Z, and seconds
JITTER = 3600  # seconds
LARGEST = 2**53 - 1
LONGEST = 255  # characters of what a writer names: kept with the stream, and given to all who read it
SECURITY = {
    # A stream may say that it is HTML: who opens it in a browser must not run its scripts as pages of this origin.
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "cross-origin",
}
VARY = "Origin, Authorization, Cookie"  # a page in a browser's cache is for who got it, and for nobody who comes after
EXPOSED = (
    "Stream-Next-Offset, Stream-Cursor, Stream-Up-To-Date, Stream-Closed, Stream-TTL, Stream-Expires-At, "
    "Stream-SSE-Data-Encoding, Producer-Epoch, Producer-Seq, Producer-Expected-Seq, Producer-Received-Seq, ETag, "
    "Location, Retry-After"
)
_MESSAGES = Reader(list[msgspec.Raw])
_INTEGER = re.compile(r"0|[1-9][0-9]*")
_TYPE = re.compile(r"[\w!#$%&'*+.^`|~-]++/[\w!#$%&'*+.^`|~-]++(?:[ \t]*+;[\t -~]*+)?", re.ASCII)


class Reading(msgspec.Struct, frozen=True):
    """offset: a token, "-1" or "now". live: "", "long-poll" or "sse"."""

    offset: str = "-1"
    live: str = ""
    cursor: int = 0


def reading(query: bytes) -> Reading:
    """Raises BadRequest."""
    pairs = fields_of(query.decode("latin-1"))
    offsets = [value for name, value in pairs if name == "offset"]
    given = dict(pairs)
    live = given.get("live", "")
    if live not in ("", "long-poll", "sse"):
        raise BadRequest("live: expected long-poll or sse")
    if len(offsets) > 1 or (offsets and not offsets[0]):
        raise BadRequest("offset: expected one")
    if live and not offsets:
        raise BadRequest("offset: expected one with live")
    cursor = given.get("cursor", "")
    known = len(cursor) <= 16 and _INTEGER.fullmatch(cursor)
    return Reading(offsets[0] if offsets else "-1", live, int(cursor) if known else 0)


def cursor_at(wall: float, asked: int = 0) -> int:
    """The number of the interval, or one behind that of the client: it never goes back."""
    now = int(wall - CURSOR_EPOCH) // CURSOR_INTERVAL
    return now if asked < now else asked + 1 + secrets.randbelow(JITTER) // CURSOR_INTERVAL


def _number(headers: Mapping[str, str], name: str, largest: int = LARGEST) -> int:
    text = headers.get(name, "")
    if len(text) > 16 or not _INTEGER.fullmatch(text) or int(text) > largest:
        raise BadRequest(f"{name}: expected an integer from 0 to {largest}")
    return int(text)


def content_type(headers: Mapping[str, str]) -> str:
    text = _named(headers, "content-type").strip().lower()
    if text and not _TYPE.fullmatch(text):
        raise BadRequest("Content-Type: expected a media type")
    return text


def _named(headers: Mapping[str, str], name: str) -> str:
    text = headers.get(name, "")
    if len(text) > LONGEST:
        raise BadRequest(f"{name}: expected at most {LONGEST} characters")
    return text


def closes(headers: Mapping[str, str]) -> bool:
    return headers.get("stream-closed", "").lower() == "true"


def config_of(headers: Mapping[str, str]) -> StreamConfig:
    """What a PUT asks for. Raises BadRequest."""
    expires = headers.get("stream-expires-at", "")
    ttl = _number(headers, "stream-ttl") if "stream-ttl" in headers else None
    if expires and ttl is not None:
        raise BadRequest("Stream-TTL or Stream-Expires-At: expected one of them")
    if expires:
        timestamp(expires)
    fork = None
    if (source := headers.get("stream-forked-from")) is not None:
        sub = _number(headers, "stream-fork-sub-offset") if "stream-fork-sub-offset" in headers else 0
        fork = Fork(channel_of(source), headers.get("stream-fork-offset", ""), sub)
    elif "stream-fork-offset" in headers or "stream-fork-sub-offset" in headers:
        raise BadRequest("Stream-Forked-From: expected with an offset")
    return StreamConfig(content_type(headers) or ("" if fork else BINARY), ttl, expires, closes(headers), fork)


def channel_of(path: str) -> str:
    """The channel of a stream's path. Raises BadRequest."""
    _, found, name = path.partition(PREFIX)
    if not found or not name:
        raise BadRequest(f"Stream-Forked-From: expected a path such as {PREFIX}name")
    return unquote(name)


def write_of(headers: Mapping[str, str], body: bytes, kind_type: str, *, creates: bool = False) -> Write:
    """The messages of a body, and who writes them. kind_type: of the content. Raises BadRequest."""
    parts, kind = _parts(body, kind_type.partition(";")[0].strip(), creates=creates)
    names = [name for name in ("producer-id", "producer-epoch", "producer-seq") if name in headers]
    producer = None
    if names and not creates:
        if len(names) < 3 or not (id := _named(headers, "producer-id")):
            raise BadRequest("expected Producer-Id, Producer-Epoch and Producer-Seq together")
        epoch, seq = _number(headers, "producer-epoch"), _number(headers, "producer-seq")
        producer = StreamProducer(id, epoch, seq)
    sequence = _named(headers, "stream-seq") if "stream-seq" in headers else None
    return Write(parts, kind, kind_type, sequence, producer, closes(headers))


def _parts(body: bytes, media_type: str, *, creates: bool) -> tuple[list[bytes], Kind]:
    if not body:
        return [], Kind.BYTES
    if media_type != JSON:
        return [body], _kind(body, media_type)
    try:
        kind, data = kind_of(body)
        if kind is not Kind.JSON:
            raise BadRequest("the body is not JSON")
        if not data.lstrip().startswith(b"["):
            return [data], kind
        parts = [one_line(bytes(each)) for each in _MESSAGES(data)]
    except RecursionError:
        raise BadRequest(TOO_DEEP) from None
    except msgspec.DecodeError as why:
        raise BadRequest(f"the body is not JSON: {why}") from None
    if not parts and not creates:
        raise BadRequest("the body has no messages")
    return parts, kind


def _kind(body: bytes, media_type: str) -> Kind:
    if not media_type.startswith("text/"):
        return Kind.BYTES
    try:
        body.decode()
    except UnicodeDecodeError:
        return Kind.BYTES
    return Kind.TEXT
