"""What both encodings of the Centrifugal protocol share: a command or an event means the same in each."""

import json
from typing import Any

import pytest
from centrifuge.fossil import apply_delta
from centrifuge.protocol import client_pb2 as official_pb2
from google.protobuf.descriptor import Descriptor
from hypothesis import example, given
from hypothesis import strategies as st

from freshet.dialects.base import Dialect
from freshet.dialects.centrifuge import client_pb2
from freshet.dialects.centrifuge.json import Centrifuge
from freshet.dialects.centrifuge.messages import PUSHES, READ, REJECT_UNRECOVERED, REPLIES, UINT32
from freshet.dialects.centrifuge.protobuf import CentrifugeProtobuf
from freshet.dialects.gateway import Posted
from freshet.dialects.socketio.packets import Acknowledged, Emitted, NamespaceConnected
from freshet.errors import Disconnect
from freshet.model.commands import (
    Call,
    Command,
    Connect,
    Ping,
    Pong,
    Publish,
    ReadHistory,
    ReadPresence,
    ReadPresenceStats,
    Refresh,
    RefreshSubscription,
    Send,
    Subscribe,
    TagFilter,
    Unsubscribe,
)
from freshet.model.events import (
    Answer,
    Connected,
    Disconnected,
    Event,
    Heartbeat,
    Published,
    Refreshed,
    Refused,
    Subscribed,
    SubscriptionRefreshed,
    Unsubscribed,
)
from freshet.model.frame import Frame
from freshet.model.log import NOWHERE, Kind, Position, Publication
from tests.contracts.dialect import EVENTS
from tests.dialects.centrifuge.official import (
    JSON_VALUES,
    TEXT,
    fields_of,
    framed,
    json_of,
    messages,
    protobuf_of,
    without_empty,
)

JSON, PROTOBUF = Centrifuge(), CentrifugeProtobuf()
ENCODINGS = {"json": (JSON, json_of), "protobuf": (PROTOBUF, protobuf_of)}
IN_PROTOCOL = [event for event in EVENTS if not isinstance(event, Acknowledged | Emitted | NamespaceConnected | Posted)]

FILTER = {"op": "and", "nodes": [{"key": "a", "cmp": "in", "vals": ["1", "2"]}, {"key": "b", "cmp": "gt", "val": "5"}]}
AS_TAG_FILTER = TagFilter(
    "and", nodes=(TagFilter(key="a", cmp="in", vals=("1", "2")), TagFilter(key="b", cmp="gt", val="5"))
)

COMMANDS: list[tuple[dict[str, Any], Command]] = [
    ({}, Pong()),
    ({"id": 1, "connect": {}}, Connect(1)),
    (
        {"id": 1, "connect": {"token": "t", "data": {"a": [1]}, "name": "js", "version": "5"}},
        Connect(1, "t", b'{"a": [1]}', name="js", version="5"),
    ),
    (
        {"id": 1, "connect": {"subs": {"a": {"recover": True, "epoch": "e", "offset": 3}, "b": {"offset": 9}}}},
        Connect(1, recover={"a": Position("e", 3)}),
    ),
    ({"id": 2, "subscribe": {"channel": "a"}}, Subscribe("a", 2)),
    (
        {"id": 2, "subscribe": {"channel": "é", "token": "t", "data": None, "delta": "fossil"}},
        Subscribe("é", 2, "t", b"null", delta=True),
    ),
    ({"id": 2, "subscribe": {"channel": "a", "delta": "another"}}, Subscribe("a", 2)),
    (
        {"id": 2, "subscribe": {"channel": "a", "recover": True, "epoch": "e", "offset": 2**64 - 1}},
        Subscribe("a", 2, recover=Position("e", 2**64 - 1)),
    ),
    ({"id": 2, "subscribe": {"channel": "a", "recover": True}}, Subscribe("a", 2, recover=NOWHERE)),
    ({"id": 2, "subscribe": {"channel": "a", "epoch": "e", "offset": 3}}, Subscribe("a", 2)),
    ({"id": 2, "subscribe": {"channel": "a", "flag": REJECT_UNRECOVERED}}, Subscribe("a", 2, or_refuse=True)),
    ({"id": 2, "subscribe": {"channel": "a", "flag": 5}}, Subscribe("a", 2)),
    ({"id": 2, "subscribe": {"channel": "a", "tf": FILTER}}, Subscribe("a", 2, filter=AS_TAG_FILTER)),
    ({"id": 2, "subscribe": {"channel": "a", "tf": {}}}, Subscribe("a", 2, filter=TagFilter())),
    ({"id": 3, "unsubscribe": {"channel": "a"}}, Unsubscribe("a", 3)),
    ({"id": 4, "publish": {"channel": "a", "data": {"text": "é"}}}, Publish("a", '{"text": "é"}'.encode(), 4)),
    ({"id": 4, "publish": {"channel": "", "data": None}}, Publish("", b"null", 4)),
    ({"id": 5, "presence": {"channel": "a"}}, ReadPresence("a", 5)),
    ({"id": 6, "presence_stats": {"channel": "a"}}, ReadPresenceStats("a", 6)),
    ({"id": 7, "history": {"channel": "a"}}, ReadHistory("a", 7)),
    ({"id": 7, "history": {"channel": "a", "since": {}}}, ReadHistory("a", 7, since=NOWHERE)),
    (
        {"id": 7, "history": {"channel": "a", "limit": -1, "since": {"offset": 3, "epoch": "e"}, "reverse": True}},
        ReadHistory("a", 7, -1, Position("e", 3), True),
    ),
    ({"id": UINT32, "ping": {}}, Ping(UINT32)),
    ({"send": {"data": [1, 2]}}, Send(b"[1, 2]")),
    ({"id": 8, "send": {"data": 0}}, Send(b"0")),
    ({"id": 9, "rpc": {"method": "m", "data": ""}}, Call("m", b'""', 9)),
    ({"id": 9, "rpc": {}}, Call("", b"", 9)),
    ({"id": 10, "refresh": {"token": "t"}}, Refresh("t", 10)),
    ({"id": 11, "sub_refresh": {"channel": "a", "token": "t"}}, RefreshSubscription("a", "t", 11)),
]


@pytest.fixture(params=ENCODINGS)
def encoding(request: pytest.FixtureRequest) -> Any:
    return ENCODINGS[request.param]


# ---------------------------------------------------------------------------------------------------- the messages


OF_MAPS = {"type", "phase", "cursor", "limit", "key", "removed", "state", "publish_debounce"}
"""Fields that only the JavaScript client knows: see test_js.py and test_maps.py."""


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (client_pb2.Command, official_pb2.Command),
        (client_pb2.Reply, official_pb2.Reply),
        (client_pb2.Emulation, official_pb2.EmulationRequest),
    ],
    ids=lambda message: message.DESCRIPTOR.name,
)
def test_each_field_has_the_number_and_the_type_that_an_official_client_knows(ours: Any, theirs: Any) -> None:
    compared: set[str] = set()

    def compare(one: Descriptor, other: Descriptor) -> None:
        if one.full_name in compared:
            return
        compared.add(one.full_name)
        for field in one.fields:
            if field.name in OF_MAPS:
                continue
            known = other.fields_by_name[field.name]
            assert (field.number, field.type, field.is_repeated) == (known.number, known.type, known.is_repeated), field
            if field.message_type is not None:
                compare(field.message_type, known.message_type)

    compare(ours.DESCRIPTOR, theirs.DESCRIPTOR)


def test_every_request_and_every_result_of_the_definition_has_an_entry_in_the_tables() -> None:
    def names(message: Any, oneof: str) -> set[str]:
        return {field.name for field in message.DESCRIPTOR.oneofs_by_name[oneof].fields}

    assert names(client_pb2.Command, "request") == {*READ, "send"}
    assert names(client_pb2.Reply, "result") == {"push", *(name for name, _ in REPLIES.values())}
    assert names(client_pb2.Push, "event") == {"message", "disconnect", *(name for name, _ in PUSHES.values())}


def test_an_official_client_and_the_server_share_a_process() -> None:
    """Two definitions of one name would not: protobuf keeps them in one pool."""
    assert client_pb2.DESCRIPTOR.name != official_pb2.DESCRIPTOR.name
    assert client_pb2.DESCRIPTOR.package != official_pb2.DESCRIPTOR.package


# ---------------------------------------------------------------------------------------------------- commands


@pytest.mark.parametrize(("sent", "command"), COMMANDS, ids=lambda value: type(value).__name__)
def test_a_command_is_the_same_in_both_encodings(encoding: Any, sent: dict[str, Any], command: Command) -> None:
    dialect, frame_of = encoding
    assert dialect.receive(frame_of(sent)) == [command]


def test_every_request_of_the_protocol_is_among_those_tried() -> None:
    assert {name for sent, _ in COMMANDS for name in sent if name != "id"} == {*READ, "send"}


def optional(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


offsets = st.integers(0, 2**64 - 1)
position = {"recover": st.booleans(), "epoch": TEXT, "offset": offsets}
filters = st.recursive(
    optional(key=TEXT, cmp=TEXT, val=TEXT, vals=st.lists(TEXT, max_size=3)),
    lambda inner: st.fixed_dictionaries({"op": TEXT, "nodes": st.lists(inner, max_size=3)}),
    max_leaves=6,
)
channel = st.fixed_dictionaries({"channel": TEXT})
requests: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "connect": optional(
        token=TEXT, data=JSON_VALUES, subs=st.dictionaries(TEXT, optional(**position)), name=TEXT, version=TEXT
    ),
    "subscribe": optional(
        channel=TEXT,
        token=TEXT,
        data=JSON_VALUES,
        flag=st.integers(-(2**63), 2**63 - 1),
        delta=st.sampled_from(["", "fossil", "other"]),
        tf=filters,
        **position,
    ),
    "unsubscribe": channel,
    "publish": st.fixed_dictionaries({"channel": TEXT, "data": JSON_VALUES}),
    "presence": channel,
    "presence_stats": channel,
    "history": st.fixed_dictionaries(
        {"channel": TEXT},
        optional={
            "limit": st.integers(-(2**31), 2**31 - 1),
            "since": optional(offset=offsets, epoch=TEXT),
            "reverse": st.booleans(),
        },
    ),
    "ping": st.just({}),
    "send": optional(data=JSON_VALUES),
    "rpc": optional(method=TEXT, data=JSON_VALUES),
    "refresh": optional(token=TEXT),
    "sub_refresh": st.fixed_dictionaries({"channel": TEXT}, optional={"token": TEXT}),
}


@pytest.mark.parametrize("name", requests)
@given(data=st.data(), id=st.integers(1, UINT32))
def test_any_request_gives_one_command_whatever_the_encoding(name: str, data: st.DataObject, id: int) -> None:
    sent = {"id": id, name: data.draw(requests[name])}
    assert JSON.receive(json_of(sent)) == PROTOBUF.receive(protobuf_of(sent))


@pytest.mark.parametrize("name", READ)
def test_a_request_that_wants_a_reply_needs_an_id(encoding: Any, name: str) -> None:
    dialect, frame_of = encoding
    request = {"channel": "a", "data": 1} if name == "publish" else {"channel": "a"}
    known = client_pb2.Command.DESCRIPTOR.fields_by_name[name].message_type.fields_by_name
    sent = {name: {field: value for field, value in request.items() if field in known}}
    for without in (sent, {"id": 0, **sent}):
        with pytest.raises(Disconnect, match="command without a valid id") as why:
            dialect.receive(frame_of(without))
        assert why.value.code == 3501


def test_an_id_without_a_request_is_no_command(encoding: Any) -> None:
    dialect, frame_of = encoding
    with pytest.raises(Disconnect, match="unknown command"):
        dialect.receive(frame_of({"id": 1}))


# ------------------------------------------------------------------------------------------------------ events


def both(event: Event) -> tuple[dict[str, Any], dict[str, Any]]:
    """An event as a client of each encoding reads it, without empty fields."""
    line, [message] = JSON.encode(event), messages(PROTOBUF.encode(event))
    assert line is not None
    return without_empty(json.loads(line.data)), fields_of(message)


@pytest.mark.parametrize("event", IN_PROTOCOL, ids=lambda event: type(event).__name__)
def test_an_event_is_the_same_in_both_encodings(event: Event) -> None:
    as_json, as_protobuf = both(event)
    assert as_json == as_protobuf
    assert as_json or isinstance(event, Heartbeat)


@pytest.mark.parametrize(
    "event", [Emitted("e", [1], 1), Acknowledged(1, []), Posted(b"")], ids=lambda event: type(event).__name__
)
def test_events_of_another_protocol_are_left_out(encoding: Any, event: Event) -> None:
    assert encoding[0].encode(event) is None


@given(value=JSON_VALUES, name=TEXT, offset=st.integers(0, 2**64 - 1), tags=st.none() | st.dictionaries(TEXT, TEXT))
def test_any_publication_is_the_same_in_both_encodings(
    value: Any, name: str, offset: int, tags: dict[str, str] | None
) -> None:
    as_json, as_protobuf = both(Published(name, Publication(json.dumps(value).encode(), offset, tags=tags)))
    assert as_json == as_protobuf
    assert as_json["push"]["pub"]["data"] == value
    assert as_json["push"]["pub"].get("tags") == (tags or None)


def test_the_push_of_a_servers_subscription_holds_where_it_begins_and_no_more() -> None:
    event = Subscribed("a", 0, Position("e", 3), True, True, [Publication(b"1", 3)], 60, b'{"a":1}', delta=True)
    begins = {"recoverable": True, "positioned": True, "epoch": "e", "offset": 3, "data": {"a": 1}}
    assert both(event) == ({"push": {"channel": "a", "subscribe": begins}},) * 2


def test_a_call_without_a_result_is_answered_by_null() -> None:
    assert both(Answer(1, b"")) == ({"id": 1, "rpc": {"data": None}},) * 2


@pytest.mark.parametrize(
    ("event", "path", "number"),
    [
        (Connected(1, "c", 25, ttl=10**12), "connect.ttl", UINT32),
        (Connected(1, "c", 10**12), "connect.ping", UINT32),
        (Subscribed("a", 1, ttl=2**32), "subscribe.ttl", UINT32),
        (Refreshed(1, "c", 10**15), "refresh.ttl", UINT32),
        (SubscriptionRefreshed(1, UINT32), "sub_refresh.ttl", UINT32),
        (Refused(1, 2**40, "far"), "error.code", UINT32),
        (Refused(1, -5, "below"), "error.code", None),
        (Unsubscribed("a", 2**33), "push.unsubscribe.code", UINT32),
        (Disconnected(2**33, "far"), "push.disconnect.code", UINT32),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_number_that_has_no_room_in_its_field_is_cut_to_the_nearest_one(
    event: Event, path: str, number: int | None
) -> None:
    """A token that expires in ten thousand years is no reason to end the session."""
    for fields in both(event):
        value: Any = fields
        for name in path.split("."):
            value = value.get(name)
        assert value == number


@given(data=st.binary(max_size=40) | JSON_VALUES.map(json.dumps).map(str.encode) | st.binary().map(b'"%b"'.__mod__))
@example(b'"\xff"')
@example(b'{"\xed\xa0\x80":1}')
@example(b"[1,\n2]")
@example(b"\xef\xbb\xbf{}")
def test_whatever_a_client_of_protobuf_publishes_a_client_of_json_can_read(data: bytes) -> None:
    """One line of JSON in UTF-8: anything else would end the connection of every such subscriber."""
    sent = official_pb2.Command(id=1, publish={"channel": "a", "data": data})
    [publish] = PROTOBUF.receive(Frame(framed(sent), binary=True))
    assert isinstance(publish, Publish)
    frame = JSON.encode(Published("a", Publication(publish.data, 1, publish.kind)))
    assert frame is not None
    assert b"\n" not in frame.data
    json.loads(frame.data.decode())


# ------------------------------------------------------------------------------------------------------ deltas

WORDS = ["price", "é", "日本語", '"', "\\", "\n", "🙂", "the same long words in all of them; "]
documents = st.lists(st.lists(st.sampled_from(WORDS), max_size=30), min_size=1, max_size=4)


def applied(values: list[tuple[dict[str, Any], bytes]]) -> list[bytes]:
    """The values that a client puts together, from the fields of publications and their data."""
    have, whole = b"", []
    for fields, data in values:
        have = apply_delta(have, data) if fields.get("delta") else data
        whole.append(have)
    return whole


def encoded_after(dialect: Dialect, publications: list[Publication]) -> list[tuple[dict[str, Any], bytes]]:
    values = []
    for before, publication in zip([None, *publications], publications, strict=False):
        frame = dialect.encode_after(Published("a", publication, "e"), before)
        if dialect is PROTOBUF:
            [message] = messages(frame)
            values.append((fields_of(message)["push"]["pub"], message.push.pub.data))
        else:
            assert frame is not None
            pub = json.loads(frame.data)["push"]["pub"]
            values.append((pub, pub["data"].encode()))
    return values


@pytest.mark.parametrize("dialect", [JSON, PROTOBUF], ids=["json", "protobuf"])
@given(documents=documents)
def test_a_client_puts_deltas_together_to_what_was_published(dialect: Dialect, documents: list[list[str]]) -> None:
    datas = [json.dumps(words, ensure_ascii=False).encode() for words in documents]
    publications = [Publication(data, offset, tags={"n": "1"}) for offset, data in enumerate(datas, 1)]
    values = encoded_after(dialect, publications)
    assert applied(values) == datas
    assert "delta" not in values[0][0]
    assert [fields["offset"] for fields, _ in values] == list(range(1, len(datas) + 1))


@pytest.mark.parametrize("dialect", [JSON, PROTOBUF], ids=["json", "protobuf"])
def test_a_reply_replays_what_was_missed_as_deltas(dialect: Dialect) -> None:
    datas = [json.dumps({"text": "long and the same " * 9, "n": n}).encode() for n in range(3)]
    publications = [Publication(data, offset) for offset, data in enumerate(datas, 1)]
    event = Subscribed("a", 1, Position("e", 3), True, True, publications, delta=True)
    frame = dialect.encode(event)
    assert frame is not None
    if dialect is PROTOBUF:
        [message] = messages(frame)
        pubs = [(fields_of(pub), pub.data) for pub in message.subscribe.publications]
    else:
        pubs = [(pub, pub["data"].encode()) for pub in json.loads(frame.data)["subscribe"]["publications"]]
    assert [fields.get("delta", False) for fields, _ in pubs] == [False, True, True]
    assert applied(pubs) == datas


@pytest.mark.parametrize("kind", [Kind.TEXT, Kind.BYTES])
def test_a_delta_of_what_is_no_json_is_one_of_what_the_client_has(kind: Kind) -> None:
    datas = [b"some text that stays as it is, number %d" % n for n in range(3)]
    publications = [Publication(data, offset, kind) for offset, data in enumerate(datas, 1)]
    assert applied(encoded_after(PROTOBUF, publications)) == datas
    whole = [json.loads(data) for data in applied(encoded_after(JSON, publications))]
    line = [JSON.encode(Published("a", publication)) for publication in publications]
    assert whole == [json.loads(frame.data)["push"]["pub"]["data"] for frame in line if frame]
