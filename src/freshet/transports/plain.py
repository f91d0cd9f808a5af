"""Requests that need no parser: recognised in one look, or not at all.

What nearly all clients send is a head of one shape in one piece. That is matched by one regular expression, which takes
less than strict parsers allow; whatever differs by a byte is none of these, and is left to them unread. So nothing is
decided here about a request that is odd, large, in pieces or hostile.
"""

import re
from typing import NamedTuple

from freshet.runtime.server import HttpBounds
from freshet.websocket.handshake import Headers

# RFC 9112, 2.1 and 5: lines end with CRLF, a field has one value without controls, none is folded. Every repetition is
# possessive: nothing is tried twice.
_NAME, _VALUE = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++", rb"[\x20-\x7e\x80-\xff]++"
_HEAD = re.compile(rb"GET (/[\x21\x22\x24-\x7e]*+) HTTP/1\.1\r\n((?:%b: %b\r\n)++)\r\n" % (_NAME, _VALUE))
_FIELDS = re.compile(rb"(%b): (%b)\r\n" % (_NAME, _VALUE)).findall
_KEY = re.compile(rb"[0-9A-Za-z+/]{22}==").fullmatch

_UNUSUAL = frozenset(  # of which one has a body, one asks for another answer first, and proxies say by others who asks
    {b"content-length", b"transfer-encoding", b"expect", b"forwarded", b"x-forwarded-for", b"x-forwarded-proto"}
    | {b"x-forwarded-host", b"x-forwarded-port", b"x-forwarded-prefix", b"x-real-ip"}
)
_CONNECTION = frozenset({b"upgrade", b"keep-alive, upgrade"})  # the second is Firefox's


class PlainUpgrade(NamedTuple):
    """A request for a WebSocket. target: as on the wire. headers: names in lower case, each once."""

    target: bytes
    headers: Headers
    key: bytes


def plain_upgrade(data: bytes, bounds: HttpBounds) -> PlainUpgrade | None:
    """A whole request for a WebSocket, and nothing behind it; None: whatever else it is."""
    head = _HEAD.fullmatch(data) if len(data) <= bounds.head_size else None
    if head is None or b":  " in data or b" \r\n" in data:  # spaces around a value are not part of it
        return None
    headers = [(name.lower(), value) for name, value in _FIELDS(head[2])]
    fields = dict(headers)
    key = fields.get(b"sec-websocket-key", b"")
    if (
        len(fields) == len(headers) <= bounds.headers
        and len(head[1]) <= bounds.url_size
        and _UNUSUAL.isdisjoint(fields)
        and b"host" in fields
        and fields.get(b"upgrade", b"").lower() == b"websocket"
        and fields.get(b"connection", b"").lower() in _CONNECTION
        and fields.get(b"sec-websocket-version") == b"13"
        and _KEY(key)
    ):
        return PlainUpgrade(head[1], headers, key)
    return None
