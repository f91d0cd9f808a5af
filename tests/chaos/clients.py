"""Many small clients of the Centrifugal protocol, each in one channel, which come back and recover."""

import asyncio
import json
import random
import time
from contextlib import suppress
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, WebSocketException

PATIENCE = 5.0  # seconds for a connection, and for an answer


class Subscriber:
    """urls: of the servers, tried in turn. given: see `Ledger`.

    back: when, by the monotonic clock, it was subscribed again last.
    """

    def __init__(self, urls: list[str], channel: str, given: list[int | None], first: int) -> None:
        self.is_in = asyncio.Event()
        self.back = 0.0
        self.recoveries = 0
        self._urls = urls
        self._channel = channel
        self._given = given
        self._next = first
        self._place: tuple[str, int] | None = None
        self._connection: ClientConnection | None = None

    async def run(self) -> None:
        """Until it is cancelled."""
        attempt = 0
        while True:
            url = self._urls[self._next % len(self._urls)]
            self._next += 1
            with suppress(OSError, WebSocketException, InvalidHandshake, TimeoutError, EOFError):
                async with connect(url, open_timeout=PATIENCE, close_timeout=0.1, ping_interval=None) as connection:
                    self._connection = connection
                    await self._begin(connection)
                    attempt = 0
                    while True:
                        async with asyncio.timeout(PATIENCE):  # the server's heartbeat comes sooner
                            self._take(connection, await connection.recv())
                            await self._answer(connection)
            self.is_in.clear()
            self._connection = None
            attempt += 1
            await asyncio.sleep(random.random() * min(1.0, 0.05 * 2**attempt))

    def cut(self) -> None:
        """Its line is reset."""
        if self._connection is not None:
            self._connection.transport.abort()

    async def _begin(self, connection: ClientConnection) -> None:
        subscribe: dict[str, Any] = {"channel": self._channel}
        if self._place is not None:
            subscribe |= {"recover": True, "epoch": self._place[0], "offset": self._place[1]}
        for command in ({"id": 1, "connect": {}}, {"id": 2, "subscribe": subscribe}):
            await connection.send(json.dumps(command))

    def _take(self, connection: ClientConnection, text: str | bytes) -> None:
        self._pinged = False
        for line in text.splitlines():
            message = json.loads(line)
            if not message:
                self._pinged = True
            elif "error" in message:
                raise EOFError(message["error"])
            elif (reply := message.get("subscribe")) is not None:
                self._subscribed(reply)
            elif (push := message.get("push")) is not None:
                if "pub" in push:
                    self._publication(push["pub"])
                elif "unsubscribe" in push:
                    raise EOFError("unsubscribed")

    async def _answer(self, connection: ClientConnection) -> None:
        if self._pinged:
            await connection.send("{}")

    def _subscribed(self, reply: dict[str, Any]) -> None:
        epoch, offset = reply.get("epoch", ""), reply.get("offset", 0)
        if self._place is not None:
            if reply.get("recovered"):
                self.recoveries += 1
            else:
                self._given.append(None)
        publications = reply.get("publications", [])
        self._place = (epoch, publications[0]["offset"] - 1 if publications else offset)
        for publication in publications:
            self._publication(publication)
        self.back = time.monotonic()
        self.is_in.set()

    def _publication(self, publication: dict[str, Any]) -> None:
        assert self._place is not None
        self._given.append(publication["data"])
        self._place = (self._place[0], publication["offset"])
