"""Subscribers over HTTP: streams, and polls whose every request may reach another server."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import quote

from tests.chaos.clients import LIMIT, Centrifugal, Subscriber, WebSocket

WAIT = 2  # seconds that a long poll waits
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Http(Subscriber):
    _host = ""
    _kept: Connection | None = None

    @asynccontextmanager
    async def _connection(self, address: str) -> AsyncIterator[Connection]:
        reader, writer = await self._connect([address])
        self.transport = writer.transport
        try:
            yield reader, writer
        finally:
            writer.transport.abort()

    async def _connect(self, addresses: Sequence[str]) -> Connection:
        """With the first of them that takes it, as a balancer would choose."""
        for address in addresses:
            host, port = address.split(":")
            self._host = address
            with suppress(OSError):
                async with asyncio.timeout(self._patience):
                    return await asyncio.open_connection(host, int(port), limit=LIMIT, ssl=self._trust)
        raise EOFError("nobody takes connections")

    async def _request(
        self, connection: Connection, path: str, *headers: str, body: str | None = None
    ) -> dict[str, str]:
        """Send a request; gives the head of the reply, by names in small letters."""
        reader, writer = connection
        more = [] if body is None else [f"Content-Length: {len(body)}", "Content-Type: text/plain"]
        lines = [
            f"{'GET' if body is None else 'POST'} {path} HTTP/1.1",
            f"Host: {self._host}",
            *headers,
            *more,
            "",
            body or "",
        ]
        writer.write("\r\n".join(lines).encode())
        async with asyncio.timeout(self._patience + WAIT):
            status, *pairs = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        if " 20" not in status:
            raise EOFError(status)
        return {name.lower(): value for name, _, value in (each.partition(": ") for each in pairs if each)}

    async def _request_anywhere(self, path: str, body: str | None = None) -> str:
        """The reply to a request that may reach any of the servers that run.

        It has a connection of its own; over TLS, where that is dear, one that stays: then a proxy spreads requests.
        """
        self._next += 1
        first, stream = self._next % len(self._addresses), self.transport
        connection = self._kept or await self._connect([*self._addresses[first:], *self._addresses[:first]])
        self._kept = None
        self.transport = connection[1].transport
        try:
            head = await self._request(connection, path, body=body)
            reply = (await connection[0].readexactly(int(head.get("content-length", 0)))).decode()
            self._kept = connection if self._trust else None
        finally:
            if self._kept is None:
                connection[1].transport.abort()
            self.transport = stream
        return reply

    async def _lines(self, reader: asyncio.StreamReader, *, chunked: bool) -> AsyncIterator[str]:
        """Of a body that does not end."""
        rest = b""
        while True:
            async with asyncio.timeout(self._patience):
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


class EventStream(_Http):
    """A channel's URL. _position: as the server writes it, `epoch:offset`."""

    _position = ""

    async def _stay_subscribed(self, address: str) -> None:
        async with self._connection(address) as connection:
            headers = ["Accept: text/event-stream", *([f"Last-Event-ID: {self._position}"] if self._position else [])]
            head = await self._request(connection, f"/channels/{quote(self._channel)}", *headers)
            was, event = self._position, {"event": "message"}
            async for text in self._lines(connection[0], chunked="transfer-encoding" in head):
                if text:
                    name, _, value = text.partition(": ")
                    event[name] = value
                else:
                    self._event(event, was)
                    event = {"event": "message"}

    def _event(self, event: dict[str, str], was: str) -> None:
        self._position = event.get("id", self._position)
        if event["event"] in ("subscribed", "unrecoverable"):
            recovered = event["event"] == "subscribed"
            self._subscribed(recovered=recovered if was else None)
        elif event["event"] == "message" and "data" in event:
            self._record(json.loads(event["data"]))
        elif event["event"] == "error":
            raise EOFError(event)


class LongPoll(_Http):
    """A channel's URL, page by page."""

    _position = ""

    async def _stay_subscribed(self, address: str) -> None:
        async with self._connection(address) as connection:
            while True:
                query = (
                    f"?since={self._position}&wait={WAIT if self.is_in.is_set() else 0}"
                    if self._position
                    else "?limit=0"
                )
                head = await self._request(connection, f"/channels/{quote(self._channel)}{query}")
                page = json.loads(await connection[0].readexactly(int(head["content-length"])))
                if not self.is_in.is_set() or not page["recovered"]:
                    self._subscribed(recovered=page["recovered"] if self._position else None)
                self._position = f"{page['epoch']}:{page['offset']}"
                for publication in page["publications"]:
                    self._record(publication["data"])


class HttpStream(_Http, Centrifugal):
    """Receives a stream; what it sends goes by requests of their own."""

    _session: dict[str, str]

    async def _stay_subscribed(self, address: str) -> None:
        connecting, subscribing = self._commands()
        async with self._connection(address) as connection:
            head = await self._request(connection, "/connection/http_stream", body=json.dumps(connecting))
            async for text in self._lines(connection[0], chunked="transfer-encoding" in head):
                message = json.loads(text or "null")
                if message == {}:
                    await self._send({})
                elif message and "connect" in message:
                    self._session = {name: message["connect"][name] for name in ("node", "session")}
                    await self._send(subscribing)
                elif message:
                    self._handle(message)

    async def _send(self, command: dict[str, Any]) -> None:
        await self._request_anywhere("/emulation", json.dumps({**self._session, "data": json.dumps(command)}))


class SocketIoPolls(_Http):
    """Socket.IO over long polling, without stickiness: each request has a connection of its own.

    Its events carry no offsets: they are counted.
    """

    _position: tuple[str, int] | None = None

    async def _stay_subscribed(self, address: str) -> None:
        path = "/socket.io/?EIO=4&transport=polling"
        opening = await self._request_anywhere(path)
        path += f"&sid={json.loads(opening[1:])['sid']}"
        await self._request_anywhere(path, "40")
        while not (await self._request_anywhere(path)).startswith("40{"):
            pass
        position = {} if self._position is None else {"epoch": self._position[0], "offset": self._position[1]}
        await self._request_anywhere(path, f"420{json.dumps(['subscribe', self._channel, position])}")
        while True:
            for packet in (await self._request_anywhere(path)).split("\x1e"):
                await self._packet(path, packet)

    async def _packet(self, path: str, packet: str) -> None:
        if packet == "2":
            await self._request_anywhere(path, "3")
        elif packet.startswith("430"):
            self._acknowledged(json.loads(packet[3:])[0])
        elif packet.startswith('42["message"'):
            assert self._position is not None
            self._position = (self._position[0], self._position[1] + 1)
            self._record(json.loads(packet[2:])[1])
        elif packet not in ("6", "40"):
            raise EOFError(packet)

    def _acknowledged(self, reply: dict[str, Any]) -> None:
        if "error" in reply:
            raise EOFError(reply["error"])
        recovered = None if self._position is None else bool(reply.get("recovered"))
        if not recovered:
            self._position = (reply["epoch"], reply["offset"])
        self._subscribed(recovered=recovered)


KINDS: tuple[type[Subscriber], ...] = (
    WebSocket,
    WebSocket,
    EventStream,
    WebSocket,
    LongPoll,
    HttpStream,
    SocketIoPolls,
)
