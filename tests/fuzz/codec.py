"""The WebSocket codec: frames, offers of compression, and the opening handshake."""

from collections.abc import Hashable
from random import Random

from freshet.runtime.server import HttpBounds
from freshet.transports.plain import plain_request
from freshet.websocket import handshake
from freshet.websocket.deflate import Oversize, compress, inflate, negotiate
from freshet.websocket.frames import Decoder, MessageLimits, Opcode, encode
from tests.fuzz.grammar import cut, words
from tests.fuzz.harness import Target
from tests.websocket.peer import pinned, plain

LIMITS = MessageLimits(frame=4000, message=6000, fragments=20)
BIG = MessageLimits(frame=64 * 1024, message=64 * 1024, fragments=1024)
OFFERS = [
    b"permessage-deflate",
    b"; ",
    b", ",
    b"=",
    b'"',
    b"server_max_window_bits",
    b"client_max_window_bits",
    b"server_no_context_takeover",
    b"12",
    b"15",
    b"8",
    b" ",
    b"\t",
    b"x-webkit",
]

# --------------------------------------------------------------------------------------------------------------- frames


def _frame(chance: Random) -> bytes:
    opcode = chance.choice([0, 0, 1, 1, 2, 2, 8, 9, 10])
    payload = chance.choice(
        (b"", b"{}", "é☃".encode()[: chance.randrange(6)], chance.randbytes(chance.randrange(130)), b"x" * 3000)
    )
    rsv1 = chance.random() < 0.2
    if rsv1:
        payload = compress(payload if chance.random() < 0.9 else bytes(100_000))
    if opcode == 8 and payload:
        payload = chance.choice((1000, 1001, 1005, 3000, 4999, 65535)).to_bytes(2, "big") + payload[:100]
    return encode(Opcode(opcode), payload, mask=chance.randbytes(4), fin=chance.random() < 0.7, rsv1=rsv1)


def _frames(chance: Random) -> bytes:
    """A byte of flags, a byte of how many sizes follow, these, and the frames."""
    sizes = bytes(chance.choices((0, 1, 2, 7, 125, 255), k=chance.randrange(4)))
    return (
        bytes((chance.randrange(8), len(sizes)))
        + sizes
        + b"".join(_frame(chance) for _ in range(chance.randrange(1, 8)))
    )


def run_frames(data: bytes) -> Hashable:
    flags, count = (*data[:2], 0, 0)[:2]
    sizes, stream = data[2 : 2 + count % 8], data[2 + count % 8 :]
    limits = BIG if flags & 4 else LIMITS
    whole, pieces = (Decoder(limits, server=not flags & 1, deflate=bool(flags & 2)) for _ in range(2))
    at_once = plain(whole.feed(stream))
    one_by_one = [event for piece in cut(stream, sizes) for event in plain(pieces.feed(piece))]
    assert at_once == one_by_one, "how the bytes are cut changes what is made of them"
    assert (whole.error is None) is (pieces.error is None)
    assert all(each.error is None or each.error.code in (1002, 1007, 1009) for each in (whole, pieces))
    assert pinned(pieces) <= 2 * limits.message + 2048, f"{pinned(pieces)} bytes are kept"
    assert whole.error is None or whole.feed(b"\x81\x80\0\0\0\0") == []
    reason = whole.error.reason if whole.error else ""
    return tuple(type(each).__name__ for each in at_once[:3]), len(at_once) > 3, reason


# -------------------------------------------------------------------------------------------------------- compression


def run_deflate(data: bytes) -> Hashable:
    """As an offer, and as a compressed message."""
    answer = negotiate(data)
    assert answer is None or b"\r" not in answer
    try:
        inflated = inflate(data, 10_000)
    except (ValueError, Oversize) as error:
        return answer, type(error).__name__
    assert len(inflated) <= 10_000
    return answer, len(inflated).bit_length()


def _deflate(chance: Random) -> bytes:
    if chance.random() < 0.5:
        return words(chance, OFFERS, 12)
    return compress(
        words(chance, OFFERS, 200) if chance.random() < 0.7 else bytes(chance.choice((9999, 10_000, 10_001, 10**6)))
    )


# -------------------------------------------------------------------------------------------------------- the handshake

_NAMES = [
    b"Host",
    b"Upgrade",
    b"Connection",
    b"Sec-WebSocket-Version",
    b"Sec-WebSocket-Key",
    b"Origin",
    b"Cookie",
    b"X",
]
_NAMES += [
    b"Sec-WebSocket-Protocol",
    b"Sec-WebSocket-Extensions",
    b"Content-Length",
    b"Transfer-Encoding",
    b"Sec-WebSocket-Accept",
]
_VALUES = [
    b"x",
    b"websocket",
    b"keep-alive, Upgrade",
    b"13",
    b"dGhlIHNhbXBsZSBub25jZQ==",
    b"centrifuge-json, a",
    b"0",
    b"chunked",
]
_VALUES += [b"", b"b" + b" " * 300 + b"x", b"\xff", b"a\x0bb", b"a\x85b", b"a,,,b", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="]
_REQUEST = (
    b"GET /connection/websocket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
_ANSWER = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
)
HEADER_WORDS = [*_NAMES, *_VALUES, b"\r\n", b": ", b" ", b"\t", b",", b"GET ", b" HTTP/1.1"]


def _handshake(chance: Random) -> bytes:
    head = chance.choice(
        (_REQUEST, _REQUEST, _ANSWER, b"POST /a?b=%ff HTTP/1.1\r\n", b"GET http://h/# HTTP/1.1\r\nHost: x\r\n")
    )
    more = [
        chance.choice(_NAMES) + b":" + b" " * chance.randrange(2) + chance.choice(_VALUES) + b"\r\n"
        for _ in range(chance.choice((0, 1, 3, 99)))
    ]
    return head + b"".join(more) + b"\r\n"


def run_handshake(data: bytes) -> Hashable:
    recognised = plain_request(data, HttpBounds())
    if recognised is not None and not recognised.key:
        recognised = None  # as a request that is to have a response
    try:
        request = handshake.parse_request(data)
        key = handshake.check(request.headers)
        offered = handshake.subprotocols(request.headers)
    except handshake.HandshakeError as error:
        may_be_recognised = b"Protocol" in error.message  # which is looked at later
        outcome: Hashable = (error.status, error.message)
        answer = handshake.refuse(error.status, error.message, error.headers)
    else:
        may_be_recognised = recognised is not None and recognised == (*request, b"", key, False)
        outcome = (len(offered), len(request.headers), recognised is not None)
        answer = handshake.response(key, offered[0] if offered else None, None, [])
    assert recognised is None or may_be_recognised, "not what the parser reads"
    assert answer.count(b"\r\n\r\n") >= 1
    head = answer.partition(b"\r\n\r\n")[0]
    assert not any(line.count(b"\r") + line.count(b"\n") for line in head.split(b"\r\n")), "a header in a header"
    try:
        handshake.check_response(data, b"dGhlIHNhbXBsZSBub25jZQ==")
    except handshake.HandshakeError as error:
        return outcome, error.message
    return outcome, "accepted"


TARGETS = [
    Target("frames", run_frames, _frames, [b"\x81\x80\0\0\0\0", b"\xff" * 8, b"\xfe", b"\xc1", b"\x00\x80"], each=3e-6),
    Target("deflate", run_deflate, _deflate, OFFERS),
    Target("handshake", run_handshake, _handshake, HEADER_WORDS),
]
