"""A request of the Centrifugal protocol is the same command in both encodings."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freshet.dialects.centrifuge import client_pb2
from freshet.dialects.centrifuge.json import Centrifuge
from freshet.dialects.centrifuge.protobuf import CentrifugeProtobuf
from freshet.dialects.centrifuge.requests import READ, REJECT_UNRECOVERED, UINT32
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
from freshet.model.log import NOWHERE, Position
from tests.dialects.centrifuge.official import (
    JSON_VALUES,
    TEXT,
    json_of,
    protobuf_of,
)

JSON, PROTOBUF = Centrifuge(), CentrifugeProtobuf()
ENCODINGS = {"json": (JSON, json_of), "protobuf": (PROTOBUF, protobuf_of)}

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
