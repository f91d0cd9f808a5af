"""permessage-deflate: what is negotiated, what it costs at most, and what is not deflate data."""

import random
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freshet.model.frame import Frame
from freshet.websocket.deflate import LONGEST, WINDOW, Oversize, compress, inflate, negotiate
from freshet.websocket.frames import Decoder, MessageLimits, deflated_wire, wire
from tests.websocket.peer import decode, masked, refused

ANSWER = b"permessage-deflate; server_no_context_takeover; client_no_context_takeover"
MIB = 1024 * 1024


# ------------------------------------------------------------------------------------------------------- the handshake


@pytest.mark.parametrize(
    "offers",
    [
        b"permessage-deflate",
        b"Permessage-Deflate",
        b"permessage-deflate; client_max_window_bits",
        b'permessage-deflate; client_max_window_bits="15"',
        b"permessage-deflate;client_max_window_bits=8",
        b"permessage-deflate ;\tclient_no_context_takeover ; server_no_context_takeover",
        b"x-webkit-deflate-frame, permessage-deflate",
        b"bbf-usp-protocol; a=b; c, permessage-deflate; client_max_window_bits",
    ],
)
def test_an_offer_is_answered_without_context_takeover_for_either_side(offers: bytes) -> None:
    assert negotiate(offers) == ANSWER


@pytest.mark.parametrize("bits", range(WINDOW, 16))
def test_a_window_that_is_large_enough_is_confirmed_with_the_one_that_is_used(bits: int) -> None:
    offers = b"permessage-deflate; server_max_window_bits=%d; client_max_window_bits=%d" % (bits, bits)
    assert negotiate(offers) == ANSWER + b"; server_max_window_bits=%d" % WINDOW


@pytest.mark.parametrize(
    "parameters",
    [
        b"server_max_window_bits",
        b"server_max_window_bits=7",
        b"server_max_window_bits=8",
        b"server_max_window_bits=16",
        b"server_max_window_bits=012",
        b"server_max_window_bits=1e1",
        b"server_max_window_bits=-9",
        b"client_max_window_bits=7",
        b"client_max_window_bits=16",
        b"client_max_window_bits=08",
        b"client_no_context_takeover=1",
        b"server_no_context_takeover=1",
        b"server_no_context_takeover; server_no_context_takeover",
        b"client_max_window_bits; client_max_window_bits=10",
        b"mystery",
        b"mystery=1",
    ],
)
def test_an_offer_that_cannot_be_met_is_declined_and_the_next_is_tried(parameters: bytes) -> None:
    offer = b"permessage-deflate; " + parameters
    assert negotiate(offer) is None
    assert negotiate(offer + b", permessage-deflate") == ANSWER


@pytest.mark.parametrize(
    "offers",
    [
        b"",
        b",",
        b"permessage-deflate,",
        b"permessage-deflate;",
        b"permessage-deflate; ; client_max_window_bits",
        b"permessage-deflate; client_max_window_bits=",
        b'permessage-deflate; client_max_window_bits="10',
        b"permessage-deflate client_max_window_bits",
        b'other; quoted="a, permessage-deflate, b"',
        b"permessage-deflate\x0b",
        b"permessage-deflate\x85",
        b"permessage-deflate\xff",
        b"permessage-deflate, " + b"x" * LONGEST,
    ],
)
def test_a_header_that_is_not_well_formed_means_no_compression(offers: bytes) -> None:
    assert negotiate(offers) is None


@given(st.lists(st.sampled_from([b"permessage-deflate", b";", b",", b"=", b'"', b" ", b"10", b"\xff", b"a"])))
def test_any_offer_has_an_answer_or_none(pieces: list[bytes]) -> None:
    answer = negotiate(b"".join(pieces))
    assert answer is None or answer.startswith(ANSWER)


# ------------------------------------------------------------------------------------------------------------ messages


@given(st.binary(max_size=5000), st.integers(1, 50))
def test_what_was_compressed_is_inflated(data: bytes, times: int) -> None:
    assert inflate(compress(data * times), len(data) * times) == data * times


@pytest.mark.parametrize("size", [5000, 100_000])
def test_a_client_that_asked_for_our_window_can_read_what_we_send(size: int) -> None:
    words = random.Random(7).choices([b"alpha", b"beta", b"gamma", b"delta"], k=size)
    data = b" ".join(words)
    assert zlib.decompressobj(-WINDOW).decompress(compress(data) + b"\x00\x00\xff\xff") == data


# RFC 7692, 7.2.3: its own examples of one message.
@pytest.mark.parametrize(
    "payload",
    [
        pytest.param("f248cdc9c90700", id="7.2.3.1 one block"),
        pytest.param("000500faff48656c6c6f00", id="7.2.3.3 a block without compression"),
        pytest.param("f348cdc9c9070000", id="7.2.3.4 a final block"),
        pytest.param("f248050000 00ffff cac9c90700", id="7.2.3.5 two blocks"),
    ],
)
def test_each_form_of_a_message_is_inflated(payload: str) -> None:
    data = bytes.fromhex(payload)
    for at in range(len(data) + 1):
        frames = masked(1, data[:at], fin=False, rsv1=True) + masked(0, data[at:])
        assert decode(frames, deflate=True) == ([("frame", b"Hello", False)], None)


def test_no_context_is_taken_over_from_one_message_to_the_next() -> None:
    # RFC 7692, 7.2.3.2: the second "Hello" of a client that took the context over.
    second = bytes.fromhex("f200110000")
    first = bytes.fromhex("f248cdc9c90700")
    assert decode(masked(1, first, rsv1=True) + masked(1, second, rsv1=True), deflate=True) == (
        [("frame", b"Hello", False)],
        1007,
    )


@pytest.mark.parametrize("payload", [b"", b"\x00"])
def test_an_empty_message_may_be_compressed(payload: bytes) -> None:
    assert decode(masked(1, payload, rsv1=True), deflate=True) == ([("frame", b"", False)], None)


def test_a_message_that_is_not_compressed_goes_through_beside_those_that_are() -> None:
    frames = masked(1, b"plain") + masked(2, compress(b"small"), rsv1=True) + masked(1, b"plain")
    expected = [("frame", b"plain", False), ("frame", b"small", True), ("frame", b"plain", False)]
    assert decode(frames, deflate=True) == (expected, None)


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"\xff" * 20, id="no block"),
        pytest.param(b"\x00\x64\x00\x9b\xffabc", id="a block that does not end"),
        pytest.param(compress(b"hello, hello, hello")[:-4], id="cut off"),
        pytest.param(bytes.fromhex("f348cdc9c907") + b"more", id="more after the final block"),
    ],
)
def test_what_is_not_deflate_data_is_refused(payload: bytes) -> None:
    assert refused(masked(2, payload, rsv1=True), deflate=True).code == 1007


def test_compressed_text_has_to_be_utf8() -> None:
    assert refused(masked(1, compress(b"\xed\xa0\x80" * 30), rsv1=True), deflate=True).code == 1007


@pytest.mark.parametrize(("over", "code"), [(0, None), (1, 1009)])
def test_the_limit_of_a_message_holds_for_what_it_inflates_to(over: int, code: int | None) -> None:
    data = b"x" * (1000 + over)
    limits = MessageLimits(frame=1000, message=1000)
    assert decode(masked(2, compress(data), rsv1=True), limits, deflate=True)[1] == code


def test_a_bomb_costs_no_more_memory_than_the_limit() -> None:
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = b"".join(deflater.compress(bytes(MIB)) for _ in range(64)) + deflater.flush(zlib.Z_SYNC_FLUSH)[:-4]
    assert len(bomb) < 66_000
    frame = masked(2, bomb, rsv1=True)
    limits = MessageLimits(frame=MIB // 4, message=MIB // 4)
    decoder = Decoder(limits, deflate=True)
    tracemalloc.start()
    try:
        assert decoder.feed(frame) == []
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert decoder.error is not None
    assert decoder.error.code == 1009
    assert peak < 4 * limits.message
    with pytest.raises(Oversize):
        inflate(bomb, 1000)


def test_the_text_of_a_bomb_in_fragments_is_not_inflated_before_its_end() -> None:
    bomb = compress(bytes(MIB))
    decoder = Decoder(MessageLimits(), deflate=True)
    assert decoder.feed(masked(1, bomb, fin=False, rsv1=True)) == []
    assert decoder.error is None


def test_what_does_not_get_smaller_is_sent_as_it_is() -> None:
    for data in (b"tiny " * 5, random.Random(7).randbytes(500)):
        frame = Frame(data, binary=True)
        assert deflated_wire(frame) == wire(frame)
    frame = Frame(b"repeat " * 50)
    assert len(deflated_wire(frame)) < len(wire(frame)) // 4
