"""Engine.IO: packets come out of a body as they went in, and hostile bodies are refused."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freshet.dialects.socketio import engineio
from freshet.errors import Disconnect
from freshet.model.frame import Frame


@given(st.lists(st.binary(max_size=30) | st.text(st.characters(exclude_categories=["Cs"]), max_size=30), max_size=6))
def test_a_body_holds_packets_in_their_order(contents: list[Any]) -> None:
    given = [
        Frame(content, binary=True)
        if isinstance(content, bytes)
        else Frame(b"4" + content.replace("\x1e", "").encode())
        for content in contents
    ]
    if given:
        read_back = engineio.packets(engineio.body(given))
        assert [(frame.data, frame.binary) for frame in read_back] == [(frame.data, frame.binary) for frame in given]


@pytest.mark.parametrize("data", [b"", b"abc", b"b!", b"ba", b"4\xff", b"4a\x1e", b"7"])
def test_a_malformed_body_is_refused(data: bytes) -> None:
    with pytest.raises(Disconnect):
        list(engineio.packets(data))


@given(st.binary(max_size=200) | st.lists(st.binary(max_size=8), max_size=5).map(engineio.SEPARATOR.join))
def test_any_body_gives_packets_or_a_disconnect(data: bytes) -> None:
    with suppress(Disconnect):
        for packet in engineio.packets(data):
            assert packet.binary or packet.data[:1] in b"0123456"


def test_a_body_holds_any_number_of_packets_each_of_which_is_read_when_its_turn_comes() -> None:
    packets = engineio.packets(engineio.SEPARATOR.join([*[b"42"] * 100_000, b"no packet"]))
    assert [next(packets).data for _ in range(100_000)] == [b"42"] * 100_000
    with pytest.raises(Disconnect):
        next(packets)


def test_attachments_follow_their_packet_in_a_body() -> None:
    frame = Frame(b"452-[]", tail=Frame(b"a", binary=True, tail=Frame(b"\xff", binary=True)))
    assert engineio.packets_of(frame) == 3
    assert engineio.body([frame, Frame(b"2")]) == b"452-[]\x1ebYQ==\x1eb/w==\x1e2"


def test_the_opening_packet_has_its_times_in_milliseconds() -> None:
    frame = engineio.opening("sid", ["websocket"], 25.0, 20.5, 1_000_000)
    assert frame.data[:1] == b"0"
    assert json.loads(frame.data[1:]) == {
        "sid": "sid",
        "upgrades": ["websocket"],
        "pingInterval": 25_000,
        "pingTimeout": 20_500,
        "maxPayload": 1_000_000,
    }
