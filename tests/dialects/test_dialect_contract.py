"""Both dialects keep the contract; and what is said of their lines beyond it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freshet.dialects.base import Dialect, kind_of
from freshet.dialects.centrifuge.json import COMMANDS_PER_FRAME, Centrifuge
from freshet.dialects.channel_url import ChannelEvents, ChannelPage, ChannelUrl
from freshet.errors import Disconnect
from freshet.model.commands import Connect, Ping, Pong, Publish, Send, Subscribe
from freshet.model.events import Acknowledged, Emitted, Published, Refused, Subscribed
from freshet.model.frame import Frame, Handshake
from freshet.model.log import Kind, Position, Publication
from tests.contracts.dialect import *  # noqa: F403 - the contract's tests are this module's
from tests.contracts.dialect import EVENTS, HOSTILE

WORDS = [event for event in EVENTS if not isinstance(event, Acknowledged | Emitted)]  # those are Socket.IO's
CENTRIFUGE = [
    b'{"id":1,"connect":{"token":"t","data":{"a":[1]},"subs":{"a":{"recover":true,"epoch":"e","offset":3}}}}',
    b'{"id":2,"subscribe":{"channel":"a","recover":true,"epoch":"e","offset":7,"flag":3}}',
    b'{"id":3,"unsubscribe":{"channel":"a"}}',
    b'{"id":4,"publish":{"channel":"a","data":{"text":"\xc3\xa9"}}}',
    b'{"id":5,"presence":{"channel":"a"}}',
    b'{"id":6,"presence_stats":{"channel":"a"}}',
    b'{"id":7,"history":{"channel":"a","limit":-1,"since":{"offset":3,"epoch":"e"},"reverse":true}}',
    b'{"id":8,"ping":{}}',
    b'{"send":{"data":{"a":1}}}',
    b'{"id":9,"rpc":{"method":"m","data":null}}',
    b'{"id":10,"refresh":{"token":"t"}}',
    b'{"id":11,"sub_refresh":{"channel":"a","token":"t"}}',
    b"{}",
]
CHANNEL_URL = [b'{"a": 1}', b"plain text", b"", b'{\n"a": 1\n}', "é".encode()]

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    # Half a surrogate pair is no text: it has no UTF-8.
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)


DIALECTS = {
    "centrifuge": (Centrifuge(), CENTRIFUGE),
    "channel_url": (ChannelUrl("room:a"), CHANNEL_URL),
    "channel_events": (ChannelEvents(["room:a"]), []),
    "channels_events": (ChannelEvents(["a", "b"]), []),
    "channel_page": (ChannelPage("room:a"), []),
}


@pytest.fixture(params=DIALECTS)
def dialect(request: pytest.FixtureRequest) -> Dialect:
    return DIALECTS[request.param][0]


@pytest.fixture
def valid(dialect: Dialect) -> list[bytes]:
    return next(valid for it, valid in DIALECTS.values() if it is dialect)


def line(event: Any) -> Any:
    """What a client reads of one event."""
    frame = Centrifuge().encode(event)
    assert frame is not None
    assert b"\n" not in frame.data
    assert not frame.binary
    return json.loads(frame.data)


@pytest.mark.parametrize("event", WORDS, ids=lambda event: type(event).__name__)
def test_every_event_is_one_line_of_json(event: Any) -> None:
    assert isinstance(line(event), dict)


@given(value=json_values, channel=st.text(st.characters(exclude_categories=["Cs"])), offset=st.integers(0, 2**60))
def test_a_publication_reaches_the_reader_as_it_was(value: Any, channel: str, offset: int) -> None:
    told = line(Published(channel, Publication(json.dumps(value).encode(), offset)))["push"]
    assert told["channel"] == channel
    assert told["pub"].get("offset", 0) == offset
    assert told["pub"]["data"] == value


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_text_that_is_no_json_becomes_a_string(text: str) -> None:
    assert line(Published("a", Publication(text.encode(), 1, Kind.TEXT)))["push"]["pub"]["data"] == text


def test_a_line_that_is_taken_for_json_can_be_read_by_every_client() -> None:
    """Payloads are passed on unread: what is no JSON, or no UTF-8, would end everyone who gets it."""
    for data in HOSTILE:
        try:
            [command] = Centrifuge().receive(Frame(b'{"id":1,"publish":{"channel":"a","data":%b}}' % data))
        except (Disconnect, ValueError):
            continue
        assert isinstance(command, Publish)
        assert b"\n" not in command.data
        command.data.decode()


@given(st.text(max_size=60) | json_values.map(lambda value: json.dumps(value, indent=1)))
def test_a_frame_for_a_channel_is_json_in_one_line_or_what_it_was(text: str) -> None:
    frame = Frame(text.encode(errors="replace"))
    [command] = ChannelUrl("a").receive(frame)
    assert isinstance(command, Publish)
    if command.kind is Kind.JSON:
        assert b"\n" not in command.data
        assert json.loads(command.data) == json.loads(frame.data)
    else:
        assert (command.kind, command.data) == (Kind.TEXT, frame.data)


def test_bytes_stay_bytes_even_if_they_look_like_json() -> None:
    assert kind_of(b"\xff") == (Kind.BYTES, b"\xff")
    [command] = ChannelUrl("a").receive(Frame(b"{}", binary=True))
    assert command == Publish("a", b"{}", 3, Kind.BYTES)


def test_lines_of_one_frame_are_commands_in_their_order() -> None:
    commands = Centrifuge().receive(Frame(b'{"id":1,"connect":{}}\n\n{"id":2,"ping":{}}\n{}\n'))
    assert commands == [Connect(1), Ping(2), Pong()]


@pytest.mark.parametrize("count", [COMMANDS_PER_FRAME, COMMANDS_PER_FRAME + 1])
def test_a_frame_holds_a_limited_number_of_commands(count: int) -> None:
    frame = Frame(b"\n".join([b"{}"] * count))
    if count <= COMMANDS_PER_FRAME:
        assert len(Centrifuge().receive(frame)) == count
    else:
        with pytest.raises(Disconnect, match="1 to 1024"):
            Centrifuge().receive(frame)


@pytest.mark.parametrize("id", ["0", "-1", "4294967296", "1.5", '"1"', "true", "[]"])
def test_a_command_that_wants_a_reply_has_an_id_in_the_range_of_the_protocol(id: str) -> None:
    for command in ('"connect":{}', '"subscribe":{"channel":"a"}', '"rpc":{}', '"ping":{}'):
        with pytest.raises(Disconnect) as why:
            Centrifuge().receive(Frame(f'{{"id":{id},{command}}}'.encode()))
        assert why.value.code == 3501


def test_a_client_says_where_it_stands_and_what_it_wants_otherwise() -> None:
    [command] = Centrifuge().receive(Frame(CENTRIFUGE[1]))
    assert command == Subscribe("a", 2, recover=Position("e", 7), or_refuse=True)
    [command] = Centrifuge().receive(Frame(CENTRIFUGE[8]))
    assert command == Send(b'{"a":1}')


@pytest.mark.parametrize(
    ("since", "position"),
    [("e:0", Position("e", 0)), ("a:b:12", Position("a:b", 12)), (":5", Position("", 5)), ("", None)],
)
def test_a_url_says_where_its_reader_stands(since: str, position: Position | None) -> None:
    for request in (Handshake("", query={"since": since}), Handshake("", headers={"last-event-id": since})):
        assert ChannelUrl("a").opened(request)[1] == Subscribe("a", 2, recover=position)


@pytest.mark.parametrize("since", ["5", "e:", "e:-1", "e:x", "e:٣", "e:1.0", "e:" + "9" * 20, ":", "e:1 "])
def test_a_place_that_cannot_be_ends_the_session(since: str) -> None:
    with pytest.raises(Disconnect) as why:
        ChannelUrl("a").opened(Handshake("", query={"since": since}))
    assert why.value.code == 3501


@pytest.mark.parametrize(
    ("refused", "code"),
    [
        (Refused(1, 103, "no"), 4603),
        (Refused(1, 100, "later", temporary=True), 4100),
        (Refused(1, 4294967295, "far"), 4999),
        (Refused(1, 5000, "far, later", temporary=True), 4499),
    ],
)
def test_on_a_channels_url_a_refusal_ends_the_session_within_the_range_of_its_sort(refused: Refused, code: int) -> None:
    with pytest.raises(Disconnect) as why:
        ChannelUrl("a").encode(refused)
    assert why.value.code == code
    assert why.value.reconnect is refused.temporary


def test_on_a_channels_url_a_loss_is_told_by_the_end() -> None:
    assert ChannelUrl("a").encode(Subscribed("a", 2, recovered=True)) is None
    with pytest.raises(Disconnect) as why:
        ChannelUrl("a").encode(Subscribed("a", 2, recovered=False))
    assert not why.value.reconnect
