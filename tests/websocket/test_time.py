"""The time that a decoder takes is in proportion to the bytes, whatever they are and however they come."""

from collections.abc import Callable

import pytest

from freshet.websocket.deflate import compress, inflate, negotiate
from freshet.websocket.frames import MIB, Decoder, MessageLimits
from tests.tools.cost import assert_linear
from tests.websocket.peer import dribble, header, masked

LIMITS = MessageLimits(frame=16 * MIB, message=16 * MIB, fragments=1 << 20)

STREAMS: dict[str, Callable[[int], bytes]] = {
    "small messages": lambda count: masked(1, b"x" * 10) * count,
    "empty messages": lambda count: masked(2) * count,
    "messages in two fragments": lambda count: (masked(1, b"x", fin=False) + masked(0, b"x")) * count,
    "pings": lambda count: masked(9, b"x" * 125) * count,
    "fragments of one message": lambda count: masked(1, b"x", fin=False) + masked(0, b"x", fin=False) * count,
    "empty fragments": lambda count: masked(2, b"", fin=False) + masked(0, b"", fin=False) * count,
    "pings within a message": lambda count: masked(2, b"x", fin=False) + masked(9) * count + masked(0),
    "a message that does not end": lambda count: header(0x81, 10 * count, size=8) + b"\x37" * (9 * count),
    "half characters": lambda count: masked(1, b"\xe2", fin=False) + (masked(0, b"\x98\x83\xe2", fin=False)) * count,
}


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("step", [1, 50, 64 * 1024, 16 * MIB])
def test_a_stream_takes_time_in_proportion_to_its_length(stream: str, step: int) -> None:
    def prepared(count: int) -> Callable[[], object]:
        data = STREAMS[stream](count)
        return lambda: dribble(Decoder(LIMITS), data, step)

    assert_linear(prepared, 200 if step == 1 else 1500)


def test_a_compressed_message_takes_time_in_proportion_to_what_it_inflates_to() -> None:
    def prepared(count: int) -> Callable[[], object]:
        data = compress(b"all the same " * count)
        return lambda: inflate(data, 16 * MIB)

    assert_linear(prepared, 10_000)


@pytest.mark.parametrize("piece", [b" ", b"\t;", b"a;", b"permessage-deflate,", b"a=", b'"', b"a;a=a,", b'a;a="a'])
def test_an_offer_of_compression_takes_time_in_proportion_to_its_length(piece: bytes) -> None:
    assert_linear(lambda count: lambda: negotiate((piece * count)[:4000] + b"\xff"), 500 // len(piece))
