"""Frames that break RFC 6455, each with the code that says how, and close frames."""

import pytest

from freshet.model.frame import Batch, Frame
from freshet.websocket.deflate import compress
from freshet.websocket.frames import (
    CloseFrame,
    Decoder,
    Event,
    MessageLimits,
    Opcode,
    PingFrame,
    PongFrame,
    close_payload,
    deflated_wire,
    encode,
    wire,
)
from tests.websocket.peer import decode, dribble, header, masked, plain, refused

MIXED = "κόσμε ☃ 🌊"


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 128, 65535, 65536, 65537])
def test_a_message_of_any_length_comes_back(size: int) -> None:
    data = b"x" * size
    assert decode(masked(Opcode.BINARY, data)) == ([("frame", data, True)], None)
    client = Decoder(MessageLimits(), server=False)
    assert plain(client.feed(wire(Frame(data)))) == [("frame", data, False)]


def test_control_frames_between_fragments_come_first() -> None:
    data = masked(1, b"a", fin=False) + masked(9, b"ping") + masked(0, b"b", fin=False) + masked(10) + masked(0, b"c")
    assert decode(data) == ([PingFrame(b"ping"), PongFrame(b""), ("frame", b"abc", False)], None)


def test_empty_fragments_are_a_message() -> None:
    data = masked(1, fin=False) + masked(0, fin=False) + masked(0)
    assert decode(data + data) == ([("frame", b"", False)] * 2, None)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(encode(Opcode.TEXT, b"hello"), id="not masked"),
        pytest.param(header(0xC1, 0), id="RSV1 without compression"),
        pytest.param(header(0xA1, 0), id="RSV2"),
        pytest.param(header(0x91, 0), id="RSV3"),
        pytest.param(header(0xC9, 0), id="RSV1 on a ping"),
        *[
            pytest.param(header(0x80 | opcode, 0), id=f"opcode {opcode}")
            for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)
        ],
        pytest.param(header(0x09, 0), id="a ping in fragments"),
        pytest.param(header(0x08, 0), id="a close in fragments"),
        pytest.param(header(0x89, 126, size=2), id="a ping of 126 bytes"),
        pytest.param(header(0x88, 65536, size=8), id="a close of 64 KiB"),
        pytest.param(masked(0, b"x"), id="a continuation of nothing"),
        pytest.param(masked(0, b"x", fin=False), id="fragments of nothing"),
        pytest.param(masked(1, b"x", fin=False) + masked(1, b"y"), id="a message inside a message"),
        pytest.param(masked(1, b"x", fin=False) + masked(2, b"y", fin=False), id="fragments inside a message"),
        pytest.param(masked(1, b"x") + masked(0, b"y"), id="a continuation of what ended"),
        pytest.param(header(0x82, 1 << 63, size=8), id="a length of 2^63"),
        pytest.param(header(0x82, (1 << 64) - 1, size=8), id="a length of 2^64-1"),
        pytest.param(masked(8, b"\x03"), id="a close code of one byte"),
    ],
)
@pytest.mark.parametrize("step", [1, 1000])
def test_a_broken_frame_is_a_protocol_error(data: bytes, step: int) -> None:
    decoder = Decoder(MessageLimits())
    dribble(decoder, data, step)
    assert decoder.error is not None
    assert decoder.error.code == 1002
    assert decoder.error.reason


def test_a_client_refuses_a_frame_that_is_masked() -> None:
    decoder = Decoder(MessageLimits(), server=False)
    assert decoder.feed(masked(1, b"x")) == []
    assert decoder.error is not None
    assert decoder.error.code == 1002


def test_compression_is_for_the_first_frame_of_a_message_only() -> None:
    started = masked(1, b"\xf2H", fin=False, rsv1=True)
    assert refused(started + header(0xC0, 0), deflate=True).code == 1002
    assert refused(header(0xC9, 0), deflate=True).code == 1002


def test_what_came_before_an_error_is_still_given() -> None:
    assert decode(masked(1, b"one") + masked(9, b"two") + b"\x83\x80" + masked(1, b"no")) == (
        [("frame", b"one", False), PingFrame(b"two")],
        1002,
    )


@pytest.mark.parametrize("data", [b"\xff", b"a\xc3", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80"])
def test_text_that_is_not_utf8_is_refused(data: bytes) -> None:
    assert decode(masked(1, data)) == ([], 1007)
    assert decode(masked(1, b"long enough " + data, fin=False) + masked(0, b"")) == ([], 1007)
    assert decode(masked(2, data)) == ([("frame", data, True)], None)


@pytest.mark.parametrize("at", range(len(MIXED.encode()) + 1))
def test_a_character_may_be_split_between_fragments(at: int) -> None:
    data = MIXED.encode()
    assert decode(masked(1, data[:at], fin=False) + masked(9) + masked(0, data[at:])) == (
        [PingFrame(b""), ("frame", data, False)],
        None,
    )


def test_text_that_cannot_become_utf8_is_refused_before_its_last_fragment() -> None:
    assert decode(masked(1, "κ".encode() + b"\xed\xa0", fin=False)) == ([], 1007)


def test_a_fresh_message_does_not_remember_half_a_character() -> None:
    assert decode(masked(1, b"\xe2\x98", fin=False) + masked(0, b"\x83") + masked(1, b"ok")) == (
        [("frame", "☃".encode(), False), ("frame", b"ok", False)],
        None,
    )


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 4999])
def test_a_close_frame_may_carry_a_code_that_is_registered_or_private(code: int) -> None:
    payload = code.to_bytes(2, "big") + MIXED.encode()
    assert decode(masked(8, payload)) == ([CloseFrame(code, MIXED)], None)


@pytest.mark.parametrize("code", [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535])
def test_a_close_frame_may_not_carry_any_other_code(code: int) -> None:
    assert decode(masked(8, code.to_bytes(2, "big"))) == ([], 1002)


def test_a_close_frame_may_be_empty() -> None:
    assert decode(masked(8)) == ([CloseFrame(None, "")], None)


def test_the_reason_of_a_close_is_utf8() -> None:
    assert decode(masked(8, b"\x03\xe8\xff")) == ([], 1007)


def test_what_follows_a_close_is_ignored() -> None:
    decoder = Decoder(MessageLimits())
    assert decoder.feed(masked(8, b"\x03\xe8") + masked(1, b"late") + b"\xff\xff") == [CloseFrame(1000, "")]
    assert decoder.feed(masked(1, b"later")) == []
    assert decoder.error is None


@pytest.mark.parametrize("reason", ["", "shutdown", "x" * 123, "x" * 124, "é" * 100, "x" + "🌊" * 50, "\ud800"])
def test_the_reason_that_we_give_fits_and_is_utf8(reason: str) -> None:
    payload = close_payload(1000, reason)
    assert len(payload) <= 125
    kept = payload[2:].decode()
    assert kept == reason[: len(kept)] or reason == "\ud800"
    assert len(kept.encode()) > 119 or len(kept) == len(reason)


@pytest.mark.parametrize("opcode", [Opcode.TEXT, Opcode.BINARY])
@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 128, 256, 65_535, 65_536])
def test_a_message_of_any_size_is_one_frame_as_the_rfc_has_it(size: int, opcode: Opcode) -> None:
    data = b"x" * size
    assert wire(Frame(data, opcode is Opcode.BINARY)) == encode(opcode, data)


def test_a_message_is_serialised_once_for_all_who_get_it() -> None:
    frame = Frame(b"x" * 500)
    assert wire(frame) is frame.wire
    assert deflated_wire(frame) is frame.deflated


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 1000, 100_000])
def test_a_compressed_message_comes_back(size: int, binary: bool) -> None:
    data = b"abcdefg" * (size // 7) + b"h" * (size % 7)
    client = Decoder(MessageLimits(), server=False, deflate=True)
    assert plain(client.feed(deflated_wire(Frame(data, binary)) * 2)) == [("frame", data, binary)] * 2


# ------------------------------------------------------------------------------------------------- a portion at a time

MANY = b"".join(
    [
        masked(1, b"text"),
        masked(9, b"ping"),
        masked(1, "é".encode(), fin=False),
        masked(10),
        masked(0, b"more"),
        masked(2, b"\xff" * 200),
        masked(1, b"x" * 70_000),
        masked(1, b"last"),
    ]
    * 3
)


@pytest.mark.parametrize("most", [1, 2, 3, 7])
@pytest.mark.parametrize("size", [1, 5, 1000, len(MANY)])
def test_events_come_so_many_at_a_time_and_none_is_lost_or_out_of_order(most: int, size: int) -> None:
    whole, decoder = Decoder(MessageLimits()).feed(MANY), Decoder(MessageLimits())
    events: list[Event] = []
    for start in range(0, len(MANY), size):
        portion = decoder.feed(MANY[start : start + size], most)
        assert len(portion) <= most
        events += portion
    while decoder.held:
        portion = decoder.feed(b"", most)
        assert len(portion) <= most
        events += portion
    assert plain(events) == plain(whole)
    assert decoder.error is None


def test_an_error_behind_what_is_held_comes_in_its_turn() -> None:
    decoder = Decoder(MessageLimits())
    assert len(decoder.feed(masked(1, b"1") * 3 + b"\xff\xff" + masked(1, b"2"), 2)) == 2
    assert (bool(decoder.held), decoder.error) == (True, None)
    assert len(decoder.feed(b"", 2)) == 1 or decoder.held
    while decoder.held:
        decoder.feed(b"", 2)
    assert decoder.error is not None
    assert decoder.feed(masked(1, b"3"), 2) == []


def test_compressed_messages_come_in_portions_of_what_they_become() -> None:
    decoder = Decoder(MessageLimits(), deflate=True)
    bomb = masked(1, compress(b"x" * 1_000_000), rsv1=True)
    assert len(decoder.feed(bomb * 5)) == 1
    assert (bool(decoder.held), decoder.cost) == (True, 1_000_000 // 1024)
    assert [len(decoder.feed(b"")) for _ in range(4)] == [1] * 4
    assert not decoder.held


def test_a_batch_is_the_messages_of_its_frames_put_together_once() -> None:
    frames = [Frame(b"one"), Frame(b"two" * 100, binary=True), Frame(b"three", tail=Frame(b"tail", binary=True))]
    batch = Batch(frames)
    assert wire(batch) == b"".join(wire(frame) for frame in frames)
    assert batch.wire == wire(batch)
    assert deflated_wire(batch) == b"".join(deflated_wire(frame) for frame in frames)
    assert batch.deflated == deflated_wire(batch)
