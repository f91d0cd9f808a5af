"""permessage-deflate (RFC 7692), always without context takeover.

So a message is compressed for itself: one result serves every client of a broadcast, and an idle client holds no
window.
"""

import re
import zlib

NAME = b"permessage-deflate"
WINDOW = 12  # bits: 4 KiB. A live message hardly gets smaller with more, and zlib's own default takes ten times as long
LEVEL = 1  # of 9: a live message is small, and its client waits
MEMORY = 5  # of 9: what goes with the window
LONGEST = 4096  # bytes of an offer that are looked at

_EMPTY_BLOCK = b"\x00\x00\xff\xff"
_FINAL_BLOCK = b"\x03\x00"

# RFC 6455, 9.1: extension-list = 1#extension, extension = extension-token *( ";" extension-param ), extension-param =
# token [ "=" (token | quoted-string) ], of which "the value after quoted-string unescaping MUST conform to the 'token'
# ABNF". Every repetition is possessive: nothing is tried twice.
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_PARAMETER = re.compile(rb"[ \t]*+;[ \t]*+(%b)(?:[ \t]*+=[ \t]*+(?:(%b)|\"(%b)\"))?+[ \t]*+" % (_TOKEN, _TOKEN, _TOKEN))
_EXTENSION = re.compile(rb"[ \t]*+(%b)[ \t]*+" % _TOKEN)
_PARAMETERS = frozenset(
    {
        b"server_no_context_takeover",
        b"client_no_context_takeover",
        b"server_max_window_bits",
        b"client_max_window_bits",
    }
)


class Oversize(Exception):
    """A message inflates to more than is allowed."""


# ------------------------------------------------------------------------------------------------------- the handshake


def negotiate(offers: bytes) -> bytes | None:
    """The answer to `Sec-WebSocket-Extensions`: the first offer that can be met; None: no compression.

    None too for a header that is not well-formed.
    """
    # RFC 7692, 5: the client lists its offers in the order in which it prefers them; a server takes one or none.
    extensions = _parse(offers)
    answers = (_answer(parameters) for name, parameters in extensions if name == NAME)
    return next((answer for answer in answers if answer is not None), None)


def _parse(offers: bytes) -> list[tuple[bytes, list[tuple[bytes, bytes | None]]]]:
    """Each extension's name and parameters, in lower case; nothing if any of it is malformed."""
    extensions: list[tuple[bytes, list[tuple[bytes, bytes | None]]]] = []
    at = 0 if len(offers) <= LONGEST else len(offers) + 1
    while at <= len(offers):
        extension = _EXTENSION.match(offers, at)
        if extension is None:
            return []
        parameters: list[tuple[bytes, bytes | None]] = []
        at = extension.end()
        while parameter := _PARAMETER.match(offers, at):
            name, plain, quoted = parameter.groups()
            parameters.append((name.lower(), quoted if plain is None else plain))
            at = parameter.end()
        extensions.append((extension[1].lower(), parameters))
        if at < len(offers) and offers[at] != ord(","):
            return []
        at += 1
    return extensions


def _answer(parameters: list[tuple[bytes, bytes | None]]) -> bytes | None:
    """The answer to one offer; None declines it."""
    # RFC 7692, 7.1: "A server MUST decline an extension negotiation offer for this extension if any of the following
    # conditions are met": a parameter that is not defined, one with an invalid value, one that comes twice, or the
    # server cannot do what is asked.
    offer = dict(parameters)
    if len(offer) < len(parameters) or not offer.keys() <= _PARAMETERS:
        return None
    if offer.get(b"server_no_context_takeover") is not None or offer.get(b"client_no_context_takeover") is not None:
        return None  # a value where none belongs
    # The client may be told not to use context takeover though it did not offer that itself (RFC 7692, 7.1.1.2), and
    # the server may do without although it was not asked to (7.1.1.1).
    answer = NAME + b"; server_no_context_takeover; client_no_context_takeover"
    if b"server_max_window_bits" in offer:
        bits = _window(offer[b"server_max_window_bits"])
        if bits is None or bits < WINDOW:
            return None
        # RFC 7692, 7.1.2.1: accepted "with the same or smaller value as the offer".
        answer += b"; server_max_window_bits=%d" % WINDOW
    # The client's own window is a hint (7.1.2.2), with or without a value: messages are inflated with the largest.
    if offer.get(b"client_max_window_bits") is not None and _window(offer[b"client_max_window_bits"]) is None:
        return None
    return answer


def _window(value: bytes | None) -> int | None:
    # RFC 7692, 7.1.2.1: "a decimal integer value without leading zeroes between 8 to 15, inclusive".
    return int(value) if value in (b"8", b"9", b"10", b"11", b"12", b"13", b"14", b"15") else None


# ------------------------------------------------------------------------------------------------------------ messages


def compress(data: bytes) -> bytes:
    deflater = zlib.compressobj(LEVEL, zlib.DEFLATED, -WINDOW, MEMORY)
    compressed = deflater.compress(data) + deflater.flush(zlib.Z_SYNC_FLUSH)
    # RFC 7692, 7.2.1: "Remove 4 octets (that are 0x00 0x00 0xff 0xff) from the tail end."
    return compressed[:-4]


def inflate(data: bytes, limit: int) -> bytes:
    """The message that was compressed to `data`, of which never more than `limit` bytes are made.

    Raises `Oversize` for more than `limit` bytes, and ValueError for what is not deflate data or ends within a block.
    """
    if not data:
        return b""
    inflater = zlib.decompressobj(-15)
    try:
        # RFC 7692, 7.2.2: "Append 4 octets of 0x00 0x00 0xff 0xff to the tail end of the payload of the message." The
        # final block shows that all blocks before it were complete.
        result = inflater.decompress(data + _EMPTY_BLOCK + _FINAL_BLOCK, limit + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if len(result) > limit:
        raise Oversize
    # RFC 7692, 7.2.3.4: a message may have a final block of its own, and then `00`, with which an empty block begins.
    rest = inflater.unused_data
    if not inflater.eof or rest not in (b"", _EMPTY_BLOCK + _FINAL_BLOCK, b"\x00" + _EMPTY_BLOCK + _FINAL_BLOCK):
        raise ValueError("incomplete deflate data, or some after its end")
    return result
