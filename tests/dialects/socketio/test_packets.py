"""The packets of Socket.IO and Engine.IO: the dialect keeps the contract, and hostile ones are refused in time."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freshet.config import Bound
from freshet.dialects.base import Dialect
from freshet.dialects.socketio import engineio
from freshet.dialects.socketio.packets import (
    ATTACHMENT,
    DEPTH,
    Acknowledged,
    ConnectNamespace,
    Emit,
    Emitted,
    Packet,
    PacketDecoder,
    SocketIO,
    Stamped,
    StampedBatch,
    Type,
    encode_packet,
)
from freshet.errors import Disconnect
from freshet.model.commands import Connect
from freshet.model.events import Published
from freshet.model.frame import Batch, Frame
from freshet.model.json_text import one_line
from freshet.model.log import Kind, Publication
from tests.contracts.dialect import *  # noqa: F403 - the contract's tests are this module's
from tests.tools.cost import assert_linear
from tests.tools.json_texts import json_texts

LIMIT = 1000
BOUND = Bound(LIMIT, "limits.packet_size")
MOST = LIMIT // ATTACHMENT  # binary values that fit into one packet

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
with_bytes = st.recursive(
    json_values | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=2),
    max_leaves=6,
)


@pytest.fixture(params=["/", "/shop"])
def dialect(request: pytest.FixtureRequest) -> Dialect:
    return SocketIO(request.param)


@pytest.fixture
def valid() -> list[bytes]:
    return [b"40", b'40/shop,{"token":"t"}', b'42["bid",1]', b'42/shop,7["bid",{"a":[]}]', b'450-["a"]']


def frames(first: Frame | None) -> list[Frame]:
    found = []
    while first is not None:
        found.append(first)
        first = first.tail
    return found


def read(*given: Frame) -> Packet | None:
    decoder, packet = PacketDecoder(BOUND), None
    for frame in given:
        packet = decoder.feed(frame)
    return packet


@pytest.mark.parametrize(
    ("data", "packet"),
    [
        (b"40", Packet(Type.CONNECT, "/")),
        (b'40/shop,{"token":"t"}', Packet(Type.CONNECT, "/shop", None, {"token": "t"})),
        (b"40/shop", Packet(Type.CONNECT, "/shop")),
        (b"40/shop?a=1,", Packet(Type.CONNECT, "/shop")),
        (b"41/shop,", Packet(Type.DISCONNECT, "/shop")),
        (b'42["a"]', Packet(Type.EVENT, "/", None, ["a"])),
        (b'42/shop,1["\\u0061"]', Packet(Type.EVENT, "/shop", 1, ["a"])),
        (b"4312[]", Packet(Type.ACK, "/", 12, [])),
        (b'450-["a"]', Packet(Type.BINARY_EVENT, "/", None, ["a"])),
    ],
)
def test_a_packet_is_what_it_says(data: bytes, packet: Packet) -> None:
    assert read(Frame(data)) == packet


@pytest.mark.parametrize(
    "data",
    [
        *(b"4", b"47", b"4abc", b"42", b"42{}", b'42"a"', b"42[]", b'42abc["a"]', b'42-1["a"]'),
        *(
            b'42["connect"]',
            b'42["disconnect"]',
            b'42["newListener"]',
            b"43[]",
            b"43",
            b"431",
            b"43x[]",
            b'44{"message":""}',
        ),
        *(b"40[]", b"401{}", b'40"a"', b"411", b'41["a"]', b'45["a"]', b'421-["a"]', b'45999999-["a"]', b'46-["a"]'),
        *(
            b'42["a"',
            b'42["a"]]',
            b'42["\xff"]',
            b"42" + b"[" * 100_000,
            b"4" + b"9" * 100_000,
            b"40/" + b"a" * 100_000,
        ),
        *(b'42["a",' + b"9" * 100_000 + b"x]", b'4299999999999999999["a"]', b"5", b"2", b""),
    ],
)
def test_a_malformed_packet_is_refused(data: bytes) -> None:
    with pytest.raises(Disconnect):
        read(Frame(data))


@pytest.mark.parametrize(
    ("head", "piece"), [(b"42", b"["), (b"4", b"9"), (b"40/", b"a"), (b'42["a",', b"9"), (b"42", b'["a",')]
)
def test_a_malformed_packet_takes_time_in_proportion_to_its_length(head: bytes, piece: bytes) -> None:
    def prepared(count: int) -> Callable[[], object]:
        frame = Frame(head + piece * count + b"x")

        def refused() -> None:
            with pytest.raises(Disconnect):
                read(frame)

        return refused

    assert_linear(prepared, 12_500)


@given(st.lists(with_bytes, max_size=4), st.none() | st.integers(1, 99), st.sampled_from(["/", "/shop"]))
def test_what_is_sent_is_what_is_read(values: list[Any], id: int | None, namespace: str) -> None:
    sent = frames(encode_packet(Type.EVENT, namespace, id, ["event", *values]))
    decoder, packet = PacketDecoder(Bound(100_000, "limits.packet_size")), None
    for frame in sent:
        packet = decoder.feed(frame)
    assert packet is not None
    if packet.type is Type.EVENT:
        packet = packet._replace(data=["event", *(json.loads(bytes(each)) for each in packet.data[1:])])
    assert (packet.namespace, packet.id, packet.data) == (namespace, id, ["event", *values])


@pytest.mark.parametrize("count", [1, MOST, MOST + 1, 1_000_000])
def test_attachments_are_limited_by_what_so_many_cost(count: int) -> None:
    decoder = PacketDecoder(BOUND)
    if count > MOST:
        with pytest.raises(Disconnect, match=r"limits\.packet_size"):
            decoder.feed(Frame(b'45%d-["a"]' % count))
        return
    assert decoder.feed(Frame(b'45%d-["a"]' % count)) is None
    packets = [decoder.feed(Frame(b"x", binary=True)) for _ in range(count)]
    assert packets[-1] == Packet(Type.BINARY_EVENT, "/", None, ["a"])
    assert not any(packets[:-1])


def test_attachments_are_limited_in_size() -> None:
    decoder = PacketDecoder(BOUND)
    decoder.feed(Frame(b'452-["a"]'))
    decoder.feed(Frame(b"x" * LIMIT, binary=True))
    with pytest.raises(Disconnect) as why:
        decoder.feed(Frame(b"x", binary=True))
    assert why.value.code == 1009


@pytest.mark.parametrize(
    "given",
    [
        [Frame(b"x", binary=True)],
        [Frame(b'451-["a"]'), Frame(b'42["b"]')],
        [Frame(b'451-["a",{"_placeholder":true,"num":1}]'), Frame(b"x", binary=True)],
        [Frame(b'451-["a",{"_placeholder":true,"num":-1}]'), Frame(b"x", binary=True)],
        [Frame(b'451-["a",{"_placeholder":true,"num":"0"}]'), Frame(b"x", binary=True)],
        [Frame(b'451-["a",{"_placeholder":true,"num":true}]'), Frame(b"x", binary=True)],
        [Frame(b'451-["a",%b]' % b",".join([b'{"_placeholder":true,"num":0}'] * 2)), Frame(b"x", binary=True)],
        [Frame(b'450-["a",{"_placeholder":true,"num":0}]')],
    ],
)
def test_attachments_that_do_not_fit_are_refused(given: list[Frame]) -> None:
    with pytest.raises(Disconnect):
        read(*given)


@pytest.mark.parametrize("levels", [DEPTH + 1, 5_000])
@pytest.mark.parametrize("attachments", [0, 1])
def test_an_event_of_too_many_levels_is_refused_and_its_connection_stays(levels: int, attachments: int) -> None:
    if not attachments and levels < 1_000:
        return
    deep = b"[" * levels + b"]" * levels
    frame = Frame(b'451-7["a",%b]' % deep if attachments else b'427["a",%b]' % deep)
    packet = read(frame, *[Frame(b"x", binary=True)] * attachments)
    assert packet is not None
    [emit] = SocketIO("/").command(packet)
    assert isinstance(emit, Emit)
    assert (emit.event, emit.id, "levels" in emit.refused) == ("a", 8, True)


@given(value=json_texts)
def test_the_arguments_of_an_event_pass_through_as_they_came(value: bytes) -> None:
    [emit] = SocketIO("/").receive(Frame(b'42["a", %b ,1]' % value))
    assert isinstance(emit, Emit)
    assert [bytes(each) for each in emit.arguments] == [one_line(value.strip(b" \t\r\n")), b"1"]


def test_what_is_cut_in_the_middle_of_an_emoji_is_an_event_like_any_other() -> None:
    [emit] = SocketIO("/").receive(Frame(rb'42["\ud83d",{"\uDE00":1}]'))
    assert isinstance(emit, Emit)
    assert (emit.event, bytes(emit.arguments[0])) == ("\ud83d", rb'{"\uDE00":1}')
    [packet] = [read(Frame(rb'451-["a",{"_placeholder":true,"num":0},"\ud83d"]'), Frame(b"x", binary=True))]
    assert packet is not None
    assert packet.data == ["a", b"x", "\ud83d"]
    assert engineio.body([encode_packet(Type.EVENT, "/", None, packet.data)]) == (
        rb'451-["a",{"_placeholder":true,"num":0},"\ud83d"]' + b"\x1ebeA=="
    )


def test_a_publication_is_an_event_named_by_its_tag() -> None:
    def told(namespace: str, **publication: Any) -> bytes | None:
        frame = SocketIO(namespace).encode(Published("room", Publication(**{"data": b"12", **publication})))
        return frame and engineio.body([frame])

    assert told("/") == b'42["message",12]'
    assert told("/shop", tags={"event": "price"}) == b'42/shop,["price",12]'
    assert told("/", data=b'[12,"EUR"]', tags={"event": "price", "arguments": "2"}) == b'42["price",12,"EUR"]'
    assert told("/", data=b"[]", tags={"event": "price", "arguments": "0"}) == b'42["price"]'
    assert told("/", data=b"plain", kind=Kind.TEXT) == b'42["message","plain"]'
    assert told("/", data=b"\x00\xff", kind=Kind.BYTES) == b'451-["message",{"_placeholder":true,"num":0}]\x1ebAP8='
    assert told("/", tags={"namespace": "/shop"}) is None
    assert told("/shop", tags={"namespace": "/shop"}) == b'42/shop,["message",12]'


def test_the_first_acknowledgement_has_the_number_nought() -> None:
    dialect = SocketIO("/")
    assert dialect.receive(Frame(b'420["a"]')) == [Emit("a", [], 1)]
    assert dialect.receive(Frame(b'42["a"]')) == [Emit("a", [], 0)]
    assert engineio.body(frames(dialect.encode(Acknowledged(1, [])))) == b"430[]"
    assert engineio.body(frames(dialect.encode(Emitted("a", [], 1)))) == b'420["a"]'


def test_a_token_is_taken_from_what_the_client_sends_along() -> None:
    assert SocketIO("/").receive(Frame(b'40{"token":"t"}')) == [ConnectNamespace(Connect(1, "t", b'{"token":"t"}'))]
    assert SocketIO("/").receive(Frame(b'40{"token":7}')) == [ConnectNamespace(Connect(1, "", b'{"token":7}'))]


# --------------------------------------------------------------------------------------------------------------- stamps


def moves(channel: str, *offsets: int, data: bytes = b"1") -> list[Stamped]:
    """What is published in a channel, in a namespace whose clients recover."""
    dialect = SocketIO("/", recovers=True)
    events = [dialect.encode(Published(channel, Publication(data, offset), "e")) for offset in offsets]
    return [event for event in events if type(event) is Stamped]


def test_an_event_says_where_its_session_stands_then_and_is_one_frame_for_all_who_stand_there() -> None:
    one, two, other = {}, {}, {"b c": b"b+c=e%3A9"}  # type: dict[str, bytes], dict[str, bytes], dict[str, bytes]
    first, second = moves("a&", 1, 2)
    assert first.stamped(one).data == b'42["message",1,"a%26=e%3A1"]'
    assert first.stamped(two) is first.stamped(one)
    assert first.stamped(other).data == b'42["message",1,"b+c=e%3A9&a%26=e%3A1"]'
    assert second.stamped(one).data == b'42["message",1,"a%26=e%3A2"]'
    assert Stamped(Frame(b'42["told"]')).stamped(one).data == b'42["told","a%26=e%3A2"]'  # which moves it nowhere
    (binary,) = [SocketIO("/", recovers=True).encode(Published("a", Publication(b"\x00", 1, Kind.BYTES), "e"))]
    assert isinstance(binary, Stamped)
    assert [each.binary for each in frames(binary.stamped({}))] == [False, True]


@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.integers(0, 3), max_size=3), min_size=1, max_size=6))
def test_events_of_a_turn_get_the_same_stamps_together_as_one_by_one(stands: list[dict[str, int]]) -> None:
    """Whatever the rooms of a session, where it stood before, and in which order it came there."""
    together = SocketIO("/", recovers=True).batch([*moves("a", 4, 5, 6)])
    assert len(together) == 1
    batch = together[0]
    assert isinstance(batch, StampedBatch)
    made: dict[bytes, Frame] = {}
    for stand in stands:
        places = {channel: f"{channel}=e%3A{offset}".encode() for channel, offset in stand.items()}
        alone = dict(places)
        expected = [event.stamped(alone).data for event in moves("a", 4, 5, 6)]
        stamped = batch.stamped(places)
        assert isinstance(stamped, Batch)
        assert [part.data for part in stamped.parts] == expected
        assert (places, stamped.size) == (alone, sum(map(len, expected)))
        assert made.setdefault(expected[-1], stamped) is stamped


def test_events_that_move_a_session_in_several_channels_are_not_put_together() -> None:
    dialect, (one, two), (other,) = SocketIO("/", recovers=True), moves("a", 1, 2), moves("b", 1)
    for events in ([one], [one, other], [one, Frame(b'42["plain"]')], []):
        assert dialect.batch([*events]) == events
    assert type(SocketIO("/").batch([Frame(b"1"), Frame(b"2")])[0]) is Batch
    assert type(dialect.batch([one, two])[0]) is StampedBatch
