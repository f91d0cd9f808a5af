"""The Centrifugal protocol as JSON: it keeps the contract of dialects, and a line is what a client of it can read."""

import json
import re
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from freshet.dialects.base import Dialect
from freshet.dialects.centrifuge.json import Centrifuge, portions
from freshet.dialects.centrifuge.requests import KINDS
from freshet.dialects.gateway import Posted
from freshet.dialects.socketio.packets import Acknowledged, Emitted, NamespaceConnected
from freshet.errors import Disconnect
from freshet.model.commands import Call, Connect, Declined, Ping, Pong, Publish, Send, Subscribe
from freshet.model.entries import EntryChange, EntryPage
from freshet.model.events import Heartbeat, Published
from freshet.model.frame import Frame
from freshet.model.json_text import TOO_DEEP
from freshet.model.log import NOTHING, ClientInfo, Kind, Position, Publication
from tests.contracts.dialect import *  # noqa: F403 - the contract's tests are this module's
from tests.contracts.dialect import DEEP, EVENTS, HOSTILE
from tests.dialects.centrifuge.official import JSON_VALUES, without_empty
from tests.tools.json_texts import json_texts

IN_PROTOCOL = [event for event in EVENTS if not isinstance(event, Acknowledged | Emitted | NamespaceConnected | Posted)]
COMMANDS = [
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


@pytest.fixture
def dialect() -> Dialect:
    return Centrifuge()


@pytest.fixture
def valid() -> list[bytes]:
    return COMMANDS


def receive(data: bytes, binary: bool = False) -> list[Any]:
    return list(Centrifuge().receive(Frame(data, binary)))


def line(event: Any) -> Any:
    """What a client reads of one event."""
    frame = Centrifuge().encode(event)
    assert frame is not None
    assert b"\n" not in frame.data
    assert not frame.binary
    return json.loads(frame.data)


@pytest.mark.parametrize("event", IN_PROTOCOL, ids=lambda event: type(event).__name__)
def test_every_event_is_one_line_of_json(event: Any) -> None:
    assert isinstance(line(event), dict)


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
        if isinstance(command, Declined):
            continue
        assert isinstance(command, Publish)
        assert b"\n" not in command.data
        command.data.decode()


@pytest.mark.parametrize("empty", [b"\n", b"\n" * 100_000], ids=["one", "many"])
def test_empty_lines_before_between_and_behind_commands_are_passed_over(empty: bytes) -> None:
    first, last = b'{"id":1,"ping":{}}', b'{"id":2,"ping":{}}'
    frame = Frame(empty + first + empty + last + empty)
    assert list(Centrifuge().receive(frame)) == [Ping(1), Ping(2)]
    with pytest.raises(Disconnect):
        list(Centrifuge().receive(Frame(empty)))


def test_lines_of_one_frame_are_commands_in_their_order() -> None:
    commands = receive(b'{"id":1,"connect":{}}\n\n{"id":2,"ping":{}}\n{}\n')
    assert commands == [Connect(1), Ping(2), Pong()]


def test_a_frame_holds_any_number_of_commands_and_at_least_one() -> None:
    assert receive(b"\n".join([b'{"id":1,"ping":{}}'] * 100_000)) == [Ping(1)] * 100_000
    with pytest.raises(Disconnect, match="one command or more"):
        receive(b"\n" * 100_000)


def told(commands: Iterable[object]) -> list[Any]:
    """Commands; of those that are declined for their size, that and the id."""
    size = re.compile(r"a command of (\d+) bytes: at most 64, see limits\.message_size").fullmatch
    return [
        (int(found[1]), it.id) if isinstance(it, Declined) and (found := size(str(it.why))) else it for it in commands
    ]


def test_a_command_that_is_too_long_is_known_by_its_id_and_the_others_are_read() -> None:
    short, long = b'{"publish":{"channel":"a","data":%b},"id":%d}', b"[" + b"1," * 40 + b"1]"
    lines = [short % (b"1", 1), short % (long, 2), short % (b"3", 3), b'{"send":{"data":%b}}' % long]
    commands = told(Centrifuge(longest=64).receive(Frame(b"\n".join(lines))))
    assert commands == [
        Publish("a", b"1", 1),
        (len(lines[1]), 2),
        Publish("a", b"3", 3),
        (len(lines[3]), 0),
    ]
    assert told(Centrifuge(longest=64).receive(Frame(lines[1]))) == [(len(lines[1]), 2)]
    half = short % (b'"' + b"x" * 80 + b'\\ud83d"', 4)  # of an emoji, where a text was cut
    assert told(Centrifuge(longest=64).receive(Frame(half))) == [(len(half), 4)]
    for malformed in (b"x" * 100, b"[" * 10_000, b'{"id":"' + b"x" * 100):
        with pytest.raises(Disconnect):
            Centrifuge(longest=64).receive(Frame(malformed))


@given(st.lists(st.sampled_from([b"", b"{}", b'{"id":1,"ping":{}}', b"x" * 30])), st.integers(1, 60))
def test_a_frame_in_portions_has_the_same_commands_and_none_is_longer_than_it_must_be(
    lines: list[bytes], size: int
) -> None:
    cut = list(portions(b"\n".join(lines), size))
    assert [line for each in cut for line in each.split(b"\n") if line] == [line for line in lines if line]
    assert all(len(each) <= size or b"\n" not in each.strip(b"\n") for each in cut)


def test_a_connect_that_has_a_position_in_each_of_many_channels_may_be_longer() -> None:
    subs = {f"room:{number}": {"recover": True, "epoch": "e", "offset": number} for number in range(1000)}
    line = json.dumps({"id": 1, "connect": {"token": "t", "subs": subs}}).encode()
    [connect] = Centrifuge(longest=1024).receive(Frame(line))
    assert connect == Connect(1, "t", recover={f"room:{number}": Position("e", number) for number in range(1000)})


@pytest.mark.parametrize("id", ["0", "-1", "4294967296", "1.5", '"1"', "true", "[]"])
def test_a_command_that_wants_a_reply_has_an_id_in_the_range_of_the_protocol(id: str) -> None:
    for command in ('"connect":{}', '"subscribe":{"channel":"a"}', '"rpc":{}', '"ping":{}'):
        with pytest.raises(Disconnect) as why:
            Centrifuge().receive(Frame(f'{{"id":{id},{command}}}'.encode()))
        assert why.value.code == 3501


@pytest.mark.parametrize("id", ["0", "-1", "4294967296"])
def test_a_publication_needs_an_id_too(id: str) -> None:
    with pytest.raises(Disconnect, match="command without a valid id"):
        receive(f'{{"id":{id},"publish":{{"channel":"a","data":1}}}}'.encode())


@pytest.mark.parametrize("event", IN_PROTOCOL, ids=lambda event: type(event).__name__)
def test_a_line_has_no_field_that_the_protocol_does_not_know(event: Any) -> None:
    assert without_empty(line(event)) or isinstance(event, Heartbeat)


@given(value=JSON_VALUES, indent=st.sampled_from([None, 0, 2]), escaped=st.booleans())
def test_a_payload_is_passed_on_as_it_came(value: Any, indent: int | None, escaped: bool) -> None:
    data = json.dumps(value, indent=indent, ensure_ascii=escaped)
    if "\n" in data:  # a line ends a command
        with pytest.raises(Disconnect):
            receive(f'{{"id":1,"publish":{{"channel":"a","data":{data}}}}}'.encode())
        return
    [publish] = receive(f'{{"id":1,"publish":{{"channel":"a","data":{data}}}}}'.encode())
    assert publish == Publish("a", data.encode(), 1)
    [send] = receive(f'{{"send":{{"data":{data}}}}}'.encode())
    assert send == Send(data.encode())


@given(data=st.binary(max_size=50))
def test_bytes_reach_a_client_of_json_as_base64(data: bytes) -> None:
    from base64 import b64decode

    assert b64decode(line(Published("a", Publication(data, 1, Kind.BYTES)))["push"]["pub"]["data"]) == data


def test_what_a_client_of_a_later_version_adds_is_passed_over() -> None:
    commands = receive(b'{"id":1,"later":{},"connect":{"token":"t","headers":{"a":"b"},"flag":1,"data":{}}}')
    assert commands == [Connect(1, "t", b"{}")]


def test_of_several_requests_in_one_command_one_is_carried_out() -> None:
    both = b'{"id":1,"ping":{},"publish":{"channel":"a","data":1}}'
    assert receive(both) == [Publish("a", b"1", 1)]


@pytest.mark.parametrize(
    "request_",
    [
        *('"publish":{"channel":"a"}', '"publish":{"data":1}', '"publish":{"channel":1,"data":1}', '"publish":[]'),
        *('"subscribe":{"channel":["a"]}', '"subscribe":{"offset":"3"}', '"subscribe":{"recover":1}', '"subscribe":7'),
        *('"subscribe":{"tf":[]}', '"subscribe":{"tf":{"nodes":{}}}', '"subscribe":{"tf":{"vals":[1]}}'),
        *('"connect":{"token":null}', '"connect":{"subs":[]}', '"connect":{"subs":{"a":null}}', '"connect":"{}"'),
        *('"history":{}', '"history":{"channel":"a","limit":1.5}', '"history":{"channel":"a","since":[]}'),
        *('"presence":{}', '"presence_stats":{}', '"unsubscribe":{}', '"sub_refresh":{}', '"rpc":{"method":{}}'),
    ],
)
def test_a_request_of_another_shape_ends_the_session(request_: str) -> None:
    with pytest.raises(Disconnect, match="malformed command") as why:
        receive(f'{{"id":1,{request_}}}'.encode())
    assert why.value.code == 3501


@pytest.mark.parametrize(
    "data",
    [
        b'{"id":1,"subscribe":{"channel":"a","tf":' + b'{"nodes":[' * DEEP + b"]}" * DEEP + b"}}",
        b'{"id":1,"publish":{"channel":"a","data":' + b"[" * DEEP + b"]" * DEEP + b"}}",
        b'{"id":1,"rpc":{"data":' + b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"}}",
    ],
    ids=["filters", "arrays", "objects"],
)
def test_what_is_nested_too_deeply_is_refused_and_the_session_stays(data: bytes) -> None:
    for deep in (data, data.replace(b'{"id":1,', b"{")[:-1] + b',"id":1}'):
        [declined] = Centrifuge(longest=len(data)).receive(Frame(deep))
        assert isinstance(declined, Declined)
        assert (declined.id, declined.why.code, declined.why.message) == (1, 107, TOO_DEEP)
        assert told(Centrifuge(longest=64).receive(Frame(deep))) == [(len(deep), 1)], "and also if it is too large"


@given(value=json_texts)
def test_whatever_is_json_passes_through_as_it_came(value: bytes) -> None:
    value = value.replace(b"\n", b" ")  # a line ends a command
    [publish] = receive(b'{"id":1,"publish":{"channel":"a","data":%b}}' % value)
    assert publish == Publish("a", value.strip(b" \t\r"), 1)
    [call] = receive(b'{"rpc":{"method":"a","data":%b},"id":1}' % value)
    assert call == Call("a", value.strip(b" \t\r"), 1)


@pytest.mark.parametrize(
    "request_",
    [
        rb'"publish":{"channel":"\ud83d","data":1}',
        rb'"subscribe":{"channel":"a\uDE00"}',
        rb'"rpc":{"method":"\ud83d\ud83d\ude00","data":1}',
        rb'"subscribe":{"channel":"a","tf":{"key":"a","cmp":"in","vals":["\ud83d"]}}',
        rb'"connect":{"subs":{"\ud83d":{"recover":true}}}',
    ],
)
def test_half_of_a_character_in_a_name_is_refused_and_the_session_stays(request_: bytes) -> None:
    [declined] = receive(b'{"id":7,%b}' % request_)
    assert isinstance(declined, Declined)
    assert (declined.id, declined.why.code) == (7, 107)


@pytest.mark.parametrize(("number", "kind"), [*KINDS.items(), (9, "type 9")])
@pytest.mark.parametrize(
    "request_", [b'"subscribe":{"channel":"a",%b,"phase":2}', b'"publish":{"channel":"a",%b,"key":"k","removed":true}']
)
def test_a_kind_of_channel_that_there_is_not_is_refused_by_name(number: int, kind: str, request_: bytes) -> None:
    [declined] = receive(b'{"id":7,%b}' % (request_ % (b'"type":%d' % number)))
    assert isinstance(declined, Declined)
    assert (declined.id, declined.why.code, declined.why.temporary) == (7, 108, False)
    assert kind in declined.why.message


def test_a_request_of_another_type_needs_an_id_as_all_do() -> None:
    """Or its client would wait for an answer that cannot be given."""
    with pytest.raises(Disconnect) as why:
        receive(b'{"publish":{"channel":"a","type":4,"data":1}}')
    assert why.value.code == 3501


def test_a_type_of_nought_is_a_stream() -> None:
    assert receive(b'{"id":7,"publish":{"channel":"a","type":0,"data":1}}') == [Publish("a", b"1", 7)]
    assert receive(b'{"id":7,"subscribe":{"channel":"a","type":0}}') == [Subscribe("a", 7)]


@pytest.mark.parametrize("data", [b"\xff", b'{"id":1,"rpc":{"data":"\xc3"}}', b'{"send":{"data":"\xed\xa0\x80"}}'])
def test_a_binary_frame_is_utf_8_too(data: bytes) -> None:
    """A payload goes out in a text frame, which ends the connection of a client that finds invalid UTF-8 in it."""
    with pytest.raises(Disconnect):
        receive(data, binary=True)
    assert receive(b'{"send":{"data":"\xc3\xa9"}}', binary=True) == [Send(b'"\xc3\xa9"')]


def test_one_good_command_does_not_save_a_bad_one() -> None:
    with pytest.raises(Disconnect):
        receive(b'{"id":1,"ping":{}}\nnonsense\n{"id":2,"ping":{}}')


def test_the_servers_ping_is_the_clients_pong() -> None:
    assert line(Heartbeat()) == {}
    assert receive(b"{}") == [Pong()]


def test_an_entry_of_a_map_is_set_and_removed_whatever_is_in_it() -> None:
    [put] = receive(rb'{"id":7,"publish":{"channel":"a","type":1,"key":"k","data":"\ud83d"}}')
    assert put == Publish("a", rb'"\ud83d"', 7, change=EntryChange("set", "k", rb'"\ud83d"'))
    [removed] = receive(b'{"id":8,"publish":{"channel":"a","type":1,"key":"k","removed":true}}')
    assert removed == Publish("a", b"", 8, change=EntryChange("remove", "k"))
    [declined] = receive(rb'{"id":9,"publish":{"channel":"a","type":1,"key":"\ud83d","data":1}}')
    assert isinstance(declined, Declined)
    with pytest.raises(Disconnect):
        receive(b'{"publish":{"channel":"a","type":1,"key":"k","data":1}}')
    with pytest.raises(Disconnect):
        receive(b'{"id":7,"publish":{"channel":"a"}}')


def test_a_map_is_asked_for_in_pages_and_then_for_what_came_since() -> None:
    [first] = receive(b'{"id":1,"subscribe":{"channel":"a","type":1,"phase":2,"limit":10}}')
    assert first == Subscribe("a", 1, entries=EntryPage("", 10))
    [second] = receive(
        b'{"id":2,"subscribe":{"channel":"a","type":1,"phase":2,"cursor":"k","offset":5,"epoch":"e","limit":10}}'
    )
    assert second == Subscribe("a", 2, recover=Position("e", 5), entries=EntryPage("k", 10, Position("e", 5)))
    [since] = receive(b'{"id":3,"subscribe":{"channel":"a","type":1,"phase":1,"recover":true,"offset":5,"epoch":"e"}}')
    assert since == Subscribe("a", 3, recover=Position("e", 5), or_refuse=True, entries=EntryPage(limit=0))


@pytest.mark.parametrize(("asked", "delta"), [("fossil", True), ("another", False), ("", False)])
@pytest.mark.parametrize("phase", [2, 1])
def test_a_map_is_asked_for_with_deltas(phase: int, asked: str, delta: bool) -> None:
    request = {"channel": "a", "type": 1, "phase": phase, "delta": asked}
    [command] = receive(json.dumps({"id": 1, "subscribe": request}).encode())
    assert isinstance(command, Subscribe)
    assert command.delta is delta


@pytest.mark.parametrize("nothing", [NOTHING, Raw(), Raw(b"")], ids=["as made here", "empty", "as an engine has it"])
@pytest.mark.parametrize("known", [False, True], ids=["", "known"])
def test_who_published_is_told_as_far_as_it_is_known_of_whichever_engine_it_comes(nothing: Raw, known: bool) -> None:
    info = ClientInfo("ada", "c1", Raw(b'{"a":1}') if known else nothing, nothing)
    push = line(Published("a", Publication(b"1", 1, info=info)))["push"]
    expected = {"user": "ada", "client": "c1"} | ({"conn_info": {"a": 1}} if known else {})
    assert push == {"channel": "a", "pub": {"data": 1, "offset": 1, "info": expected}}
