"""Subscribers that come back and recover, each in one channel, over every transport.

They are small, so that thousands fit into one process; the official clients have ledgers of their own in other tests.
"""

import asyncio
import json
import random
import ssl
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import cached_property
from typing import Any
from urllib.parse import quote

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, WebSocketException

PATIENCE = 5.0  # seconds for a connection, and for the next sign of life
WAIT = 2  # seconds that a long poll waits
SMALL = 65536  # bytes that the kernel may keep for one that does not read
LIMIT = 1 << 26  # bytes of a message: all that was missed comes in one

Ask = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


class Subscriber(ABC):
    """addresses: `host:port` of the servers, tried in turn from the `first`. given: see `Ledger`. trust: they use TLS.

    back: when, by the monotonic clock, it was subscribed again last.
    """

    def __init__(
        self,
        addresses: list[str],
        channel: str,
        given: list[int | None],
        first: int,
        trust: ssl.SSLContext | None = None,
    ) -> None:
        self.is_in = asyncio.Event()
        self.back = 0.0
        self.recoveries = 0
        self.transport: asyncio.WriteTransport | None = None
        self._addresses = addresses
        self._channel = channel
        self._given = given
        self._next = first
        self._trust = trust

    async def run(self) -> None:
        """Until it is cancelled."""
        attempt = 0
        while True:
            address = self._addresses[self._next % len(self._addresses)]
            self._next += 1
            with suppress(OSError, WebSocketException, InvalidHandshake, TimeoutError, EOFError):
                await self._listen(address)
            attempt = 0 if self.is_in.is_set() else attempt + 1
            self.is_in.clear()
            self.transport = None
            await asyncio.sleep(random.random() * min(1.0, 0.1 * 2**attempt))

    def cut(self) -> None:
        """Its line is reset."""
        if self.transport is not None:
            self.transport.abort()

    @abstractmethod
    async def _listen(self, address: str) -> None:
        """Subscribe, from where it was, and take what comes, until the line ends."""

    def _subscribed(self, *, recovered: bool | None) -> None:
        """recovered: None when there was nothing to recover."""
        self.recoveries += recovered is True
        if recovered is False:
            self._given.append(None)
        self.back = time.monotonic()
        self.is_in.set()

    def _take(self, data: dict[str, Any]) -> None:
        self._given.append(data["number"])


class WebSocket(Subscriber):
    """The Centrifugal protocol in JSON. awake: cleared while it does not read."""

    _place: tuple[str, int] | None = None

    @cached_property
    def awake(self) -> asyncio.Event:
        event = asyncio.Event()
        event.set()
        return event

    async def _listen(self, address: str) -> None:
        url = f"{'wss' if self._trust else 'ws'}://{address}/connection/websocket"
        patience: dict[str, Any] = {"open_timeout": PATIENCE, "close_timeout": 0.1, "ping_interval": None}
        async with connect(url, **patience, max_size=LIMIT, max_queue=4, ssl=self._trust) as connection:
            self.transport = connection.transport
            await self._begin(connection)
            while True:
                await self.awake.wait()
                async with asyncio.timeout(PATIENCE):  # the server's heartbeat comes sooner
                    await self._hear(connection, await connection.recv())

    async def _begin(self, connection: ClientConnection) -> None:
        subscribe: dict[str, Any] = {"channel": self._channel}
        if self._place is not None:
            subscribe |= {"recover": True, "epoch": self._place[0], "offset": self._place[1]}
        for command in ({"id": 1, "connect": {}}, {"id": 2, "subscribe": subscribe}):
            await connection.send(json.dumps(command))

    async def _hear(self, connection: ClientConnection, text: str | bytes) -> None:
        for line in text.splitlines():
            message = json.loads(line)
            if not message:
                await connection.send("{}")
            elif "error" in message:
                raise EOFError(message["error"])
            elif (reply := message.get("subscribe")) is not None:
                self._placed(reply)
            elif (push := message.get("push")) is not None:
                if "pub" in push:
                    self._publication(push["pub"])
                elif "unsubscribe" in push:
                    raise EOFError("unsubscribed")

    def _placed(self, reply: dict[str, Any]) -> None:
        self._subscribed(recovered=None if self._place is None else bool(reply.get("recovered")))
        publications = reply.get("publications", [])
        offset = publications[0]["offset"] - 1 if publications else reply.get("offset", 0)
        self._place = (reply.get("epoch", ""), offset)
        for publication in publications:
            self._publication(publication)

    def _publication(self, publication: dict[str, Any]) -> None:
        assert self._place is not None
        self._place = (self._place[0], publication["offset"])
        self._take(publication["data"])


class _Http(Subscriber):
    """A channel's URL. place: as the server writes it, `epoch:offset`."""

    _place = ""
    _host = ""

    @asynccontextmanager
    async def _line(self, address: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        self._host = address
        host, port = address.split(":")
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection(host, int(port), limit=LIMIT, ssl=self._trust)
        self.transport = writer.transport
        try:
            yield reader, writer
        finally:
            writer.transport.abort()

    async def _get(
        self, line: tuple[asyncio.StreamReader, asyncio.StreamWriter], query: str, *headers: str
    ) -> dict[str, str]:
        """Send a request, and answer with the head of what came, by names in small letters."""
        reader, writer = line
        lines = [f"GET /channels/{quote(self._channel)}{query} HTTP/1.1", f"Host: {self._host}", *headers, "", ""]
        writer.write("\r\n".join(lines).encode())
        async with asyncio.timeout(PATIENCE + WAIT):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        if " 200 " not in head[0]:
            raise EOFError(head[0])
        return {name.lower(): value for name, _, value in (each.partition(": ") for each in head[1:] if each)}


class EventStream(_Http):
    async def _listen(self, address: str) -> None:
        async with self._line(address) as line:
            headers = ["Accept: text/event-stream"]
            head = await self._get(line, "", *headers, *([f"Last-Event-ID: {self._place}"] if self._place else []))
            was, event = self._place, {"event": "message"}
            async for text in _lines(line[0], chunked="transfer-encoding" in head):
                if text:
                    name, _, value = text.partition(": ")
                    event[name] = value
                else:
                    self._event(event, was)
                    event = {"event": "message"}

    def _event(self, event: dict[str, str], was: str) -> None:
        self._place = event.get("id", self._place)
        if event["event"] in ("subscribed", "unrecoverable"):
            recovered = event["event"] == "subscribed"
            self._subscribed(recovered=recovered if was else None)
        elif event["event"] == "message" and "data" in event:
            self._take(json.loads(event["data"]))
        elif event["event"] == "error":
            raise EOFError(event)


async def _lines(reader: asyncio.StreamReader, *, chunked: bool) -> AsyncIterator[str]:
    """Of a body that does not end."""
    rest = b""
    while True:
        async with asyncio.timeout(PATIENCE):
            if chunked:
                size = int(await reader.readline() or b"0", 16)
                data = (await reader.readexactly(size + 2))[:-2]
            else:
                data = await reader.read(LIMIT)
        if not data:
            raise EOFError("the stream ended")
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            yield line.decode()


class LongPoll(_Http):
    async def _listen(self, address: str) -> None:
        async with self._line(address) as line:
            while True:
                query = f"?since={self._place}&wait={WAIT if self.is_in.is_set() else 0}" if self._place else "?limit=0"
                head = await self._get(line, query)
                page = json.loads(await line[0].readexactly(int(head["content-length"])))
                if not self.is_in.is_set() or not page["recovered"]:
                    self._subscribed(recovered=page["recovered"] if self._place else None)
                self._place = f"{page['epoch']}:{page['offset']}"
                for publication in page["publications"]:
                    self._take(publication["data"])


@asynccontextmanager
async def talking(address: str) -> AsyncIterator[Ask]:
    """A connected client that only asks, and gives the answers."""
    async with connect(f"ws://{address}/connection/websocket", ping_interval=None, max_size=LIMIT) as connection:

        async def ask(command: dict[str, Any]) -> dict[str, Any]:
            await connection.send(json.dumps({"id": 1, **command}))
            while True:
                messages = [json.loads(line) for line in (await connection.recv()).splitlines()]
                if {} in messages:
                    await connection.send("{}")
                for message in messages:
                    if "id" in message:
                        answer: dict[str, Any] = message
                        return answer

        await ask({"connect": {}})
        yield ask


KINDS: tuple[type[Subscriber], ...] = (WebSocket, WebSocket, EventStream, WebSocket, LongPoll)
