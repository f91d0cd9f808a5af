"""Requests that need no parser: recognised in one look, or not at all.

What nearly all clients send is a head of one shape, with its body, in one piece. That is matched by one regular
expression, which takes less than strict parsers allow; whatever differs by a byte is none of these, and is left to them
unread. So nothing is decided here about a request that is odd, large, in pieces or hostile.
"""

import re
from typing import NamedTuple

from freshet.runtime.server import HttpBounds
from freshet.websocket.handshake import Headers

# RFC 9112, 2.1 and 5: lines end with CRLF, a field has one value without controls, none is folded. Every repetition is
# possessive: nothing is tried twice.
_NAME, _VALUE = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++", rb"[\x20-\x7e\x80-\xff]++"
_HEAD = re.compile(rb"(GET|POST) (/[\x21\x22\x24-\x7e]*+) HTTP/1\.1\r\n((?:%b: %b\r\n)++)\r\n" % (_NAME, _VALUE)).match
_FIELDS = re.compile(rb"(%b): (%b)\r\n" % (_NAME, _VALUE)).findall
_KEY = re.compile(rb"[0-9A-Za-z+/]{22}==").fullmatch

_UNUSUAL = frozenset(  # by which a body has no length, another answer is asked for first, or a proxy says who asks
    {b"transfer-encoding", b"expect", b"trailer", b"forwarded", b"x-forwarded-for", b"x-forwarded-proto"}
    | {b"x-forwarded-host", b"x-forwarded-port", b"x-forwarded-prefix", b"x-real-ip"}
)
_UPGRADES = frozenset({b"upgrade", b"keep-alive, upgrade"})  # the second is Firefox's
_CONNECTIONS = frozenset({b"", b"keep-alive", b"close"})
BODY = 64 * 1024  # bytes that may come with the head


class PlainRequest(NamedTuple):
    """A whole request. target: as on the wire. headers: names in lower case, each once.

    key: of one for a WebSocket; empty: it is to have a response. last: the connection is for no more than this one.
    """

    method: bytes
    target: bytes
    headers: Headers
    body: bytes
    key: bytes = b""
    last: bool = False


def plain_request(data: bytes, bounds: HttpBounds) -> PlainRequest | None:
    """A whole request, and nothing behind it; None: whatever else it is."""
    head = _HEAD(data, 0, bounds.head_size)
    if head is None or b":  " in head[0] or b" \r\n" in head[0]:  # spaces around a value are not part of it
        return None
    method, target, lines = head.groups()
    headers = [(name.lower(), value) for name, value in _FIELDS(lines)]
    fields = dict(headers)
    if (
        len(fields) != len(headers)
        or len(headers) > bounds.headers
        or len(target) > bounds.url_size
        or b"host" not in fields
        or not _UNUSUAL.isdisjoint(fields)
    ):
        return None
    body = data[head.end() :]
    if b"upgrade" in fields:
        key = fields.get(b"sec-websocket-key", b"")
        usual = _is_upgrade(method, fields, key) and not body
        return PlainRequest(method, target, headers, body, key) if usual else None
    connection = fields.get(b"connection", b"").lower()
    usual = connection in _CONNECTIONS and _is_all(method, fields.get(b"content-length"), body)
    return PlainRequest(method, target, headers, body, last=connection == b"close") if usual else None


def _is_upgrade(method: bytes, fields: dict[bytes, bytes], key: bytes) -> bool:
    return (
        method == b"GET"
        and b"content-length" not in fields
        and fields[b"upgrade"].lower() == b"websocket"
        and fields.get(b"connection", b"").lower() in _UPGRADES
        and fields.get(b"sec-websocket-version") == b"13"
        and _KEY(key) is not None
    )


def _is_all(method: bytes, length: bytes | None, body: bytes) -> bool:
    """Whether the whole body is here, and nothing else."""
    if method == b"POST":
        return length == b"%d" % len(body) and len(body) <= BODY
    return length is None and not body
