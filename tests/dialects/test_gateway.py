"""The gateway's dialect: messages as they are, both ways."""

import pytest

from freshet.dialects.base import HEARTBEAT
from freshet.dialects.gateway import ClientMessage, GatewayMessages, Posted
from freshet.model.events import Heartbeat, Message, Published, Refused
from freshet.model.frame import Frame
from freshet.model.log import Kind, Publication
from tests.contracts.dialect import *  # noqa: F403 - the contract's tests are this module's


@pytest.fixture
def dialect() -> GatewayMessages:
    return GatewayMessages()


@pytest.fixture
def valid() -> list[bytes]:
    return [b'{"action":"send"}', b"no JSON", b""]


def test_each_frame_is_a_message(dialect: GatewayMessages, valid: list[bytes]) -> None:
    frames = [*map(Frame, valid), Frame(b"\x00\xff", binary=True)]
    assert [dialect.receive(frame) for frame in frames] == [[ClientMessage(it.data, it.binary)] for it in frames]


def test_what_is_sent_and_published_goes_out_without_an_envelope(dialect: GatewayMessages) -> None:
    cases = [
        (Posted(b"text"), b"text", False),
        (Posted(b"\xff", binary=True), b"\xff", True),
        (Published("a", Publication(b"[1]", 3)), b"[1]", False),
        (Published("a", Publication(b"\xff", 4, Kind.BYTES)), b"\xff", True),
        (Refused(1, 111, "too many requests"), b'{"message":"too many requests"}', False),
    ]
    for event, data, binary in cases:
        frame = dialect.encode(event)
        assert frame is not None
        assert (frame.data, frame.binary) == (data, binary)
    assert dialect.encode(Heartbeat()) is HEARTBEAT
    assert dialect.encode(Message(b"1")) is None
