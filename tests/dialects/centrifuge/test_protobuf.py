"""The Centrifugal protocol as Protobuf: it keeps the contract of dialects, and official clients understand it."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from centrifuge.protocol.client_pb2 import Command, Reply
from google.protobuf.json_format import MessageToDict, ParseDict
from hypothesis import given
from hypothesis import strategies as st

from freshet.dialects.base import Dialect
from freshet.dialects.centrifuge import wire as protobuf
from freshet.dialects.centrifuge.json import COMMANDS_PER_FRAME
from freshet.dialects.centrifuge.protobuf import CentrifugeProtobuf
from freshet.dialects.centrifuge.wire import Scalar, decode, encode, read_delimited, read_varint, varint
from freshet.errors import Disconnect
from freshet.model.commands import Connect, Pong, Publish, ReadHistory, Subscribe
from freshet.model.events import Published, Subscribed
from freshet.model.frame import Frame
from freshet.model.log import Kind, Position, Publication
from tests.contracts.dialect import *  # noqa: F403 - the contract's tests are this module's
from tests.contracts.dialect import EVENTS, FULL
from tests.tools.clients import CONFIG, Listener, connected, soon, token
from tests.tools.need import require
from tests.tools.patience import seconds
from tests.tools.serving import Server, serving


def framed(**command: Any) -> bytes:
    """As an official client sends it."""
    data = ParseDict(command, Command()).SerializeToString()
    return varint(len(data)) + data


def read(frame: Frame | None) -> list[dict[str, Any]]:
    """As an official client reads it."""
    assert frame is not None
    assert frame.binary
    replies, at = [], 0
    while at < len(frame.data):
        data, at = read_delimited(frame.data, at)
        replies.append(MessageToDict(Reply.FromString(data), preserving_proto_field_name=True))
    return replies


@pytest.fixture
def dialect() -> Dialect:
    return CentrifugeProtobuf()


@pytest.fixture
def between() -> bytes:
    return b""


@pytest.fixture
def valid() -> list[bytes]:
    return [
        framed(id=1, connect={"token": "t", "subs": {"a": {"recover": True, "epoch": "e", "offset": "3"}}}),
        framed(id=2, subscribe={"channel": "a", "recover": True, "epoch": "e", "offset": "7"}),
        framed(id=3, publish={"channel": "a", "data": "eyJhIjoxfQ=="}),
        framed(id=4, history={"channel": "a", "limit": -1, "since": {"offset": "3", "epoch": "e"}, "reverse": True}),
        framed(id=5, rpc={"method": "m", "data": ""}),
        framed(send={"data": "e30="}),
        framed(),
    ]


def test_commands_are_those_of_the_official_client(dialect: Dialect, valid: list[bytes]) -> None:
    commands = dialect.receive(Frame(b"".join(valid), binary=True))
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
    [told] = read(dialect.encode(Published("room", FULL)))
    assert told["push"]["pub"]["tags"] == {"event": "price"}
    assert told["push"]["pub"]["info"]["user"] == "alice"


def test_an_answer_brings_what_was_missed(dialect: Dialect) -> None:
    event = Subscribed("a", 1, Position("e", 6), True, True, [Publication(b"1", 5), FULL], 60)
    [told] = read(dialect.encode(event))
    assert told["subscribe"]["recovered"] is True
    assert [each["offset"] for each in told["subscribe"]["publications"]] == ["5", "4"]


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


@pytest.mark.parametrize("count", [COMMANDS_PER_FRAME, COMMANDS_PER_FRAME + 1])
def test_a_frame_holds_a_limited_number_of_commands(dialect: Dialect, count: int) -> None:
    frame = Frame(b"\0" * count, binary=True)
    if count <= COMMANDS_PER_FRAME:
        assert len(dialect.receive(frame)) == count
    else:
        with pytest.raises(Disconnect, match="1 to 1024"):
            dialect.receive(frame)


@given(st.integers(0, 2**64 - 1))
def test_a_number_is_read_as_it_was_written(number: int) -> None:
    assert read_varint(varint(number), 0) == (number, len(varint(number)))


@given(st.integers(-(2**63), 2**63 - 1), st.text(st.characters(exclude_categories=["Cs"])), st.binary(), st.booleans())
def test_a_message_is_read_as_it_was_written(number: int, text: str, data: bytes, flag: bool) -> None:
    fields = {
        "number": (1, Scalar.INT),
        "text": (2, Scalar.TEXT),
        "data": (300, Scalar.BYTES),
        "flag": (4, Scalar.BOOL),
    }
    message = protobuf.Message(**fields, inner=(5, protobuf.Message()))
    value = {"number": number, "text": text, "data": data, "flag": flag}
    there = {name: each for name, each in value.items() if each}
    assert decode(message, encode(message, {**value, "inner": {}})) == {**there, "inner": {}}


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
