"""What all dialects share: what a payload is, and what a dialect does that says nothing of it."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from freshet.dialects.base import HEARTBEAT, Dialect, info_of, kind_of
from freshet.errors import Disconnect
from freshet.model.commands import Command
from freshet.model.events import Event, Published
from freshet.model.frame import Frame, Handshake
from freshet.model.log import ClientInfo, Kind, Publication
from tests.dialects.centrifuge.official import JSON_VALUES


class Plain(Dialect):
    """As little as a dialect can be."""

    name = "plain:one client"

    def receive(self, frame: Frame) -> list[Command]:
        raise Disconnect.bad_request()

    def encode(self, event: Event) -> Frame | None:
        return Frame(event.publication.data) if isinstance(event, Published) else None


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"{}", Kind.JSON),
        (b" 7 ", Kind.JSON),
        (b'"\\ud83d\\ude42"', Kind.JSON),
        (b'"\\ud83d"', Kind.JSON),
        (b'{"\\uDE42":1e999}', Kind.JSON),
        (b'"\\ud83', Kind.TEXT),
        (b"", Kind.TEXT),
        (b"plain", Kind.TEXT),
        (b"{}{}", Kind.TEXT),
        (b"NaN", Kind.TEXT),
        (b"\xef\xbb\xbf{}", Kind.TEXT),
        (b"\xff", Kind.BYTES),
        (b'"\xff"', Kind.BYTES),
        (b"\xed\xa0\x80", Kind.BYTES),
    ],
)
def test_bytes_are_what_they_can_be_read_as(data: bytes, kind: Kind) -> None:
    assert kind_of(data) == (kind, data)


@pytest.mark.parametrize("data", [b"[" * 100_000, b"[" * 5_000 + b"]" * 5_000])
def test_json_of_too_many_levels_is_for_the_caller_to_refuse(data: bytes) -> None:
    with pytest.raises(RecursionError):
        kind_of(data)


@given(value=JSON_VALUES, indent=st.sampled_from([None, 0, 2]))
def test_json_is_passed_on_in_one_line(value: Any, indent: int | None) -> None:
    kind, data = kind_of(json.dumps(value, indent=indent).encode())
    assert kind is Kind.JSON
    assert b"\n" not in data
    assert json.loads(data) == value


@given(st.binary(max_size=40))
def test_what_is_no_json_is_passed_on_as_it_was(data: bytes) -> None:
    kind, passed = kind_of(data)
    if kind is not Kind.JSON:
        assert passed == data
    assert (kind is Kind.BYTES) is (data.decode(errors="replace").encode() != data)


def test_who_a_client_is_leaves_out_what_is_empty() -> None:
    assert info_of(ClientInfo("", "c")) == {"user": "", "client": "c"}
    full = ClientInfo("u", "c", msgspec.Raw(b"1"), msgspec.Raw(b"2"))
    assert msgspec.json.encode(info_of(full)) == b'{"user":"u","client":"c","conn_info":1,"chan_info":2}'


def test_a_dialect_has_defaults_for_what_its_protocol_does_not_have() -> None:
    dialect, frames = Plain(), [Frame(b"a"), Frame(b"b")]
    assert dialect.label == "plain"
    assert dialect.opened(Handshake("/")) == []
    assert dialect.join(frames) is frames
    published = Published("a", Publication(b"x", 2))
    after = dialect.encode_after(published, Publication(b"w", 1))
    assert after is not None
    assert after.data == b"x"
    assert (dialect.has_presence, dialect.replays_in_reply, dialect.has_heartbeat, dialect.in_order) == (
        *(True, True, True),
        False,
    )


def test_the_heartbeat_of_a_websocket_is_a_ping_without_a_payload() -> None:
    assert HEARTBEAT.wire == HEARTBEAT.deflated == bytes([0x80 | 0x9, 0])
