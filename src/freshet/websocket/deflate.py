"""permessage-deflate (RFC 7692), always without context takeover.

So a message is compressed for itself: one result serves every client of a broadcast, and an idle client holds no
window.
"""

import zlib

NAME = b"permessage-deflate"
_TAIL = b"\x00\x00\xff\xff"
LEVEL = 1  # of 9: a live message is small, and its client waits
LONGEST = 4096  # bytes of an offer that are looked at


class Oversize(Exception):
    """A message inflates to more than is allowed."""


def negotiate(offers: bytes) -> bytes | None:
    """The answer to `Sec-WebSocket-Extensions`: the first offer that can be met; None: no compression."""
    if len(offers) > LONGEST:
        return None
    for offer in offers.split(b","):
        name, *parameters = (part.strip() for part in offer.split(b";"))
        if name.lower() == NAME and (answer := _answer(parameters)) is not None:
            return answer
    return None


def _answer(parameters: list[bytes]) -> bytes | None:
    answer = NAME + b"; server_no_context_takeover; client_no_context_takeover"
    seen: set[bytes] = set()
    for parameter in parameters:
        name, has_value, value = parameter.partition(b"=")
        name, value = name.strip().lower(), value.strip().strip(b'"')
        if name in seen:
            return None
        seen.add(name)
        if name in (b"server_no_context_takeover", b"client_no_context_takeover"):
            if has_value:
                return None
        elif name == b"client_max_window_bits":
            if has_value and not _is_window(value):
                return None
        elif name == b"server_max_window_bits":
            # Messages are compressed once for all clients, with the largest window.
            if value != b"15":
                return None
            answer += b"; server_max_window_bits=15"
        else:
            return None
    return answer


def _is_window(value: bytes) -> bool:
    return value in (b"8", b"9", b"10", b"11", b"12", b"13", b"14", b"15")


def compress(data: bytes) -> bytes:
    deflater = zlib.compressobj(LEVEL, zlib.DEFLATED, -15)
    compressed = deflater.compress(data) + deflater.flush(zlib.Z_SYNC_FLUSH)
    # RFC 7692, 7.2.1: "Remove 4 octets (that are 0x00 0x00 0xff 0xff) from the tail end."
    return compressed[:-4]


def inflate(data: bytes, limit: int) -> bytes:
    """Raises `Oversize` for more than `limit` bytes, ValueError for what is not deflate data."""
    inflater = zlib.decompressobj(-15)
    try:
        result = inflater.decompress(data + _TAIL, limit + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if len(result) > limit:
        raise Oversize
    return result
