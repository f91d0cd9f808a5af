"""What every client protocol has to do, whatever the bytes.

A test module for a dialect gives the fixtures `dialect` and `valid`, frames that a client of it sends, and imports all
of this.
"""

from typing import get_args

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from freshet.dialects.base import HEARTBEAT, Dialect
from freshet.dialects.durable import StreamAnswered, StreamPage
from freshet.dialects.gateway import Posted
from freshet.dialects.socketio.packets import Acknowledged, Emitted, NamespaceConnected
from freshet.errors import Disconnect
from freshet.model.commands import Command as AnyCommand
from freshet.model.events import (
    Accepted,
    Alive,
    Answer,
    Connected,
    Delivery,
    Disconnected,
    Event,
    Heartbeat,
    HistoryPage,
    Joined,
    Left,
    Message,
    PresenceList,
    PresenceStats,
    Published,
    Refreshed,
    Refused,
    Subscribed,
    SubscriptionRefreshed,
    Unsubscribed,
    Unsubscription,
)
from freshet.model.frame import Frame, Handshake
from freshet.model.log import ClientInfo, Kind, Position, Publication, Stream

ALICE = ClientInfo("alice", "a1", msgspec.Raw(b'{"name":"Alice"}'), msgspec.Raw(b"7"))
PLAIN = Publication(b'{"price":1}', 3)
FULL = Publication(b"[1]", 4, tags={"event": "price"}, info=ALICE)
TEXT = Publication('two\nlines, "quoted", \u2028'.encode(), 5, Kind.TEXT)
BYTES = Publication(b"\x00\n\xff", 6, Kind.BYTES)
HERE = Position("epoch", 6)

EVENTS: list[Event] = [
    *(Published("a", publication) for publication in (PLAIN, FULL, TEXT, BYTES, Publication(b"null"))),
    Joined("a", ALICE),
    Left("a", ClientInfo("", "b1")),
    Subscribed("a", 1),
    Subscribed("a", 0, HERE, recoverable=True),
    Subscribed("a", 1, HERE, True, True, [PLAIN, FULL, TEXT, BYTES], 60, b'{"welcome":true}'),
    Subscribed("a", 1, HERE, True, False),
    Connected(1, "c1", 25),
    NamespaceConnected(1, "c1", 25, pid="p1"),
    Connected(1, "c1", 25, 60, b'{"hello":1}', [Subscribed("#alice", 0, HERE, True, True, [PLAIN])]),
    Unsubscribed("a"),
    Unsubscribed("a", 2501, 'a "reason"\nin two lines'),
    Unsubscription(1),
    Accepted(1, HERE),
    HistoryPage(1, Stream([PLAIN, FULL, TEXT, BYTES], HERE)),
    PresenceList(1, {"a1": ALICE}),
    PresenceStats(1, 2, 1),
    Answer(1, b'{"ok":true}'),
    Answer(1, b""),
    Refreshed(1, "c1", None),
    SubscriptionRefreshed(1, 60),
    Alive(1),
    Refused(1, 100, "internal server error", temporary=True),
    Refused(1, 4294967295, 'a "reason"\nin two lines'),
    Message(b'{"news":1}'),
    Emitted("price", [1, {"a": [b"\x00"]}]),
    Emitted("confirm", [], 1),
    Disconnected(3001, "shutdown"),
    Acknowledged(1, [b"\xff", None, "two\nlines"]),
    Heartbeat(),
    Posted(b"as it is"),
    Posted(b"\x00\xff", binary=True),
]
EVENTS_OF_ENDPOINTS: list[Event] = [  # for dialects of their own
    StreamAnswered(None),
    StreamPage("application/json", True, True, [b"1"], 0, 1, "1", 0, "a", up_to_date=True, closed=False),
]


def kinds(base: type[Event]) -> set[type[Event]]:
    """All kinds of events, also those that an endpoint brings."""
    return {kind for each in base.__subclasses__() for kind in ({each} | kinds(each))}


DEEP = 100_000
HOSTILE = [
    b"",
    b"\n",
    b"\r\n",
    b"\x00",
    b"\xff\xfe",
    b"\xc3\x28",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf{}",
    b"null",
    b"true",
    b"-0",
    b"1e999999999",
    b"9" * 100_000,
    b"NaN",
    b'"',
    b'"\\ud800"',
    b'"\\u12',
    b"[" * DEEP,
    b"[" * DEEP + b"]" * DEEP,
    b'{"a":' * DEEP,
    b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    b"{" * DEEP,
    b"{}\n" * 5000,
    b'{"id":1,"id":2,"connect":{},"connect":null}',
    b'{"__proto__":{},"constructor":1}',
]

handshakes = st.builds(
    Handshake,
    path=st.text(max_size=20),
    query=st.dictionaries(st.sampled_from(["token", "since", "x"]), st.text(max_size=40), max_size=3),
    headers=st.dictionaries(st.sampled_from(["authorization", "last-event-id"]), st.text(max_size=40), max_size=2),
)
per_function = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def between() -> bytes:
    """What stands between frames that were joined."""
    return b"\n"


def mutations(valid: list[bytes]) -> st.SearchStrategy[bytes]:
    """A valid frame of which a piece was replaced."""
    piece = st.binary(max_size=8) | st.sampled_from([b"null", b"{}", b"[]", b'""', b"-1", b"1e99", b"9" * 40, b"\n"])

    def replaced(frame: bytes, start: float, length: int, by: bytes) -> bytes:
        at = int(start * len(frame))
        return frame[:at] + by + frame[at + length :]

    return st.builds(replaced, st.sampled_from(valid), st.floats(0, 1), st.integers(0, 12), piece)


def holds(dialect: Dialect, frame: Frame) -> None:
    """Commands or `Disconnect` come out, and nothing else."""
    try:
        commands = list(dialect.receive(frame))
    except Disconnect as error:
        why = error
    else:
        assert all(isinstance(command, AnyCommand) for command in commands)
        return
    assert 3000 <= why.code < 5000
    assert len(why.reason.encode()) <= 123


def test_every_event_of_the_model_is_among_those_tried() -> None:
    assert {type(event) for event in (*EVENTS, *EVENTS_OF_ENDPOINTS)} == kinds(Event)


def test_hostile_lines_give_commands_or_a_disconnect(dialect: Dialect) -> None:
    for data in HOSTILE:
        holds(dialect, Frame(data))
        holds(dialect, Frame(data, binary=True))
        holds(dialect, Frame(b"\n".join([data, data])))


@per_function
@given(data=st.binary(max_size=300) | st.text(max_size=100).map(str.encode), binary=st.booleans())
def test_any_bytes_give_commands_or_a_disconnect(dialect: Dialect, data: bytes, binary: bool) -> None:
    holds(dialect, Frame(data, binary))


@per_function
@given(data=st.data(), binary=st.booleans())
def test_a_damaged_command_gives_commands_or_a_disconnect(
    dialect: Dialect, valid: list[bytes], data: st.DataObject, binary: bool
) -> None:
    holds(dialect, Frame(data.draw(mutations(valid or [b"{}"])), binary))


def test_undamaged_commands_are_understood(dialect: Dialect, valid: list[bytes]) -> None:
    for data in valid:
        assert len(list(dialect.receive(Frame(data)))) == 1, data


@per_function
@given(request=handshakes)
def test_any_opening_request_gives_commands_or_a_disconnect(dialect: Dialect, request: Handshake) -> None:
    try:
        commands = dialect.opened(request)
    except Disconnect:
        return
    assert all(isinstance(command, AnyCommand) for command in commands)


def test_every_event_is_a_frame_or_nothing_or_the_end_of_a_session(dialect: Dialect) -> None:
    for event in EVENTS:
        try:
            frame = dialect.encode(event)
        except Disconnect:
            assert not isinstance(event, get_args(Delivery)), event
            continue
        assert frame is None or isinstance(frame, Frame), event


def test_a_delivery_is_encoded_the_same_each_time(dialect: Dialect) -> None:
    for event in EVENTS:
        if isinstance(event, get_args(Delivery)):
            first, second = dialect.encode(event), dialect.encode(event)
            assert (first and first.data) == (second and second.data)


@per_function
@given(chosen=st.lists(st.sampled_from(EVENTS[:5]), max_size=20))
def test_joined_frames_say_the_same_in_the_same_order(dialect: Dialect, between: bytes, chosen: list[Event]) -> None:
    frames = [frame for event in chosen if (frame := dialect.encode(event)) and frame is not HEARTBEAT]
    joined = dialect.join(frames)
    assert len(joined) <= len(frames)
    assert between.join(frame.data for frame in joined) == between.join(frame.data for frame in frames)
