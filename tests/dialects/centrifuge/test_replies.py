"""An event is the same reply or push of the Centrifugal protocol in both encodings, also as a delta."""

import json
from typing import Any

import pytest
from centrifuge.fossil import apply_delta
from centrifuge.protocol import client_pb2 as official_pb2
from hypothesis import example, given
from hypothesis import strategies as st

from freshet.dialects.base import Dialect
from freshet.dialects.centrifuge.json import Centrifuge
from freshet.dialects.centrifuge.protobuf import CentrifugeProtobuf
from freshet.dialects.centrifuge.requests import UINT32
from freshet.dialects.gateway import Posted
from freshet.dialects.socketio.packets import Acknowledged, Emitted, NamespaceConnected
from freshet.model.commands import Publish
from freshet.model.entries import StateEntry
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
from freshet.model.log import Kind, Position, Publication
from tests.contracts.dialect import EVENTS
from tests.dialects.centrifuge.official import (
    JSON_VALUES,
    TEXT,
    fields_of,
    framed,
    messages,
    without_empty,
)

JSON, PROTOBUF = Centrifuge(), CentrifugeProtobuf()
IN_PROTOCOL = [event for event in EVENTS if not isinstance(event, Acknowledged | Emitted | NamespaceConnected | Posted)]


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


@pytest.mark.parametrize("dialect", [JSON, PROTOBUF], ids=["json", "protobuf"])
@pytest.mark.parametrize(
    "event", [Emitted("e", [1], 1), Acknowledged(1, []), Posted(b"")], ids=lambda event: type(event).__name__
)
def test_events_of_another_protocol_are_left_out(dialect: Dialect, event: Event) -> None:
    assert dialect.encode(event) is None


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
        values.append(pushed(dialect.encode_after(Published("a", publication, "e"), before)))
    return values


def pushed(frame: Frame | None) -> tuple[dict[str, Any], bytes]:
    """The fields of a publication, and its data."""
    assert frame is not None
    if frame.binary:
        [message] = messages(frame)
        return fields_of(message)["push"]["pub"], message.push.pub.data
    pub = json.loads(frame.data)["push"]["pub"]
    return pub, pub["data"].encode()


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


@pytest.mark.parametrize("dialect", [JSON, PROTOBUF], ids=["json", "protobuf"])
@given(documents=documents)
def test_a_client_puts_deltas_of_a_key_together_to_its_values(dialect: Dialect, documents: list[list[str]]) -> None:
    datas = [json.dumps(words, ensure_ascii=False).encode() for words in documents]
    values = []
    for before, data in zip([None, *map(Publication, datas)], datas, strict=False):
        change = StateEntry("k", data, {"n": "1"}).publication()
        values.append(pushed(dialect.entries.encode_after(Published("a", change, "e"), before)))
    assert applied(values) == datas
    assert "delta" not in values[0][0]
    assert all(fields["tags"] == {"n": "1"} for fields, _ in values)
    removed = dialect.entries.encode_after(Published("a", StateEntry("k", b"").publication()), Publication(datas[-1]))
    plain = dialect.entries.encode(Published("a", StateEntry("k", b"").publication()))
    assert removed is not None
    assert plain is not None
    assert removed.data == plain.data
    assert dialect.entries.encode_after(Published("a", Publication(b'"said"')), None) is None


def test_the_entries_of_a_reply_are_text_for_a_client_that_applies_deltas() -> None:
    entries, later = [StateEntry("a", b'{"x":"y"}')], [StateEntry("b", b"[1]").publication()]
    for delta, data in ((True, ['{"x":"y"}', "[1]"]), (False, [{"x": "y"}, [1]])):
        frame = JSON.encode(Subscribed("s", 1, entries=entries, publications=later, delta=delta))
        assert frame is not None
        reply = json.loads(frame.data)["subscribe"]
        assert [reply["state"][0]["data"], reply["publications"][0]["data"]] == data
        assert reply.get("delta", False) is delta
        [message] = messages(PROTOBUF.encode(Subscribed("s", 1, entries=entries, publications=later, delta=delta)))
        assert message.subscribe.delta is delta


@pytest.mark.parametrize("kind", [Kind.TEXT, Kind.BYTES])
def test_a_delta_of_what_is_no_json_is_one_of_what_the_client_has(kind: Kind) -> None:
    datas = [b"some text that stays as it is, number %d" % n for n in range(3)]
    publications = [Publication(data, offset, kind) for offset, data in enumerate(datas, 1)]
    assert applied(encoded_after(PROTOBUF, publications)) == datas
    whole = [json.loads(data) for data in applied(encoded_after(JSON, publications))]
    line = [JSON.encode(Published("a", publication)) for publication in publications]
    assert whole == [json.loads(frame.data)["push"]["pub"]["data"] for frame in line if frame]
