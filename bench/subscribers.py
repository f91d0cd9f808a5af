"""Clients that only count: each transport and dialect, spoken on a bare socket with as little work as can be.

A subscriber opens as a real client does, and from then on counts how often the marker comes that every publication
holds.
"""

import asyncio
import re
from collections.abc import Callable
from typing import NamedTuple

from freshet.dialects.centrifuge.client_pb2 import Command
from freshet.dialects.centrifuge.protobuf import varint

MARK = b'"mark"'
BEGIN = b"GET %b HTTP/1.1\r\nHost: bench\r\n%b\r\n"
UPGRADE = (
    b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%b"
)
EVENTS = b"Accept: text/event-stream\r\n"
LINES = b'{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"bench"}}'
_commands = [Command(id=1, connect={}), Command(id=2, subscribe={"channel": "bench"})]
MESSAGES = b"".join(varint(command.ByteSize()) + command.SerializeToString() for command in _commands)


def framed(data: bytes, opcode: int = 1) -> bytes:
    """A WebSocket message of a client, masked with zeros."""
    length = bytes((0x80 | len(data),)) if len(data) < 126 else b"\xfe" + len(data).to_bytes(2)
    return bytes((0x80 | opcode,)) + length + bytes(4) + data


class Way(NamedTuple):
    """How a client subscribes.

    steps: what it sends, and what it waits for before it sends the next; after the last one it is subscribed. beside:
    the way of the same dialect over a WebSocket; empty: it is one.
    """

    name: str
    steps: list[tuple[bytes, bytes]]
    subscriber: Callable[["Count", "Way"], "Subscriber"]
    beside: str = ""


class Count:
    """How many publications all subscribers of a round have received."""

    def __init__(self) -> None:
        self.received = 0
        self.due = 0
        self.done = asyncio.Event()

    def add(self, number: int) -> None:
        self.received += number
        if self.received >= self.due:
            self.done.set()

    def expect(self, number: int) -> None:
        """So many more, from now on: `done` is set when they were received."""
        self.due = self.received + number
        self.done.clear()


class Subscriber(asyncio.Protocol):
    """A stream: one connection, which is opened and then read."""

    def __init__(self, count: Count, way: Way) -> None:
        self._count = count
        self._steps = list(way.steps)
        self._came = b""
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.transport.write(self._steps[0][0])

    def data_received(self, data: bytes) -> None:
        came = self._came + data
        if self.ready.done():
            self._count.add(came.count(MARK))
            self._came = came[-len(MARK) + 1 :]
            return
        if self._steps[0][1] not in came:
            self._came = came
            return
        self._came = b""
        self.stepped(came)

    def stepped(self, came: bytes) -> None:
        self._steps.pop(0)
        if self._steps:
            self.transport.write(self._steps[0][0])
        else:
            self.ready.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ready.done():
            self.ready.set_exception(ConnectionError(f"closed during {self._steps[0]}: {self._came!r}"))


_length = re.compile(rb"content-length: (\d+)", re.IGNORECASE).search


class Poller(Subscriber):
    """A request, its answer, and the next request. Steps are requests, too."""

    place = b""

    def data_received(self, data: bytes) -> None:
        self._came += data
        head, found, body = self._came.partition(b"\r\n\r\n")
        if not found:
            return
        length = _length(head)
        if length is None:
            if not body.endswith(b"0\r\n\r\n"):
                return
            body = _unchunked(body)
        elif len(body) < int(length[1]):
            return
        self._came = b""
        self.answered(head, body)

    def answered(self, head: bytes, body: bytes) -> None:
        raise NotImplementedError


def _unchunked(body: bytes) -> bytes:
    data = b""
    while body[:1] != b"0":
        size, _, rest = body.partition(b"\r\n")
        data, body = data + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return data


class PagePoller(Poller):
    """The pages of a channel's URL."""

    def answered(self, head: bytes, body: bytes) -> None:
        epoch, offset = re.search(rb'"epoch":"([^"]*)","offset":(\d+)', body).groups()  # type: ignore[union-attr]
        self.transport.write(BEGIN % (b"/channels/bench?since=%b:%b&wait=60" % (epoch, offset), b""))
        if not self.ready.done():
            self.ready.set_result(None)
        else:
            self._count.add(body.count(MARK))


class EnginePoller(Poller):
    """The polls of Socket.IO. What it sends first goes by the same connection."""

    sid = b""

    def answered(self, head: bytes, body: bytes) -> None:
        if not self.sid:
            self.sid = re.search(rb'"sid":"([^"]*)"', body)[1]  # type: ignore[index]
            self._unsent = [b"40", b'420["enter"]']
            self._post()
        elif body == b"ok":
            self._poll()
        elif self._unsent:
            self._post()
        elif not self.ready.done() and b"430[true]" in body:
            self.ready.set_result(None)
            self._poll()
        else:
            if self.ready.done():
                self._count.add(body.count(MARK))
            self._poll()

    def _post(self) -> None:
        data = self._unsent.pop(0)
        head = b"Content-Type: text/plain\r\nContent-Length: %d\r\n" % len(data)
        self.transport.write(b"POST" + BEGIN[3:] % (self._url(), head) + data)

    def _poll(self) -> None:
        self.transport.write(BEGIN % (self._url(), b""))

    def _url(self) -> bytes:
        return b"/socket.io/?EIO=4&transport=polling&sid=" + self.sid


def _websocket(path: bytes, *steps: tuple[bytes, bytes], protocol: bytes = b"") -> list[tuple[bytes, bytes]]:
    return [(BEGIN % (path, UPGRADE % protocol), b"\r\n\r\n"), *steps]


def _posted(path: bytes, media_type: bytes, body: bytes) -> bytes:
    head = b"Content-Type: %b\r\nContent-Length: %d\r\n" % (media_type, len(body))
    return b"POST" + BEGIN[3:] % (path, head) + body


_ENGINE = b"/socket.io/?EIO=4&transport="
SOCKETIO_WEBSOCKET = Way(
    "Socket.IO, WebSocket",
    _websocket(_ENGINE + b"websocket", (framed(b"40"), b'40{"sid"'), (framed(b'420["enter"]'), b"430[true]")),
    Subscriber,
)
SOCKETIO_POLLING = Way(
    "Socket.IO, long polling",
    [(BEGIN % (_ENGINE + b"polling", b""), b"")],
    EnginePoller,
    SOCKETIO_WEBSOCKET.name,
)
PLAIN, CENTRIFUGE = "channel's URL, WebSocket", "Centrifuge JSON, WebSocket"
WAYS = [
    Way(PLAIN, _websocket(b"/channels/bench"), Subscriber),
    Way(
        "channel's URL, SSE",
        [(BEGIN % (b"/channels/bench", b"Accept: text/event-stream\r\n"), b"subscribed")],
        Subscriber,
        PLAIN,
    ),
    Way("channel's URL, long polling", [(BEGIN % (b"/channels/bench?limit=0", b""), b"")], PagePoller, PLAIN),
    Way(
        CENTRIFUGE,
        _websocket(b"/connection/websocket", (framed(LINES), b'"id":2')),
        Subscriber,
    ),
    Way(
        "Centrifuge Protobuf, WebSocket",
        _websocket(
            b"/connection/websocket",
            (framed(MESSAGES, 2), b"\x08\x02"),
            protocol=b"Sec-WebSocket-Protocol: centrifuge-protobuf\r\n",
        ),
        Subscriber,
    ),
    Way(
        "Centrifuge JSON, HTTP stream",
        [(_posted(b"/connection/http_stream", b"application/json", LINES), b'"id":2')],
        Subscriber,
        CENTRIFUGE,
    ),
    Way(
        "Centrifuge JSON, SSE",
        [
            (
                BEGIN
                % (
                    b"/connection/sse?cf_connect=" + LINES.replace(b"\n", b"%0A").replace(b'"', b"%22"),
                    EVENTS,
                ),
                b'"id":2',
            )
        ],
        Subscriber,
        CENTRIFUGE,
    ),
    SOCKETIO_WEBSOCKET,
    Way(
        "Socket.IO, WebSocket, with recovery",
        _websocket(
            _ENGINE + b"websocket",
            (framed(b"40/kept,"), b'40/kept,{"sid"'),
            (framed(b'42/kept,0["enter"]'), b"43/kept,0[true]"),
        ),
        Subscriber,
        SOCKETIO_WEBSOCKET.name,
    ),
    SOCKETIO_POLLING,
]
