"""The Centrifugal protocol as Protobuf: it keeps the contract of dialects, and official clients understand it."""

import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from centrifuge.protocol.client_pb2 import Command, EmulationRequest, Reply
from google.protobuf.json_format import MessageToDict, ParseDict
from hypothesis import example, given
from hypothesis import strategies as st

from freshet.dialects.base import Dialect
from freshet.dialects.centrifuge.protobuf import (
    CentrifugeProtobuf,
    parse_emulation,
    portions,
    read_delimited,
    varint,
)
from freshet.errors import Disconnect
from freshet.model.commands import Call, Connect, Declined, Ping, Pong, Publish, ReadHistory, Subscribe
from freshet.model.events import Published, Subscribed
from freshet.model.frame import Frame
from freshet.model.log import Kind, Position, Publication
from tests.contracts.dialect import *  # noqa: F403 - the contract's tests are this module's
from tests.contracts.dialect import EVENTS, FULL, holds
from tests.dialects.centrifuge import official
from tests.tools.clients import CONFIG, Listener, connected, soon, token
from tests.tools.need import require
from tests.tools.patience import seconds
from tests.tools.serving import Server, serving


def framed(**command: Any) -> bytes:
    """As an official client sends it."""
    return official.framed(ParseDict(command, Command()))


def read(frame: Frame | None) -> list[dict[str, Any]]:
    """As an official client reads it."""
    return [MessageToDict(reply, preserving_proto_field_name=True) for reply in official.messages(frame)]


@pytest.fixture
def dialect() -> Dialect:
    return CentrifugeProtobuf()


@pytest.fixture
def between() -> bytes:
    return b""


@pytest.fixture
def valid() -> list[bytes]:
    return VALID


VALID = [
    framed(id=1, connect={"token": "t", "subs": {"a": {"recover": True, "epoch": "e", "offset": "3"}}}),
    framed(id=2, subscribe={"channel": "a", "recover": True, "epoch": "e", "offset": "7"}),
    framed(id=3, publish={"channel": "a", "data": "eyJhIjoxfQ=="}),
    framed(id=4, history={"channel": "a", "limit": -1, "since": {"offset": "3", "epoch": "e"}, "reverse": True}),
    framed(id=5, rpc={"method": "m", "data": ""}),
    framed(send={"data": "e30="}),
    framed(),
]


def test_commands_are_those_of_the_official_client(dialect: Dialect, valid: list[bytes]) -> None:
    commands = list(dialect.receive(Frame(b"".join(valid), binary=True)))
    assert commands[0] == Connect(1, "t", recover={"a": Position("e", 3)})
    assert commands[1] == Subscribe("a", 2, recover=Position("e", 7))
    assert commands[2] == Publish("a", b'{"a":1}', 3)
    assert commands[3] == ReadHistory("a", 4, -1, Position("e", 3), True)
    assert commands[-1] == Pong()


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_official_client_can_read_every_event(dialect: Dialect, event: Any) -> None:
    frame = dialect.encode(event)
    if frame is not None:
        assert len(read(frame)) == 1


def test_payloads_go_out_as_they_are(dialect: Dialect) -> None:
    for kind, data in ((Kind.JSON, b'{"a":1}'), (Kind.TEXT, b"text"), (Kind.BYTES, b"\x00\xff")):
        frame = dialect.encode(Published("room", Publication(data, 300, kind)))
        assert frame is not None
        push = Reply.FromString(read_delimited(frame.data, 0)[0]).push
        assert (push.channel, push.pub.data, push.pub.offset) == ("room", data, 300)


def test_a_publication_says_who_and_with_which_tags(dialect: Dialect) -> None:
    [reply] = read(dialect.encode(Published("room", FULL)))
    assert reply["push"]["pub"]["tags"] == {"event": "price"}
    assert reply["push"]["pub"]["info"]["user"] == "alice"


def test_an_answer_brings_what_was_missed(dialect: Dialect) -> None:
    event = Subscribed("a", 1, Position("e", 6), True, True, [Publication(b"1", 5), FULL], 60)
    [reply] = read(dialect.encode(event))
    assert reply["subscribe"]["recovered"] is True
    assert [each["offset"] for each in reply["subscribe"]["publications"]] == ["5", "4"]


def test_what_is_published_is_what_it_looks_like(dialect: Dialect) -> None:
    for data, kind in (
        ("eyJhIjogMX0=", Kind.JSON),
        ("aGVsbG8=", Kind.TEXT),
        ("AP8=", Kind.BYTES),
        ("WwoxXQ==", Kind.JSON),
    ):
        [command] = dialect.receive(Frame(framed(id=1, publish={"channel": "a", "data": data}), binary=True))
        assert isinstance(command, Publish)
        assert command.kind is kind
        assert b"\n" not in command.data


def test_a_frame_holds_any_number_of_commands_and_at_least_one(dialect: Dialect) -> None:
    frame = Frame(framed(id=1, ping={}) * 100_000, binary=True)
    assert list(dialect.receive(frame)) == [Ping(1)] * 100_000
    with pytest.raises(Disconnect, match="one command or more"):
        dialect.receive(Frame(b"", binary=True))


def told(commands: Iterable[object]) -> list[Any]:
    """Commands; of those that are declined for their size, that and the id."""
    size = re.compile(r"a command of (\d+) bytes: at most 64, see limits\.message_size").fullmatch
    return [
        (int(found[1]), it.id) if isinstance(it, Declined) and (found := size(str(it.why))) else it for it in commands
    ]


def test_a_command_that_is_too_long_is_known_by_its_id_and_the_others_are_read() -> None:
    strict = CentrifugeProtobuf(longest=64)
    long = framed(id=2, rpc={"method": "m" * 100})
    commands = told(strict.receive(Frame(framed(id=1, ping={}) + long + framed(id=3, ping={}), binary=True)))
    assert commands == [Ping(1), (len(long) - 1, 2), Ping(3)]
    assert told(strict.receive(Frame(long, binary=True))) == [(len(long) - 1, 2)]


@given(st.lists(st.sampled_from([b"", b"x", b"y" * 30])), st.binary(max_size=3), st.integers(1, 60))
def test_a_frame_in_portions_is_the_same_and_none_is_longer_than_it_must_be(
    messages: list[bytes], rest: bytes, size: int
) -> None:
    framed = [varint(len(each)) + each for each in messages]
    cut = list(portions(b"".join(framed) + rest, size))
    assert b"".join(cut) == b"".join(framed) + rest
    assert all(len(each) <= size or each in framed for each in cut[:-1])


def test_a_connect_that_has_a_position_in_each_of_many_channels_may_be_longer() -> None:
    subs = {f"room:{number}": {"recover": True, "epoch": "e", "offset": str(number)} for number in range(1000)}
    frame = Frame(framed(id=1, connect={"token": "t", "subs": subs}), binary=True)
    assert list(CentrifugeProtobuf(longest=1024).receive(frame)) == [
        Connect(1, "t", recover={f"room:{number}": Position("e", number) for number in range(1000)})
    ]


@given(st.binary(max_size=20_000), st.binary(max_size=5))
def test_a_message_is_found_behind_its_length(message: bytes, rest: bytes) -> None:
    framed = varint(len(message)) + message
    assert read_delimited(framed + rest, 0) == (message, len(framed))


# ------------------------------------------------------------------------------------------------------ hostile bytes

ENDLESS = b"\xff" * 11  # a varint has at most ten bytes


def message(*parts: bytes) -> bytes:
    """Bytes behind their length."""
    data = b"".join(parts)
    return varint(len(data)) + data


def field(number: int, wire_type: int, value: bytes) -> bytes:
    return varint(number << 3 | wire_type) + value


def group(depth: int) -> bytes:
    return field(99, 3, b"") * depth + field(99, 4, b"") * depth


FILTER = b""
for _ in range(2000):
    FILTER = field(6, 2, message(FILTER))

HOSTILE_MESSAGES = {
    "its length is missing": b"\x80",
    "its length is over the end": b"\x05\x08\x01",
    "its length is endless": ENDLESS + b"\x08\x01",
    "its length is padded to eleven bytes": b"\x80" * 10 + b"\x00",
    "its length is 2**63": varint(2**63) + b"\x08\x01",
    "its length is 2**70": varint(2**70) + b"\x08\x01",
    "a tag is cut off": message(b"\x80"),
    "a tag is endless": message(ENDLESS),
    "a field has the number 0": message(field(0, 0, b"\x01")),
    "a number is cut off": message(b"\x08\x80"),
    "a number is endless": message(b"\x08" + ENDLESS),
    "a wire type is unknown": message(field(1, 6, b"\x01")),
    "a group never ends": message(field(99, 3, b"") * 10),
    "a group never began": message(field(99, 4, b"")),
    "groups within groups": message(group(5000)),
    "a field is over the end": message(b"\x08\x01", field(7, 2, b"\x7f")),
    "a field's length is 2**64 - 1": message(b"\x08\x01", field(7, 2, varint(2**64 - 1))),
    "a fixed number is cut off": message(b"\x08\x01", field(99, 1, b"\x01")),
    "filters within filters": message(b"\x08\x01", field(5, 2, message(field(13, 2, message(FILTER))))),
    "a channel is no UTF-8": message(b"\x08\x01", field(7, 2, message(field(1, 2, message(b"\xff"))))),
    "a channel is half a surrogate": message(b"\x08\x01", field(7, 2, message(field(1, 2, message(b"\xed\xa0\x80"))))),
    "a token is no UTF-8": message(b"\x08\x01", field(4, 2, message(field(1, 2, message(b"\xc3"))))),
    "the key of a map is no UTF-8": message(
        b"\x08\x01", field(4, 2, message(field(3, 2, message(field(1, 2, message(b"\xff"))))))
    ),
    "a value of a filter is no UTF-8": message(
        b"\x08\x01", field(5, 2, message(field(13, 2, message(field(5, 2, message(b"\xff"))))))
    ),
    "text instead of a message": b'{"id":1,"connect":{}}',
}


@pytest.mark.parametrize("data", HOSTILE_MESSAGES.values(), ids=HOSTILE_MESSAGES)
def test_a_malformed_message_ends_the_session(dialect: Dialect, data: bytes) -> None:
    for frame in (data, framed(id=1, ping={}) + data):
        with pytest.raises(Disconnect, match="malformed command") as why:
            list(dialect.receive(Frame(frame, binary=True)))
        assert why.value.code == 3501


def test_a_malformed_message_ends_the_session_also_without_the_extension_module() -> None:
    """Where no wheel fits, protobuf runs as Python, whose errors are others."""
    script = f"""
from google.protobuf.internal import api_implementation
from freshet.dialects.centrifuge.protobuf import CentrifugeProtobuf, parse_emulation
from freshet.errors import Disconnect
from freshet.model.frame import Frame

assert api_implementation.Type() == "python"
for data in {list(HOSTILE_MESSAGES.values())!r}:
    try:
        CentrifugeProtobuf().receive(Frame(data, binary=True))
    except Disconnect as why:
        assert why.code == 3501
    else:
        raise AssertionError(data)
commands = CentrifugeProtobuf().receive(Frame({b"".join(VALID)!r}, binary=True))
print([type(command).__name__ for command in commands])
"""
    env = {**os.environ, "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python"}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=seconds(30), check=False, env=env
    )
    assert done.returncode == 0, done.stderr
    assert "'Connect', 'Subscribe', 'Publish', 'ReadHistory', 'Call', 'Send', 'Pong'" in done.stdout


@pytest.mark.parametrize("data", VALID[:-1], ids=lambda data: str(len(data)))
def test_a_command_that_is_cut_anywhere_ends_the_session(dialect: Dialect, data: bytes) -> None:
    for end in range(1, len(data)):
        with pytest.raises(Disconnect):
            dialect.receive(Frame(data[:end], binary=True))


@pytest.mark.parametrize("wire_type", [0, 1, 2, 5])
@pytest.mark.parametrize("number", range(1, 20))
def test_a_field_of_any_number_and_any_wire_type_is_read_or_passed_over(
    dialect: Dialect, number: int, wire_type: int
) -> None:
    value = {0: b"\x01", 1: bytes(8), 2: b"\x00", 5: bytes(4)}[wire_type]
    holds(dialect, Frame(message(b"\x08\x01", field(number, wire_type, value)), binary=True))
    for request in range(4, 16):
        inner = message(field(number, wire_type, value))
        holds(dialect, Frame(message(b"\x08\x01", field(request, 2, inner)), binary=True))


def test_a_field_of_another_wire_type_counts_as_unknown(dialect: Dialect) -> None:
    with pytest.raises(Disconnect, match="unknown command"):
        dialect.receive(Frame(message(b"\x08\x01", field(7, 0, b"\x01")), binary=True))
    with pytest.raises(Disconnect, match="command without a valid id"):
        dialect.receive(Frame(message(field(1, 5, bytes(4)), field(11, 2, b"\x00")), binary=True))


@given(data=st.binary(max_size=60), number=st.integers(1, 20), name=st.sampled_from([4, 5, 7, 10, 12, 13]))
def test_any_bytes_within_a_command_give_commands_or_a_disconnect(data: bytes, number: int, name: int) -> None:
    for inner in (data, field(number, 2, message(data)), field(number, 0, data)):
        holds(CentrifugeProtobuf(), Frame(message(b"\x08\x01", field(name, 2, message(inner))), binary=True))


def test_what_a_client_of_a_later_version_adds_is_passed_over(dialect: Dialect) -> None:
    connect = message(field(1, 2, message(b"t")), field(6, 2, message(b"")), field(1000, 5, bytes(4)))
    later = message(b"\x08\x01", field(99, 2, message(b"later")), field(4, 2, connect), group(3))
    assert dialect.receive(Frame(later, binary=True)) == [Connect(1, "t")]


def test_of_several_requests_in_one_command_the_last_is_carried_out(dialect: Dialect) -> None:
    command = message(b"\x08\x01", field(11, 2, b"\x00"), field(13, 2, message(field(2, 2, message(b"m")))))
    assert dialect.receive(Frame(command, binary=True)) == [Call("m", b"", 1)]


def test_a_payload_of_the_largest_size_is_taken_as_it_is() -> None:
    dialect, data = CentrifugeProtobuf(longest=2 * 1024 * 1024), bytes(range(256)) * 4096
    command = Command(id=1, publish={"channel": "a", "data": data})
    [publish] = dialect.receive(Frame(official.framed(command), binary=True))
    assert publish == Publish("a", data, 1, Kind.BYTES)
    frame = dialect.encode(Published("a", Publication(data, 2**64 - 1, Kind.BYTES)))
    [reply] = official.messages(frame)
    assert (reply.push.pub.data, reply.push.pub.offset) == (data, 2**64 - 1)


@given(frames=st.lists(st.sampled_from(VALID), min_size=1, max_size=20))
def test_messages_of_one_frame_are_commands_in_their_order(frames: list[bytes]) -> None:
    commands = list(CentrifugeProtobuf().receive(Frame(b"".join(frames), binary=True)))
    assert commands == [each for frame in frames for each in CentrifugeProtobuf().receive(Frame(frame, binary=True))]


@given(
    name=official.TEXT,
    data=st.binary(max_size=300),
    offset=st.integers(0, 2**64 - 1),
    tags=st.sampled_from([None, {}, {"a": "b"}]),
)
def test_the_common_publication_is_encoded_as_any_other(
    name: str, data: bytes, offset: int, tags: dict[str, str] | None
) -> None:
    """It has a way of its own, which is faster; an empty set of tags goes the other one."""
    frame = CentrifugeProtobuf().encode(Published(name, Publication(data, offset, Kind.BYTES, tags)))
    pub = {"data": data, "offset": offset, "tags": tags or {}}
    assert official.messages(frame) == [Reply(push={"channel": name, "pub": pub})]


# --------------------------------------------------------------------------------------------------------- emulation


@given(node=official.TEXT, session=official.TEXT, data=st.binary(max_size=100))
def test_what_the_client_of_a_stream_posts_is_read_as_it_was_written(node: str, session: str, data: bytes) -> None:
    posted = parse_emulation(EmulationRequest(node=node, session=session, data=data).SerializeToString())
    assert (posted.node, posted.session, posted.data) == (node, session, data)


@given(st.binary(max_size=100))
@example(b"\x0a\x01\xff")
@example(ENDLESS)
@example(group(5000))
def test_a_malformed_post_is_a_value_error_and_nothing_else(body: bytes) -> None:
    with suppress(ValueError):
        parse_emulation(body)


async def test_the_status_says_why_a_post_was_not_taken(server: Server) -> None:
    headers = {"content-type": "application/octet-stream"}
    elsewhere = EmulationRequest(node="another", session="x", data=framed(id=1, ping={})).SerializeToString()
    async with httpx.AsyncClient() as http:
        for body, status, word in (
            (b"\xff", 400, "malformed"),
            (b"", 404, "No such session"),
            (elsewhere, 404, "over"),
        ):
            answer = await http.post(server.http("/emulation"), content=body, headers=headers)
            assert (answer.status_code, word in answer.text) == (status, True)


# --------------------------------------------------------------------------------------------------- official clients


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    config = tmp_path_factory.mktemp("protobuf") / "freshet.toml"
    config.write_text(CONFIG)
    with serving("--config", str(config)) as server:
        yield server


async def test_a_python_client_speaks_with_one_of_json(server: Server) -> None:
    async with connected(server, "alice", use_protobuf=True) as alice, connected(server, "bob") as bob:
        ours, theirs = Listener(alice, "log:both"), Listener(bob, "log:both")
        await ours.start()
        await theirs.start()
        await ours.subscription.publish(b'{"from":"alice"}')
        await theirs.subscription.publish({"from": "bob"})
        assert [(await soon(ours.publications.get())).pub.data for _ in range(2)] == [
            b'{"from":"alice"}',
            b'{"from": "bob"}',
        ]
        assert await theirs.data(2) == [{"from": "alice"}, {"from": "bob"}]
        presence = await ours.subscription.presence()
        assert {info.user for info in presence.clients.values()} == {"alice", "bob"}


@pytest.mark.parametrize("transport", ["websocket", "http_stream"])
def test_a_javascript_client_misses_nothing(server: Server, node: Path, transport: str) -> None:
    command = [require("node"), "protobuf.mjs", server.http(""), transport, token("alice")]
    done = subprocess.run(command, cwd=node, capture_output=True, text=True, timeout=seconds(20), check=False)
    assert done.returncode == 0, done.stderr
