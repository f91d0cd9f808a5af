"""What a peer can make us keep, and how much work: never more than its limits, however it cuts its bytes."""

import tracemalloc
from collections.abc import Callable

import pytest

from freshet.config import Limits as Options
from freshet.websocket import frames
from freshet.websocket.frames import KIB, MIB, Decoder, MessageLimits, Opcode, PingFrame, PongFrame
from tests.websocket.peer import decode, dribble, header, masked, pinned, plain, refused

LIMITS = MessageLimits(frame=64 * KIB, message=64 * KIB, fragments=1024)
COUNTERS = 64  # bytes of numbers that a decoder counts with
OBJECTS = 2 * KIB  # bytes: the decoder itself and what it needs to wait


def size_after(data: bytes, step: int, limits: MessageLimits = LIMITS, *, deflate: bool = False) -> int:
    """The most that a decoder kept while `data` came in pieces of `step` bytes."""
    decoder = Decoder(limits, deflate=deflate)
    most = 0
    for at in range(0, len(data), step):
        decoder.feed(data[at : at + step])
        if at % (64 * step) == 0:
            most = max(most, pinned(decoder))
    return max(most, pinned(decoder))


def peak_of(action: Callable[[], object]) -> int:
    """Bytes that Python allocated, at most, beyond what there was."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        action()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


# ------------------------------------------------------------------------------------------------------------ at rest


@pytest.mark.parametrize(
    "data",
    [
        b"",
        masked(1, b"x" * 50_000),
        masked(1, b"x" * 30_000, fin=False) + masked(0, b"y" * 30_000),
        masked(9, b"x" * 125),
    ],
)
@pytest.mark.parametrize("step", [7, 4096, 100_000])
def test_a_decoder_that_waits_for_nothing_holds_nothing(data: bytes, step: int) -> None:
    decoder = Decoder(LIMITS)
    dribble(decoder, data, step)
    assert pinned(decoder) <= pinned(Decoder(LIMITS)) + COUNTERS


@pytest.mark.parametrize(
    "end", [pytest.param(b"\xff\xff", id="error"), pytest.param(masked(8, b"\x03\xe8"), id="close")]
)
def test_what_was_half_received_is_let_go_at_the_end(end: bytes) -> None:
    decoder = Decoder(LIMITS)
    dribble(decoder, masked(2, b"x" * 60_000, fin=False), 1000)
    assert pinned(decoder) > 60_000
    decoder.feed(end)
    assert pinned(decoder) < OBJECTS


# ------------------------------------------------------------------------------------------------------------ oversize


@pytest.mark.parametrize("first", [0x81, 0x82, 0x01, 0x02])
@pytest.mark.parametrize(("length", "size"), [(64 * KIB + 1, 8), (10_000_000, 8), ((1 << 63) - 1, 8)])
def test_a_length_beyond_the_limit_is_refused_before_any_payload(first: int, length: int, size: int) -> None:
    assert refused(header(first, length, size=size), LIMITS).code == 1009


def test_a_length_of_16_bits_is_held_to_the_limit_too() -> None:
    assert refused(header(0x82, 1001, size=2), MessageLimits(frame=1000, message=5000)).code == 1009


@pytest.mark.parametrize("step", [1, 5, 100_000])
@pytest.mark.parametrize(("over", "code"), [(-1, None), (0, None), (1, 1009)])
def test_a_limit_allows_itself_and_no_more(over: int, code: int | None, step: int) -> None:
    limits = MessageLimits(frame=200, message=300, fragments=10)
    whole = masked(2, b"x" * (200 + over))
    parts = masked(2, b"x" * 150, fin=False) + masked(0, b"x" * (150 + over))
    for data in (whole, parts):
        decoder = Decoder(limits)
        events = dribble(decoder, data, step)
        assert (decoder.error.code if decoder.error else None) == code
        assert len(events) == (code is None)


def test_a_limit_of_nothing_allows_the_empty_message_alone() -> None:
    limits = MessageLimits(frame=0, message=0, fragments=1)
    assert decode(masked(1), limits) == ([("frame", b"", False)], None)
    assert refused(masked(1, b"x"), limits).code == 1009


def test_a_limit_counts_a_message_through_the_control_frames_in_it() -> None:
    data = masked(2, b"x" * 200, fin=False) + masked(10, b"pong") + masked(0, b"x" * 200)
    assert decode(data, MessageLimits(frame=300, message=300)) == ([PongFrame(b"pong")], 1009)


def test_a_message_starts_to_count_from_nothing() -> None:
    message = masked(2, b"x" * 150, fin=False) + masked(0, b"x" * 150)
    events, code = decode(message * 5, MessageLimits(frame=200, message=300, fragments=2))
    assert len(events) == 5
    assert code is None


def test_the_default_limits_of_a_server_are_limits() -> None:
    """A default of 0 or None would mean no limit in other servers."""
    assert 0 < Options().message_size <= 16 * MIB
    assert 0 < Options().fragments <= 64 * KIB
    assert refused(header(0x82, 1 * MIB + 1, size=8), MessageLimits()).code == 1009


# ------------------------------------------------------------------------------------------------------------- dribble


@pytest.mark.parametrize("step", [1, 2, 13, 1000])
@pytest.mark.parametrize("first", [0x81, 0x82, 0x02])
def test_a_frame_that_comes_in_drops_costs_no_more_than_twice_its_limit(first: int, step: int) -> None:
    data = header(first, 64 * KIB, size=8) + b"\x37" * (64 * KIB - 1)
    assert size_after(data, step) <= 2 * LIMITS.message + OBJECTS


def test_a_compressed_frame_that_comes_in_drops_costs_no_more_either() -> None:
    data = header(0x42, 64 * KIB, size=8) + bytes(64 * KIB - 1)
    assert size_after(data, 1, deflate=True) <= 2 * LIMITS.message + OBJECTS


def test_a_length_that_is_only_declared_costs_nothing() -> None:
    limits = MessageLimits(frame=1024 * MIB, message=1024 * MIB)
    assert peak_of(lambda: Decoder(limits).feed(header(0x82, 1000 * MIB, size=8) + b"x" * 100)) < 64 * KIB


@pytest.mark.parametrize("size", [20_000, 40_000])
def test_each_byte_of_a_frame_in_drops_is_unmasked_once(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Work is counted, not timed: a decoder that began anew with each drop would unmask size * size / 2 bytes."""
    done = 0
    original = frames.mask_bytes

    def counting(data: bytes, mask: bytes) -> bytes:
        nonlocal done
        done += len(data)
        return original(data, mask)

    data = masked(1, b"x" * size, fin=False) + masked(9, b"p" * 100) + masked(0, b"y" * size)
    monkeypatch.setattr(frames, "mask_bytes", counting)
    assert len(dribble(Decoder(MessageLimits()), data)) == 2
    assert done == 2 * size + 100


def test_many_messages_in_one_read_are_taken_without_copying_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder that cut the buffer after each message would allocate far more than the messages."""
    count = 10_000
    data = masked(2, b"x" * 10) * count
    decoder = Decoder(MessageLimits())
    assert peak_of(lambda: decoder.feed(data)) < count * 400
    assert pinned(decoder) < OBJECTS


# -------------------------------------------------------------------------------------------------------------- floods


@pytest.mark.parametrize("payload", [b"", b"x", b"xy"])
@pytest.mark.parametrize("step", [1, 7, 4096])
def test_a_flood_of_fragments_ends_at_their_count(payload: bytes, step: int) -> None:
    decoder = Decoder(LIMITS)
    data = masked(2, payload, fin=False) + masked(0, payload, fin=False) * 131_000
    for at in range(0, len(data), step):
        decoder.feed(data[at : at + step])
        if decoder.error is not None:
            break
    assert decoder.error is not None
    assert decoder.error.code == 1009
    assert at <= (LIMITS.fragments + 1) * (6 + len(payload)) + step
    assert pinned(decoder) < OBJECTS


@pytest.mark.parametrize(("more", "code"), [(0, None), (1, 1009)])
def test_the_count_of_fragments_allows_itself_and_no_more(more: int, code: int | None) -> None:
    data = masked(1, b"a", fin=False) + masked(0, b"b", fin=False) * (8 + more) + masked(0, b"c")
    events, error = decode(data, MessageLimits(fragments=10))
    assert error == code
    assert len(events) == (code is None)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_tiny_fragments_cost_their_bytes_and_not_an_object_each(size: int) -> None:
    limits = MessageLimits(frame=64 * KIB, message=64 * KIB, fragments=64 * KIB)
    count = 20_000
    data = masked(2, b"x" * size, fin=False) + masked(0, bytes(range(size)), fin=False) * (count - 1)
    assert size_after(data, 60_000, limits) <= 2 * count * size + OBJECTS


def test_control_frames_in_an_unfinished_message_leave_nothing_behind() -> None:
    decoder = Decoder(LIMITS)
    decoder.feed(masked(1, b"begun", fin=False))
    before = pinned(decoder)
    for _ in range(1000):
        assert decoder.feed(masked(9, b"a") + masked(10, b"b") * 9) == [PingFrame(b"a"), *[PongFrame(b"b")] * 9]
    assert pinned(decoder) == before
    assert plain(decoder.feed(masked(0, b"!"))) == [("frame", b"begun!", False)]


def test_a_control_frame_in_drops_holds_its_own_bytes() -> None:
    decoder = Decoder(LIMITS)
    decoder.feed(masked(Opcode.PING, b"x" * 125)[:-1])
    assert pinned(decoder) < OBJECTS
