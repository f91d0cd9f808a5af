"""What a broker brings: messages between nodes, on channels, and the bytes of the brokers' own protocols.

Who can write there can publish everywhere, but cannot run code, stop a node, or break what it sends to its clients.
"""

import asyncio
import json
import logging
import re
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

import msgspec
from redis.exceptions import RedisError

from freshet.dialects.base import Dialect
from freshet.dialects.centrifuge.json import Centrifuge
from freshet.dialects.centrifuge.protobuf import CentrifugeProtobuf
from freshet.dialects.channel_url import ChannelEvents, ChannelPage, ChannelUrl
from freshet.dialects.socketio.packets import SocketIO
from freshet.engines.local.messages import HubConnection, to_hub, to_worker
from freshet.engines.memory import MemoryEngine
from freshet.engines.nats import messages as nats
from freshet.engines.redis import messages as redis
from freshet.engines.redis.batch import BatchedConnection
from freshet.errors import EngineUnavailable
from freshet.model.events import Delivery, Published
from freshet.model.frame import Frame
from freshet.model.log import Kind
from freshet.node.bus import Bus
from freshet.node.sharing import Sharing
from freshet.runtime.rates import Rate
from freshet.testing import ManualClock
from tests.fuzz.grammar import cut, text, value
from tests.fuzz.harness import Target

pack = msgspec.msgpack.Encoder().encode
DIALECTS: list[Dialect] = [
    Centrifuge(),
    CentrifugeProtobuf(),
    ChannelUrl("a"),
    ChannelEvents(["a"]),
    ChannelEvents(["a", "b"]),
    ChannelPage("a"),
    SocketIO("/"),
]
WORDS = [
    b"\xc0",
    b"\xc3",
    b"\xc4\x02{}",
    b"\xa1a",
    b"\x90",
    b"\x94",
    b"\x80",
    b"\xdd\xff\xff\xff\xff",
    b"\xc9\x00\x00\x00\x04\x05",
]
WORDS += [b"\xcf" + b"\xff" * 8, b"\xd3\x80" + bytes(7), b"\xca\x7f\x80\x00\x00", b"cos\nsystem\n", b"\x80\x04\x95"]


def sent_on(delivery: Delivery) -> Hashable:
    """A delivery can be encoded for the clients of every protocol, and ends no connection by what it is."""
    for dialect in DIALECTS:
        frame = dialect.encode(delivery)
        assert frame is None or isinstance(frame, Frame)
        if frame is not None and not frame.binary:
            frame.data.decode()
    return type(delivery).__name__


# --------------------------------------------------------------------------------------------------------- MessagePack


def _info(chance: Random) -> Any:
    return [text(chance), "c", chance.choice((b"", b"7", b'{"a":1}', b"{", b"1\n2", "a")), b""]


def _data(chance: Random) -> Any:
    return chance.choice((b"{}", b'{"price":1}', b"7", b"", b"\xff", b"[1,\n2]", b'"\xff"', b"{", "text", None, 7))


def body(chance: Random) -> list[Any]:
    kind = chance.choice([each.value for each in Kind] * 3 + ["other", None])
    tags = chance.choice((None, None, {"event": "a"}, {"event": "a\nid: 7"}, {"event": 1}))
    return [kind, _data(chance), tags, chance.choice((None, None, _info(chance)))][: chance.choice((4, 4, 4, 2, 1))]


def _redis(chance: Random) -> bytes:
    kind = chance.randrange(4)
    if kind == 0:
        return chance.choice((b"j", b"l")) + pack(_info(chance))
    if kind == 1:
        return pack([text(chance), chance.choice((b"", b"\x91", pack(["join", b"a"])))])
    offset = chance.choice((b"1", b"7", b"-1", b"1_0", b" 7", b"9" * 20, b"9" * 5000, b"1e3", b""))
    return b"p" + offset + b":" + chance.choice((b"epoch", b"\xff", b"")) + b":" + pack(body(chance))


def run_redis(data: bytes) -> Hashable:
    try:
        outcome = sent_on(redis.decode_delivery("a", data))
    except redis.ForeignMessage:
        outcome = "foreign"
    try:
        return outcome, len(redis.decode_node_message(data).message) > 0
    except redis.ForeignMessage:
        return outcome, None


def _nats(chance: Random) -> bytes:
    items = [body(chance) for _ in range(chance.randrange(3))]
    first = chance.choice((1, 7, 0, -1, 2**63, 2**64 - 1))
    message: list[Any] = chance.choice(
        (
            ["log", chance.choice(("epoch", "", "é")), first, items, 10, chance.choice((60, 1.5, -1)), False],
            ["said", body(chance)],
            ["came", "c", _info(chance)],
            ["went", _info(chance)],
            ["node", text(chance), b"\x91"],
            [text(chance), chance.choice((7, None, b"x"))],
        )
    )
    headers = chance.choice(
        (
            b"",
            b"NATS/1.0 503\r\n\r\n",
            b"NATS/1.0\r\nNats-Sequence: 7\r\n\r\n",
            b"NATS/1.0\r\nNats-Sequence:" + b"9" * 5000,
        )
    )
    return bytes((len(headers) & 255,)) + headers + pack(message)


def run_nats(data: bytes) -> Hashable:
    """A byte that says how long the headers are, these, and the message."""
    size = data[0] if data else 0
    message = nats.BrokerMessage("s", "", data[1 : 1 + size], data[1 + size :])
    outcome: Hashable = message.status > 0, message.header(b"Nats-Sequence").isdigit()
    try:
        decoded = nats.decode(message.data)
    except nats.UnknownMessage:
        return outcome, "unknown"
    if isinstance(decoded, nats.LogMessage):
        for offset, item in enumerate(decoded.items, decoded.first):
            sent_on(Published("a", item.at(offset), decoded.epoch))
    return outcome, type(decoded).__name__


def _replies(chance: Random) -> bytes:
    return json.dumps(_reply(chance)).encode()


def _reply(chance: Random, depth: int = 0) -> Any:
    """What Redis may reply, as JSON; a text stands for bytes."""
    entry = ["7-0", ["b", pack(body(chance)).decode("latin-1")]]
    known = (["epoch", 7], ["epoch", 7, [entry, entry]], [2, 0, ["c", pack(_info(chance)).decode("latin-1")]])
    return chance.choice(known) if chance.random() < 0.7 else value(chance)


def _as_reply(it: Any) -> Any:
    if isinstance(it, list):
        return [_as_reply(each) for each in it]
    if isinstance(it, dict):
        return {name.encode("latin-1", "replace"): _as_reply(each) for name, each in it.items()}
    return it.encode("latin-1", "replace") if isinstance(it, str) else it


def run_replies(data: bytes) -> Hashable:
    try:
        reply = _as_reply(json.loads(data.decode("latin-1")))
    except (ValueError, RecursionError):
        return None
    outcomes: list[Hashable] = []
    for read in (redis.read_position, redis.read_stream, redis.read_presence):
        try:
            outcomes.append(type(read(reply)).__name__)  # type: ignore[operator]
        except EngineUnavailable as why:
            outcomes.append(str(why)[:60])
    return tuple(outcomes)


# -------------------------------------------------------------------------------------------------------- connections


class Loud(logging.Handler):
    """Keeps what is logged as an error: what an input is not to cause."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def check(self) -> None:
        records, self.records = self.records, []
        for record in records:
            raise AssertionError(f"logged: {record.getMessage()[:200]}") from (
                record.exc_info[1] if record.exc_info else None
            )


@contextmanager
def silent(*names: str) -> Iterator[None]:
    """These loggers write nothing: a line for an input is of no interest, and costs more than the input.

    Not `logging.disable`, which forgets for all loggers of the process at which level they are.
    """
    loggers = [logging.getLogger(name) for name in names]
    for each in loggers:
        each.disabled = True
    try:
        yield
    finally:
        for each in loggers:
            each.disabled = False


class OneLoop:
    """An event loop of a target, which goes on from input to input."""

    def __init__(self) -> None:
        self._runner: asyncio.Runner | None = None

    def __call__(self, coroutine: Any) -> Any:
        if self._runner is None:
            self._runner = asyncio.Runner()
            self._loop = self._runner.get_loop()
            self._loop.set_exception_handler(self._failed)
            self.error: Any = None
        result = self._loop.run_until_complete(coroutine)  # the runner's `run` sets a signal handler for each
        if self.error is not None:
            error, self.error = self.error, None
            raise AssertionError(str(error.get("message"))) from error.get("exception")
        return result

    def _failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.error = context


def run_local(data: bytes) -> Hashable:
    """The connection between a worker and its hub: a byte with the size of pieces, and what comes."""
    return _on_loop(_local(data))


class Nowhere(asyncio.Transport):
    """A connection that leads nowhere."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False

    def write(self, data: Any) -> None:
        self.written += data

    def abort(self) -> None:
        self.closed = True

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        """There is no more than it is given."""

    resume_reading = pause_reading


async def _local(data: bytes) -> Hashable:
    outcomes: list[Hashable] = []
    for decoder in (to_worker, to_hub):
        got: list[Hashable] = []

        def receive(connection: HubConnection, messages: list[Any], got: Any = got) -> None:
            for message in messages:
                got.append(type(message).__name__)
                if hasattr(message, "delivery"):
                    message.delivery()

        connection = HubConnection(decoder, receive, lambda connection: None)
        transport = Nowhere()
        connection.connection_made(transport)
        with silent("freshet.engines.local"):
            for piece in cut(data[1:], data[:1]):
                if not transport.closed:
                    connection.data_received(piece)
        outcomes.append((tuple(got[:3]), transport.closed))
    return tuple(outcomes)


def _local_messages(chance: Random) -> bytes:
    item = [_data(chance), chance.choice((0, 7, -1)), chance.choice(("json", "text", "bytes", "x")), None, None]
    out = bytes((chance.choice((0, 1, 3, 100)),))
    for _ in range(chance.randrange(1, 4)):
        message: list[Any] = chance.choice(
            (
                ["delivered", "a", item, "epoch", None, None],
                ["delivered", "a", None, "", _info(chance), None],
                ["delivered", "a", None, "", None, None],
                ["notification", b"\x91"],
                ["reply", 1, ["epoch", 7], [item], {}, [], ""],
                ["hello", "node", "memory://", 60],
                ["publish", 1, "a", item, None, None],
                ["read", 1, "a", [10, 60.0], None, -1, False],
                [text(chance), chance.choice((7, None, b"x"))],
            )
        )
        data = pack(message)
        out += (len(data) if chance.random() < 0.95 else chance.choice((0, 2**32 - 1))).to_bytes(4, "big") + data
    return out


def run_bus(data: bytes) -> Hashable:
    return _on_loop(_bus(data))


async def _bus(data: bytes) -> Hashable:
    bus = Bus("here", MemoryEngine(60))
    buckets = Sharing(bus, ManualClock(), "cluster").buckets("user", Rate(1, 10))
    with silent("freshet.bus", "freshet.limits"):
        bus.receive(data)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await bus.stop()
    assert len(bus.peers) <= 1
    return bus.unreadable, len(bus.peers), min(len(buckets), 2)


def _bus_messages(chance: Random) -> bytes:
    kind = chance.choice(("reply", "failure", "cancel", "probe", "join", "leave", "used", "used", text(chance)))
    used = pack({"user": {text(chance): chance.choice((1, 2.5, 0, -1, 1e300, float("nan"), "x"))}})
    return pack(
        [kind, chance.choice((b"", b"a", b"\xff" * 100, used)), chance.choice((0, 1, 2**63)), text(chance)][
            : chance.choice((4, 4, 2))
        ]
    )


def run_resp(data: bytes) -> Hashable:
    return _on_loop(_resp(data))


async def _resp(data: bytes) -> Hashable:
    """Bytes of a server that says it is Redis, to a connection with two commands without a reply."""
    if _CROWD.search(data) or len(data) > 8192:  # a line that does not end is searched anew with each piece
        return None
    pushes: list[Any] = []
    lost: list[str] = []
    connection = BatchedConnection(pushes.append, lost.append)
    replies = [connection.request(b"PING"), connection.subscribe(b"subscribe", b"a")]
    with silent("freshet"):
        for piece in cut(data[1:], data[:1]):
            connection.data_received(piece)
    assert len(lost) <= 1
    connection.close()
    errors = []
    for reply in replies:
        error = reply.exception()
        assert error is None or isinstance(error, (RedisError, EOFError)), repr(error)
        errors.append(type(error).__name__)
    return tuple(errors), bool(lost), min(len(pushes), 2), "handled" in "".join(lost)


_CROWD = re.compile(rb"[*~>%][+0]*[1-9]\d{4}")  # hiredis makes room for as many as are announced


def _resp_messages(chance: Random) -> bytes:
    known = [
        b"+OK\r\n",
        b"$2\r\nhi\r\n",
        b":7\r\n",
        b"*2\r\n:1\r\n:2\r\n",
        b"-ERR no\r\n",
        b"_\r\n",
        b"#t\r\n",
        b",1.5\r\n",
        b"(99\r\n",
    ]
    known += [
        b">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nb\r\n",
        b">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n",
        b"%1\r\n+a\r\n:1\r\n",
    ]
    known += [
        b"~1\r\n+a\r\n",
        b"=5\r\ntxt:x\r\n",
        b"%1\r\n*0\r\n:1\r\n",
        b"$-1\r\n",
        b"*-1\r\n",
        b"$-5\r\n",
        b"*99999999999\r\n",
        b"!3\r\nERR\r\n",
    ]
    return bytes((chance.choice((0, 1, 7)),)) + b"".join(chance.choices(known, k=chance.randrange(1, 6)))


_on_loop = OneLoop()
TARGETS = [
    Target("redis", run_redis, _redis, WORDS, each=1e-6),
    Target("nats", run_nats, _nats, WORDS, each=1e-6),
    Target("replies", run_replies, _replies, [b"null", b"[", b'"7-0"', b"{}", b"-1"], each=1e-6, swells=400),
    Target("local", run_local, _local_messages, WORDS, each=1e-6),
    Target("bus", run_bus, _bus_messages, WORDS, each=1e-6),
    Target(
        "resp",
        run_resp,
        _resp_messages,
        [b"\r\n", b"$", b"*", b"%", b"~", b">", b"-1\r\n", b":"],
        each=5e-6,
        swells=400,
    ),
]
