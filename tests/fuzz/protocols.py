"""The dialects: what clients send, in each protocol, before anybody looks at who they are."""

import json
from collections.abc import Hashable, Iterable
from random import Random
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

from google.protobuf.json_format import ParseDict

from freshet.config import Bound
from freshet.dialects.base import Dialect, kind_of
from freshet.dialects.centrifuge import client_pb2
from freshet.dialects.centrifuge.json import Centrifuge
from freshet.dialects.centrifuge.protobuf import CentrifugeProtobuf, parse_emulation, varint
from freshet.dialects.channel_url import ChannelEvents, ChannelPage, ChannelUrl
from freshet.dialects.socketio import engineio
from freshet.dialects.socketio.packets import PacketDecoder, SocketIO
from freshet.errors import Disconnect, Refusal
from freshet.model.commands import Command, Declined, Publish, Subscribe
from freshet.model.events import Published
from freshet.model.frame import Frame, Handshake
from freshet.model.json_text import HalfInText, Reader, one_line, outline
from freshet.model.log import Kind, Publication
from freshet.rules.filters import CompiledFilter
from tests.fuzz.grammar import json_text, maybe, nested, text, value
from tests.fuzz.harness import Target

JSON_WORDS = [
    b"null",
    b"{}",
    b"[]",
    b'""',
    b'"',
    b",",
    b":",
    b"{",
    b"}",
    b"\\ud83d",
    b"\\u0000",
    b"\\",
    b"NaN",
    b"1e400",
]
CENTRIFUGE, PROTOBUF = Centrifuge(), CentrifugeProtobuf()
READERS: list[Dialect] = [CENTRIFUGE, PROTOBUF, ChannelUrl("a"), SocketIO("/")]


def is_json(data: bytes) -> bool | None:
    """As Python's own parser has it; None: it is too deep for that."""
    try:
        json.loads(data.decode(), parse_constant=_refuse, parse_int=len)  # which has no limit of digits
    except RecursionError:
        return None
    except ValueError:
        return False
    return True


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def ended(why: Disconnect) -> Hashable:
    """The outcome, once it is a documented one."""
    assert 1000 <= why.code < 5000
    assert len(why.reason.encode()) <= 123
    return why.code, why.reason[:24]


def read_by_others(publication: Publication) -> None:
    """What a client publishes is fit for the clients of every protocol."""
    for dialect in READERS:
        frame = dialect.encode(Published("a", publication))
        if frame is None:
            continue
        if not frame.binary:
            frame.data.decode()
        if dialect is CENTRIFUGE:
            assert b"\n" not in frame.data
            assert is_json(frame.data) is not False, f"not JSON: {frame.data[:200]!r}"
    event = ChannelEvents(["a"]).encode(Published("a", publication))
    assert event is not None
    assert event.data.count(b"\n\n") == 1


def commands(made: Iterable[Command]) -> Hashable:
    kinds = []
    for command in made:
        assert isinstance(command, Command)
        kinds.append(type(command).__name__)
        if isinstance(command, Publish) and command.change is None:
            read_by_others(Publication(command.data, 1, command.kind))
        elif isinstance(command, Subscribe) and command.filter is not None:
            try:
                CompiledFilter(command.filter)({"a": "1"})
            except ValueError as error:
                kinds.append(str(error)[:8])
        elif isinstance(command, Declined):
            assert isinstance(command.why, Refusal)
            kinds.append(command.why.message[:24])
    return tuple(kinds[:4]), len(kinds) > 4


def received(dialect: Dialect, frame: Frame) -> Hashable:
    try:
        return commands(dialect.receive(frame))
    except Disconnect as why:
        return ended(why)


# ----------------------------------------------------------------------------------------------------------- JSON texts


def run_json(data: bytes) -> Hashable:
    """`kind_of` against Python's parser; and the reader that comes second."""
    try:
        kind, passed = kind_of(data)
    except RecursionError:
        return "deep"
    if is_json(data) is not None:
        assert (kind is Kind.JSON) is is_json(data), f"taken for {kind}"
    if kind is Kind.JSON:
        assert b"\n" not in passed
        assert b"\r" not in passed
    try:
        again: Hashable = len(Reader(dict[str, Any])(data)) > 1
    except (ValueError, RecursionError, HalfInText) as error:
        again = type(error).__name__
    outlined = outline(data)
    assert len(outlined) <= 2 * len(data) + 8
    return kind, again, len(outlined) == len(data)


# ----------------------------------------------------------------------------------------------------------- Centrifuge


def _filter(chance: Random, depth: int = 0) -> Any:
    compared = {
        "key": lambda: "a",
        "cmp": lambda: chance.choice(
            ("eq", "neq", "in", "nin", "ex", "nex", "sw", "ew", "ct", "gt", "gte", "lt", "lte")
        ),
        "val": lambda: chance.choice(("1", "-0.5", "", "x", "9" * 41)),
        "vals": lambda: ["1"] * chance.choice((0, 1, 100)),
    }
    if depth < chance.choice((1, 3, 12)) and chance.random() < 0.6:
        op = chance.choice(("and", "or", "not", "xor"))
        return {"op": op, "nodes": [_filter(chance, depth + 1) for _ in range(chance.choice((0, 1, 1, 2)))]}
    return maybe(chance, compared)


def _position(chance: Random) -> dict[str, Any]:
    return {
        "epoch": lambda: text(chance),
        "offset": lambda: chance.choice((0, 1, 5, 2**63, 2**64 - 1, 2**64, -1)),
    }


def request(chance: Random) -> tuple[str, Any]:
    """A request of the protocol by its name."""
    channel = {"channel": lambda: text(chance)}
    sub = {
        **channel,
        **_position(chance),
        "token": lambda: "a.b.c",
        "recover": lambda: True,
        "data": lambda: value(chance),
    }
    sub |= {
        "type": lambda: chance.randrange(3),
        "flag": lambda: 1,
        "delta": lambda: "fossil",
        "tf": lambda: _filter(chance),
    }
    fields: dict[str, dict[str, Any]] = {
        "connect": {
            "token": lambda: "a.b.c",
            "data": lambda: value(chance),
            "name": lambda: "js",
            "subs": lambda: {"a": maybe(chance, sub)},
        },
        "subscribe": sub,
        "unsubscribe": channel,
        "publish": {**channel, "data": lambda: value(chance), "type": lambda: chance.randrange(3)},
        "presence": channel,
        "presence_stats": channel,
        "history": {
            **channel,
            "limit": lambda: chance.choice((0, -1, 10, 2**31)),
            "since": lambda: maybe(chance, _position(chance)),
            "reverse": lambda: True,
        },
        "ping": {},
        "send": {"data": lambda: value(chance)},
        "rpc": {"method": lambda: text(chance), "data": lambda: value(chance)},
        "refresh": {"token": lambda: "a.b.c"},
        "sub_refresh": {**channel, "token": lambda: ""},
    }
    name = chance.choice(list(fields))
    return name, maybe(chance, fields[name])


def line(chance: Random, number: int) -> bytes:
    name, fields = request(chance)
    if chance.random() < 0.05:
        return b'{"id":%d,"publish":{"channel":"a","data":%b}}' % (number, nested(chance).encode())
    command: dict[str, Any] = {"id": number} if chance.random() < 0.95 else {}
    if chance.random() < 0.03:
        command[request(chance)[0]] = {}
    return json_text(chance, {**command, name: fields})


def lines(chance: Random) -> bytes:
    count = chance.choice((1, 1, 1, 2, 5, 200))
    return chance.choice((b"\n", b"\n", b"\r\n", b"\n\n")).join(line(chance, number + 1) for number in range(count))


def run_centrifuge(data: bytes) -> Hashable:
    try:
        data.decode()
    except UnicodeDecodeError:
        return received(CENTRIFUGE, Frame(data, binary=True))  # no transport has looked
    return received(CENTRIFUGE, Frame(data))


def protobuf(chance: Random) -> bytes:
    out = b""
    for number in range(chance.choice((1, 1, 2, 5))):
        name, fields = request(chance)
        command = client_pb2.Command(id=number + 1)
        for field in ("data", "since", "tf"):
            if field in fields and field == "data":
                fields[field] = "eyJhIjoxfQ=="
        try:
            ParseDict({name: fields}, command)
        except Exception:  # what has no place in a message
            getattr(command, name).SetInParent()
        body = command.SerializeToString()
        out += varint(len(body) if chance.random() < 0.95 else chance.choice((0, 2**32, 2**63, 2**70))) + body
    return out


def run_protobuf(data: bytes) -> Hashable:
    try:
        posted: Hashable = len(parse_emulation(data).data) > 0
    except ValueError:
        posted = None
    return received(PROTOBUF, Frame(data, binary=True)), posted


# ------------------------------------------------------------------------------------------------------------ Socket.IO


def packet(chance: Random) -> bytes:
    kind = chance.choice("0123456" if chance.random() < 0.3 else "225")
    attached = f"{chance.choice((0, 1, 2, 10, 11, 10**9))}-" if kind in "56" or chance.random() < 0.05 else ""
    space = chance.choice(("", "", "/,", "/admin,", "/a?b=1,", "/" + "x" * 300 + ","))
    id = chance.choice(("", "", "0", "12", "9" * 15, "9" * 20))
    arguments: list[Any] = [chance.choice(("message", "publish", 7, "connect", "", value(chance))), value(chance)]
    for number in range(chance.randrange(3)):
        places = (number, number, -1, "0", 1.0)
        arguments += [{"_placeholder": chance.choice((True, True, 1)), "num": chance.choice(places)}]
    body = json_text(chance, arguments if kind in "2356" else chance.choice((None, {"token": "x"}, value(chance))))
    if chance.random() < 0.04:
        body = b'["message",' + nested(chance).encode() + b"]"
    return f"4{kind}{attached}{space}{id}".encode() + body


def packets(chance: Random) -> bytes:
    """As in the body of a poll."""
    parts = []
    for _ in range(chance.choice((1, 1, 2, 4))):
        parts += [packet(chance)]
        parts += [
            chance.choice((b"bAQID", b"b", b"b!", b"bQQ==", b"b" + b"A" * 4000))
            for _ in range(chance.choice((0, 0, 1, 2)))
        ]
        if chance.random() < 0.2:
            parts.append(chance.choice((b"2", b"3", b"1", b"2probe", b"5", b"6", b"7", b"")))
    return b"\x1e".join(parts)


def run_socketio(data: bytes) -> Hashable:
    decoder = PacketDecoder(Bound(6000, "limits.packet_size"))
    outcome: list[Hashable] = []
    try:
        for frame in engineio.packets(data):
            if not (frame.binary or frame.data[:1] == b"4"):
                outcome.append(frame.data[:1])
                continue
            made = decoder.feed(frame)
            outcome.append(None if made is None else (made.type.name, made.refused[:10], made.id is None))
            if made is not None and made.type.name == "EVENT":
                assert all(is_json(bytes(each)) is not False for each in made.data[1:])
    except Disconnect as why:
        outcome.append(ended(why))
    assert sum(len(each) for each in decoder._attachments) <= 6000
    return tuple(outcome[:4])


# ---------------------------------------------------------------------------------------------------------- channel URL


def query(chance: Random) -> bytes:
    place = chance.choice(
        ("oldest", "e:1", "e:", ":", "e:-1", "e:" + "9" * 19, "e:" + "9" * 20, "e:\u0661", "a:b:3", "")
    )
    several = urlencode({"a": place, chance.choice(("b", "c")): "e:2"})
    given = {
        "since": lambda: chance.choice((place, several)),
        "lastEventId": lambda: place,
        "token": lambda: "a.b.c",
        "wait": lambda: chance.choice(("1", "x", "1e9", "-1", "9" * 12)),
        "limit": lambda: chance.choice(("0", "10", "1.5", "", "9" * 9)),
        "channel": lambda: text(chance),
    }
    pairs = maybe(chance, given)
    pairs = {name: each if isinstance(each, str) else "0" for name, each in pairs.items()}
    return "&".join(f"{name}={quote(each, safe=':')}" for name, each in pairs.items()).encode()


def run_channel_url(data: bytes) -> Hashable:
    """As a query, as the header `Last-Event-ID`, and as what is sent on the WebSocket or by POST."""
    outcomes: list[Hashable] = []
    header = data.decode("latin-1")
    asked = dict(parse_qsl(header, keep_blank_values=True))
    for dialect in (ChannelUrl("a"), ChannelEvents(["a"]), ChannelEvents(["a", "b"]), ChannelPage("a", limit=5)):
        for opening in (
            Handshake("/", query=asked),
            Handshake("/", headers={"last-event-id": header, "authorization": header}),
        ):
            try:
                outcomes.append(commands(dialect.opened(opening)))
            except Disconnect as why:
                outcomes.append(ended(why))
    try:
        data.decode()
        outcomes.append(received(ChannelUrl("a"), Frame(data)))
    except UnicodeDecodeError:
        pass
    outcomes.append(received(ChannelUrl("a"), Frame(data, binary=True)))
    assert len(one_line(data)) == len(data)
    return tuple(outcomes)


PROTOBUF_WORDS = [
    varint(2**63),
    varint(2**21),
    b"\x00",
    b"\x0a",
    b"\x12",
    b"\x22\x00",
    b"\x2a\x05",
    b"\xff" * 9 + b"\x01",
]
TARGETS = [
    Target("json", run_json, json_text, JSON_WORDS, each=1e-6),
    Target(
        "centrifuge",
        run_centrifuge,
        lines,
        [*JSON_WORDS, b"\n", b'"id":', b'"publish":', b'"channel":"a"', b'"tf":'],
        each=2e-6,
    ),
    Target("protobuf", run_protobuf, protobuf, PROTOBUF_WORDS, each=2e-6, swells=400),
    Target(
        "socketio",
        run_socketio,
        packets,
        [*JSON_WORDS, b"\x1e", b"42", b"451-", b"b", b'{"_placeholder":true,"num":0}'],
        each=1e-6,
    ),
    Target(
        "channel_url",
        run_channel_url,
        query,
        [b"since=", b"&", b"%", b"e:1", b"oldest", b"+", b"=", b"%ed%a0%80"],
        each=4e-6,
        swells=400,
    ),
]
