"""What holds for every stream of bytes, by Hypothesis."""

import sys
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from freshet.websocket.deflate import compress
from freshet.websocket.frames import CloseFrame, Decoder, MessageLimits, Opcode, PingFrame, PongFrame, encode
from tests.websocket.peer import pinned, plain

LIMITS = MessageLimits(frame=2000, message=2000, fragments=20)
CODES = st.sampled_from([1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 4999])

Draw = Callable[[st.SearchStrategy[Any]], Any]


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """`data` in pieces; a place beyond the end starts over from the beginning."""
    ends = sorted({place % (len(data) + 1) for place in places})
    return [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True)]


def one_control(draw: Draw, mask: bytes | None) -> tuple[bytes, object]:
    data = draw(st.binary(max_size=125))
    if draw(st.booleans()):
        return encode(Opcode.PING, data, mask=mask), PingFrame(data)
    return encode(Opcode.PONG, data, mask=mask), PongFrame(data)


def one_message(draw: Draw, mask: bytes | None, deflate: bool) -> tuple[bytes, list[object]]:
    """A message in fragments, with control frames between them."""
    binary = draw(st.booleans())
    data = draw(st.binary(max_size=400)) if binary else draw(st.text(max_size=130)).encode()
    compressed = deflate and draw(st.booleans())
    parts = cut(compress(data) if compressed else data, draw(st.lists(st.integers(0, 400), max_size=5)))
    wire, events = b"", []
    for number, part in enumerate(parts):
        if number and draw(st.booleans()):
            control, event = one_control(draw, mask)
            wire += control
            events.append(event)
        opcode = Opcode.CONTINUATION if number else Opcode.BINARY if binary else Opcode.TEXT
        last = number == len(parts) - 1
        wire += encode(opcode, part, mask=mask, fin=last, rsv1=compressed and not number)
    return wire, [*events, ("frame", data, binary)]


@st.composite
def conversations(draw: Draw, server: bool, deflate: bool) -> tuple[bytes, list[object]]:
    """What a peer may send, and the events that it means."""
    wire, events = b"", []
    for _ in range(draw(st.integers(0, 5))):
        mask = draw(st.binary(min_size=4, max_size=4)) if server else None
        if draw(st.booleans()):
            more, meant = one_message(draw, mask, deflate)
        else:
            more, event = one_control(draw, mask)
            meant = [event]
        wire += more
        events += meant
    if draw(st.booleans()):
        code, reason = draw(CODES), draw(st.text(max_size=30))
        mask = draw(st.binary(min_size=4, max_size=4)) if server else None
        wire += encode(Opcode.CLOSE, code.to_bytes(2, "big") + reason.encode(), mask=mask)
        events.append(CloseFrame(code, reason))
    return wire, events


PLACES = st.lists(st.integers(0, 5000), max_size=40)


@given(st.data(), st.booleans(), st.booleans(), PLACES)
@settings(max_examples=300)
def test_what_was_encoded_is_decoded_however_the_bytes_are_cut(
    data: st.DataObject, server: bool, deflate: bool, places: list[int]
) -> None:
    wire, events = data.draw(conversations(server, deflate))
    decoder = Decoder(LIMITS, server=server, deflate=deflate)
    found = [event for piece in cut(wire, places) for event in decoder.feed(piece)]
    assert decoder.error is None
    assert plain(found) == events


@given(st.data())
@settings(max_examples=50)
def test_a_conversation_can_come_byte_by_byte(data: st.DataObject) -> None:
    wire, events = data.draw(conversations(True, True))
    decoder = Decoder(LIMITS, deflate=True)
    assert plain([event for at in range(len(wire)) for event in decoder.feed(wire[at : at + 1])]) == events


HEADERS = st.tuples(
    st.sampled_from([0x00, 0x01, 0x02, 0x80, 0x81, 0x82, 0x88, 0x89, 0x8A, 0xC1, 0xC2, 0x41, 0x83, 0xFF, 0x09]),
    st.sampled_from([0x80, 0x81, 0x82, 0x85, 0xFD, 0xFE, 0xFF, 0x00, 0x05]),
).map(bytes)
NOISE = st.lists(st.one_of(HEADERS, st.binary(max_size=12), st.binary(max_size=300)), max_size=12).map(b"".join)


@given(NOISE, st.booleans(), st.booleans(), PLACES)
@settings(max_examples=1000)
def test_any_bytes_give_events_or_an_error_and_nothing_else(
    noise: bytes, server: bool, deflate: bool, places: list[int]
) -> None:
    decoder = Decoder(LIMITS, server=server, deflate=deflate)
    for piece in cut(noise, places):
        decoder.feed(piece)
        # The frame's header and payload, a buffer that grows ahead, and the objects around it.
        assert pinned(decoder) <= 2 * LIMITS.message + 2048
    assert decoder.error is None or decoder.error.code in (1002, 1007, 1009)


@given(NOISE, st.booleans(), PLACES)
@settings(max_examples=500)
def test_how_bytes_are_cut_does_not_change_what_is_made_of_them(noise: bytes, deflate: bool, places: list[int]) -> None:
    whole, pieces = Decoder(LIMITS, deflate=deflate), Decoder(LIMITS, deflate=deflate)
    at_once = whole.feed(noise)
    one_by_one = [event for piece in cut(noise, places) for event in pieces.feed(piece)]
    # Bytes that are wrong may be noticed before all of them are here, but then for the same reason or an earlier one.
    assert plain(one_by_one) == plain(at_once)
    assert (whole.error is None) is (pieces.error is None)


@given(st.data(), st.one_of(st.none(), NOISE), PLACES, st.sampled_from([1, 3, sys.maxsize]))
@settings(max_examples=500)
def test_a_decoder_with_nothing_unfinished_is_as_a_new_one(
    data: st.DataObject, noise: bytes | None, places: list[int], most: int
) -> None:
    """So that peers may share it."""
    wire = data.draw(conversations(True, True))[0] if noise is None else noise
    one, exchanged = Decoder(LIMITS, deflate=True), Decoder(LIMITS, deflate=True)
    for piece in cut(wire, places):
        rest: bytes | None = piece
        while rest is not None:
            assert plain(one.feed(rest, most)) == plain(exchanged.feed(rest, most))
            rest = b"" if one.held else None
            if not exchanged.unfinished:
                exchanged = Decoder(LIMITS, deflate=True)
    assert (one.error is None) is (exchanged.error is None)


@given(NOISE)
@settings(max_examples=200)
def test_nothing_is_made_of_what_follows_an_error_or_a_close(noise: bytes) -> None:
    for end in (b"\x81\x00", encode(Opcode.CLOSE, b"", mask=b"mask")):
        decoder = Decoder(LIMITS)
        decoder.feed(end)
        error = decoder.error
        assert decoder.feed(noise) == []
        assert decoder.error is error
