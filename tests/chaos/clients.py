"""Subscribers that come back and recover, each in one channel; those over HTTP are in `http_clients`.

They are small, so that thousands fit into one process; other tests keep ledgers of the official clients.
"""

import asyncio
import json
import random
import ssl
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import cached_property
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, WebSocketException

PATIENCE = 5  # heartbeats: for a connection, and for the next message or heartbeat
SMALL = 65536  # bytes that the kernel may buffer for one that does not read
LIMIT = 1 << 26  # bytes of a message: all that was missed comes in one

Request = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


class Subscriber(ABC):
    """addresses: `host:port` of the servers, tried in turn from the `first`. received: see `Ledger`.

    beat: seconds from one heartbeat of a server to the next. trust: they use TLS. back: when it was subscribed again
    last, by the monotonic clock. why: it lost its connection last.
    """

    def __init__(
        self,
        addresses: list[str],
        channel: str,
        received: list[int | None],
        first: int,
        beat: float,
        trust: ssl.SSLContext | None = None,
    ) -> None:
        self.is_in = asyncio.Event()
        self.back = 0.0
        self.recoveries = 0
        self.why = ""
        self.transport: asyncio.WriteTransport | None = None
        self._addresses = addresses
        self._channel = channel
        self._received = received
        self._next = first
        self._patience = PATIENCE * beat
        self._trust = trust

    async def run(self) -> None:
        """Until it is cancelled."""
        attempt = 0
        while True:
            address = self._addresses[self._next % len(self._addresses)]
            self._next += 1
            try:
                await self._stay_subscribed(address)
            except (OSError, WebSocketException, InvalidHandshake, EOFError) as why:
                self.why = repr(why)
            attempt = 0 if self.is_in.is_set() else attempt + 1
            self.is_in.clear()
            self.transport = None
            await asyncio.sleep(random.random() * min(1.0, 0.1 * 2**attempt))

    def cut(self) -> None:
        """Its connection is reset."""
        if self.transport is not None:
            self.transport.abort()

    @abstractmethod
    async def _stay_subscribed(self, address: str) -> None:
        """Subscribe, recover from the last position, and record what comes, until the connection ends."""

    def _subscribed(self, *, recovered: bool | None) -> None:
        """recovered: None when there was nothing to recover."""
        self.recoveries += recovered is True
        if recovered is False:
            self._received.append(None)
        self.back = time.monotonic()
        self.is_in.set()

    def _record(self, data: dict[str, Any]) -> None:
        self._received.append(data["number"])


class Centrifugal(Subscriber):
    """Who speaks the Centrifugal protocol in JSON."""

    _position: tuple[str, int] | None = None

    def _commands(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Those that connect, and subscribe."""
        subscribe: dict[str, Any] = {"channel": self._channel}
        if self._position is not None:
            subscribe |= {"recover": True, "epoch": self._position[0], "offset": self._position[1]}
        return {"id": 1, "connect": {}}, {"id": 2, "subscribe": subscribe}

    def _handle(self, message: dict[str, Any]) -> None:
        """A message that is not a heartbeat."""
        if "error" in message:
            raise EOFError(message["error"])
        if (reply := message.get("subscribe")) is not None:
            self._on_subscribed(reply)
        elif (push := message.get("push")) is not None:
            if "pub" in push:
                self._publication(push["pub"])
            elif "unsubscribe" in push or "disconnect" in push:
                raise EOFError(push)

    def _on_subscribed(self, reply: dict[str, Any]) -> None:
        self._subscribed(recovered=None if self._position is None else bool(reply.get("recovered")))
        publications = reply.get("publications", [])
        offset = publications[0]["offset"] - 1 if publications else reply.get("offset", 0)
        self._position = (reply.get("epoch", ""), offset)
        for publication in publications:
            self._publication(publication)

    def _publication(self, publication: dict[str, Any]) -> None:
        assert self._position is not None
        self._position = (self._position[0], publication["offset"])
        self._record(publication["data"])


class WebSocket(Centrifugal):
    """awake: cleared while it does not read."""

    @cached_property
    def awake(self) -> asyncio.Event:
        event = asyncio.Event()
        event.set()
        return event

    async def _stay_subscribed(self, address: str) -> None:
        url = f"{'wss' if self._trust else 'ws'}://{address}/connection/websocket"
        patience: dict[str, Any] = {"open_timeout": self._patience, "close_timeout": 0.1, "ping_interval": None}
        async with connect(url, **patience, max_size=LIMIT, max_queue=4, ssl=self._trust) as connection:
            self.transport = connection.transport
            for command in self._commands():
                await connection.send(json.dumps(command))
            while True:
                await self.awake.wait()
                async with asyncio.timeout(self._patience):  # the server's heartbeat comes sooner
                    await self._handle_text(connection, await connection.recv())

    async def _handle_text(self, connection: ClientConnection, text: str | bytes) -> None:
        for line in text.splitlines():
            if message := json.loads(line):
                self._handle(message)
            else:
                await connection.send("{}")


@asynccontextmanager
async def requesting(address: str) -> AsyncIterator[Request]:
    """A connected client that sends requests, and gives the replies."""
    async with connect(f"ws://{address}/connection/websocket", ping_interval=None, max_size=LIMIT) as connection:

        async def request(command: dict[str, Any]) -> dict[str, Any]:
            await connection.send(json.dumps({"id": 1, **command}))
            while True:
                messages = [json.loads(line) for line in (await connection.recv()).splitlines()]
                if {} in messages:
                    await connection.send("{}")
                for message in messages:
                    if "id" in message:
                        reply: dict[str, Any] = message
                        return reply

        await request({"connect": {}})
        yield request
