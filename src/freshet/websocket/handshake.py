"""The opening handshake of RFC 6455, both sides: from header bytes to decisions, in linear time.

Headers are bytes and are never split as text: what str.splitlines takes for a line's end is not one in HTTP.
"""

import base64
import binascii
import os
import re
from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha1
from http import HTTPStatus
from typing import NamedTuple

from freshet.websocket.deflate import NAME as DEFLATE
from freshet.websocket.deflate import negotiate

KIB = 1024
HEAD_SIZE = 64 * KIB  # bytes
HEADERS = 100  # count
SUBPROTOCOLS = 32  # count

_PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus}
LONGEST_KEPT = 100  # bytes of a header's value
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_BAD_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_TARGET = re.compile(rb"(?:https?:/)?/[\x21\x22\x24-\x7e]*", re.IGNORECASE)

Headers = list[tuple[bytes, bytes]]


class HandshakeError(Exception):
    """status, message, headers: of the HTTP response that says so."""

    def __init__(self, status: int, message: str, headers: Headers | None = None) -> None:
        super().__init__(f"{status} {message}")
        self.status = status
        self.message = message.encode()
        self.headers = headers or []


class UpgradeRequest(NamedTuple):
    """target: as on the wire. headers: names in lower case, in order."""

    method: bytes
    target: bytes
    headers: Headers


# -------------------------------------------------------------------------------------------------------------- server


def parse_request(head: bytes) -> UpgradeRequest:
    """The head of an HTTP/1.1 request, up to and with the empty line. Raises HandshakeError."""
    if len(head) > HEAD_SIZE:
        raise HandshakeError(431, "headers too large")
    if not head.endswith(b"\r\n\r\n"):
        raise HandshakeError(400, "the head does not end")
    request_line, *lines = head[:-4].split(b"\r\n")
    parts = request_line.split(b" ")
    if len(parts) != 3 or parts[2] != b"HTTP/1.1":
        raise HandshakeError(400, "expected an HTTP/1.1 request line")
    method, target, _ = parts
    if method != b"GET":
        raise HandshakeError(405, "a WebSocket opens with GET", [(b"allow", b"GET")])
    # RFC 6455, 3: "Fragment identifiers are meaningless in the context of WebSocket URIs and MUST NOT be used".
    if not _TARGET.fullmatch(target):
        raise HandshakeError(400, "invalid request target")
    if len(lines) > HEADERS:
        raise HandshakeError(431, "too many headers")
    headers = [_header(line) for line in lines]
    if sum(name == b"host" for name, _ in headers) != 1:
        raise HandshakeError(400, "expected one Host header")
    lengths = _values(headers, b"content-length")
    if lengths not in ([], [b"0"]) or _values(headers, b"transfer-encoding"):
        # What we would take for frames, a proxy before us could take for a body, or the other way round.
        raise HandshakeError(400, "a WebSocket opens without a body")
    return UpgradeRequest(method, target, headers)


def _header(line: bytes) -> tuple[bytes, bytes]:
    name, colon, value = line.partition(b":")
    value = value.strip(b" \t")
    if not colon or not _TOKEN.fullmatch(name) or _BAD_VALUE.search(value):
        raise HandshakeError(400, "invalid header")
    return name.lower(), value


def check(headers: Headers) -> bytes:
    """The key of a request that may become a WebSocket. Raises HandshakeError."""
    if b"websocket" not in _tokens(headers, b"upgrade"):
        raise HandshakeError(426, "expected Upgrade: websocket", [(b"upgrade", b"websocket")])
    if b"upgrade" not in _tokens(headers, b"connection"):
        raise HandshakeError(400, "expected Connection: Upgrade")
    if _values(headers, b"sec-websocket-version") != [b"13"]:
        # RFC 6455, 4.4: the server answers with the versions that it understands.
        raise HandshakeError(426, "unsupported WebSocket version", [(b"sec-websocket-version", b"13")])
    keys = _values(headers, b"sec-websocket-key")
    try:
        valid = len(keys) == 1 and len(base64.b64decode(keys[0], validate=True)) == 16
    except (binascii.Error, ValueError):
        valid = False
    if not valid:
        raise HandshakeError(400, "invalid Sec-WebSocket-Key")
    return keys[0]


def subprotocols(headers: Headers) -> list[str]:
    """What the client offers, in its order. Raises HandshakeError."""
    listed = b",".join(_values(headers, b"sec-websocket-protocol")).split(b",")
    # RFC 9110, 5.6.1.2: "A recipient MUST parse and ignore a reasonable number of empty list elements". Clients that
    # offer nothing send an empty header.
    offered = [name for each in listed if (name := each.strip(b" \t"))]
    if len(listed) > SUBPROTOCOLS or not all(_TOKEN.fullmatch(name) for name in offered):
        raise HandshakeError(400, "invalid Sec-WebSocket-Protocol")
    return [name.decode() for name in offered]


def extensions(headers: Headers) -> bytes | None:
    """The answer to the extensions that the client offers; None: there are to be none."""
    offers = b", ".join(_values(headers, b"sec-websocket-extensions"))
    return negotiate(offers) if offers else None


def response(key: bytes, subprotocol: str | None, extensions: bytes | None, headers: Headers) -> bytes:
    """101: the connection is a WebSocket now. Raises ValueError for a header that is not one."""
    lines = [
        b"HTTP/1.1 101 Switching Protocols",
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Accept: " + _accept(key),
    ]
    if subprotocol:
        lines += _lines([(b"Sec-WebSocket-Protocol", subprotocol.encode())])
    if extensions:
        lines.append(b"Sec-WebSocket-Extensions: " + extensions)
    lines += _lines(headers)
    return b"\r\n".join(lines) + b"\r\n\r\n"


def refuse(status: int, body: bytes, headers: Headers) -> bytes:
    """An ordinary HTTP response, after which the connection ends. Raises ValueError for a header that is not one."""
    own = {name.lower() for name, _ in headers}
    lines = [_status_line(status)]
    framing = (b"content-length", b"transfer-encoding", b"connection")
    lines += _lines([(name, value) for name, value in headers if name.lower() not in framing])
    if b"content-type" not in own:
        lines.append(b"content-type: text/plain; charset=utf-8")
    lines += [b"content-length: %d" % len(body), b"connection: close"]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def http_response(status: int, headers: Headers, body: bytes) -> bytes:
    """A response behind which another may come. Raises ValueError for a header that is not one."""
    return b"\r\n".join([_status_line(status), *_lines(headers), b"", body])


def _status_line(status: int) -> bytes:
    return b"HTTP/1.1 %d %b" % (status, _PHRASES.get(status, b""))


def _lines(headers: Headers) -> list[bytes]:
    """Headers from an application."""
    return [
        _line(name, value) if len(value) <= LONGEST_KEPT else _line.__wrapped__(name, value) for name, value in headers
    ]


@lru_cache(1024)  # responses have nearly the same headers, one after the other
def _line(name: bytes, value: bytes) -> bytes:
    """One with a line's end in it would be two."""
    if not _TOKEN.fullmatch(name) or _BAD_VALUE.search(value):
        raise ValueError(f"invalid response header {name!r}")
    return name + b": " + value


def _accept(key: bytes) -> bytes:
    return base64.b64encode(sha1(key + _GUID, usedforsecurity=False).digest())


def _values(headers: Headers, name: bytes) -> list[bytes]:
    return [value for each, value in headers if each == name]


def _tokens(headers: Headers, name: bytes) -> set[bytes]:
    """A list header's values in lower case: Firefox says `Connection: keep-alive, Upgrade`."""
    return {token.strip(b" \t").lower() for value in _values(headers, name) for token in value.split(b",")}


# -------------------------------------------------------------------------------------------------------------- client


def client_request(
    host: str,
    target: str,
    headers: Sequence[tuple[bytes, bytes]] = (),
    subprotocol: str | None = None,
    deflate: bool = False,
) -> tuple[bytes, bytes]:
    """A request for a WebSocket, and the key to check the answer with."""
    key = base64.b64encode(os.urandom(16))
    lines = [
        f"GET {target} HTTP/1.1".encode(),
        b"Host: " + host.encode(),
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Version: 13",
        b"Sec-WebSocket-Key: " + key,
    ]
    if subprotocol:
        lines.append(b"Sec-WebSocket-Protocol: " + subprotocol.encode())
    if deflate:
        lines.append(
            b"Sec-WebSocket-Extensions: " + DEFLATE + b"; server_no_context_takeover; client_no_context_takeover"
        )
    lines += [name + b": " + value for name, value in headers]
    return b"\r\n".join(lines) + b"\r\n\r\n", key


def check_response(head: bytes, key: bytes) -> Headers:
    """The headers of a server's 101. Raises HandshakeError for any other answer, with its status."""
    status_line, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    parts = status_line.split(b" ", 2)
    if len(parts) < 2 or parts[0] != b"HTTP/1.1" or not re.fullmatch(rb"[1-5][0-9][0-9]", parts[1]):
        raise HandshakeError(502, "not an HTTP/1.1 response")
    if parts[1] != b"101":
        raise HandshakeError(int(parts[1]), "the server did not switch protocols")
    headers = [_header(line) for line in lines]
    if b"websocket" not in _tokens(headers, b"upgrade") or b"upgrade" not in _tokens(headers, b"connection"):
        raise HandshakeError(502, "the server did not upgrade to a WebSocket")
    if _values(headers, b"sec-websocket-accept") != [_accept(key)]:
        raise HandshakeError(502, "wrong Sec-WebSocket-Accept")
    return headers
