"""The other side of a decoder: frames as a client sends them, and what a decoder holds."""

import gc
import sys
from collections.abc import Iterable

from freshet.model.frame import Frame
from freshet.websocket.frames import Decoder, Event, MessageLimits, Opcode, ProtocolError, encode

MASK = b"\x37\xfa\x21\x3d"


def masked(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv1: bool = False) -> bytes:
    return encode(Opcode(opcode), payload, mask=MASK, fin=fin, rsv1=rsv1)


def header(first: int, length: int, *, size: int = 0) -> bytes:
    """A masked header alone, with any first byte. size: bytes of an extended length, 0, 2 or 8."""
    marker = {0: length, 2: 126, 8: 127}[size]
    return bytes((first, 0x80 | marker)) + (length.to_bytes(size, "big") if size else b"") + MASK


def plain(events: Iterable[Event]) -> list[object]:
    """Events that can be compared."""
    return [("frame", event.data, event.binary) if isinstance(event, Frame) else event for event in events]


def decode(
    data: bytes, limits: MessageLimits | None = None, *, deflate: bool = False
) -> tuple[list[object], int | None]:
    """What a server makes of `data`, all at once: the events, and the close code of the error."""
    decoder = Decoder(limits or MessageLimits(), deflate=deflate)
    events = plain(decoder.feed(data))
    return events, decoder.error.code if decoder.error else None


def refused(data: bytes, limits: MessageLimits | None = None, *, deflate: bool = False) -> ProtocolError:
    """The error of a server that is sent `data`."""
    decoder = Decoder(limits or MessageLimits(), deflate=deflate)
    decoder.feed(data)
    assert decoder.error is not None, f"nothing is wrong with {data[:32]!r}"
    return decoder.error


def dribble(decoder: Decoder, data: bytes, step: int = 1) -> list[Event]:
    return [event for at in range(0, len(data), step) for event in decoder.feed(data[at : at + step])]


def pinned(decoder: Decoder) -> int:
    """Bytes that a decoder keeps alive, objects and all; what all decoders share is not counted."""
    shared = (type, MessageLimits, type(sys))
    seen: dict[int, object] = {}
    waiting: list[object] = [decoder]
    while waiting:
        thing = waiting.pop()
        if id(thing) not in seen and not isinstance(thing, shared) and not callable(thing):
            seen[id(thing)] = thing
            waiting += gc.get_referents(thing)
    return sum(sys.getsizeof(thing) for thing in seen.values())
