"""Engine.IO, version 4, without I/O: the packets that carry Socket.IO, on a WebSocket and in the bodies of HTTP polls.

A packet is a frame: on a WebSocket a text whose first character says what it is, or binary, which is always a message.
In a body packets are separated by 0x1E, and binary ones are `b` and base64. Source: `docs/engine.io-protocol` of
socketio/socket.io.
"""

from base64 import b64decode, b64encode
from collections.abc import Iterator

import msgspec

from freshet.errors import Disconnect
from freshet.model.frame import Frame

VERSION = "4"
SEPARATOR = b"\x1e"

PING, PONG, NOOP, CLOSE = Frame(b"2"), Frame(b"3"), Frame(b"6"), Frame(b"1")
PROBE, PROBED, UPGRADE = b"2probe", Frame(b"3probe"), b"5"


def opening(sid: str, upgrades: list[str], ping_interval: float, ping_timeout: float, max_payload: int) -> Frame:
    """The packet with which the server begins. Times in seconds; they go out in milliseconds."""
    return Frame(
        b"0"
        + msgspec.json.encode(
            {
                "sid": sid,
                "upgrades": upgrades,
                "pingInterval": round(ping_interval * 1000),
                "pingTimeout": round(ping_timeout * 1000),
                "maxPayload": max_payload,
            }
        )
    )


def packets_of(frame: Frame) -> int:
    """How many packets a frame is, with its tail."""
    return 1 + (packets_of(frame.tail) if frame.tail else 0)


def body(frames: list[Frame]) -> bytes:
    """Packets as the body of a poll."""
    packets: list[bytes] = []
    for first in frames:
        frame: Frame | None = first
        while frame is not None:
            packets.append(b"b" + b64encode(frame.data) if frame.binary else frame.data)
            frame = frame.tail
    return SEPARATOR.join(packets)


def packets(data: bytes) -> Iterator[Frame]:
    """The packets of a body that a client sent, each when it is asked for. Raises `Disconnect`, whatever the bytes."""
    start = 0
    while start <= len(data):
        end = data.find(SEPARATOR, start)
        end = len(data) if end < 0 else end
        yield _packet(data[start:end])
        start = end + 1


def _packet(part: bytes) -> Frame:
    try:
        if part[:1] == b"b":
            return Frame(b64decode(part[1:], validate=True), binary=True)
        part.decode()
    except ValueError:
        raise Disconnect.bad_request("a packet is UTF-8, or b and base64") from None
    if not b"0" <= part[:1] <= b"6":
        raise Disconnect.bad_request("unknown packet type")
    return Frame(part)
