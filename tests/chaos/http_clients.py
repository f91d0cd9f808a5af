"""Subscribers over HTTP: streams, and polls whose every request may reach another server."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import quote

from tests.chaos.clients import LIMIT, Centrifugal, Subscriber, WebSocket

WAIT = 2  # seconds that a long poll waits
Line = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Http(Subscriber):
    _host = ""
    _kept: Line | None = None

    @asynccontextmanager
    async def _line(self, address: str) -> AsyncIterator[Line]:
        reader, writer = await self._connect([address])
        self.transport = writer.transport
        try:
            yield reader, writer
        finally:
            writer.transport.abort()

    async def _connect(self, addresses: Sequence[str]) -> Line:
        """With the first of them that takes it, as a balancer would choose."""
        for address in addresses:
            host, port = address.split(":")
            self._host = address
            with suppress(OSError):
                async with asyncio.timeout(self._patience):
                    return await asyncio.open_connection(host, int(port), limit=LIMIT, ssl=self._trust)
        raise EOFError("nobody takes connections")

    async def _ask(self, line: Line, path: str, *headers: str, body: str | None = None) -> dict[str, str]:
        """Send a request, and answer with the head of what came, by names in small letters."""
        reader, writer = line
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

    async def _apart(self, path: str, body: str | None = None) -> str:
        """The answer to a request that may reach any of the servers that are there.

        It has a connection of its own; over TLS, where that is dear, one that stays: there a proxy spreads requests.
        """
        self._next += 1
        first, stream = self._next % len(self._addresses), self.transport
        line = self._kept or await self._connect([*self._addresses[first:], *self._addresses[:first]])
        self._kept = None
        self.transport = line[1].transport
        try:
            head = await self._ask(line, path, body=body)
            answer = (await line[0].readexactly(int(head.get("content-length", 0)))).decode()
            self._kept = line if self._trust else None
        finally:
            if self._kept is None:
                line[1].transport.abort()
            self.transport = stream
        return answer

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
    """A channel's URL. place: as the server writes it, `epoch:offset`."""

    _place = ""

    async def _listen(self, address: str) -> None:
        async with self._line(address) as line:
            headers = ["Accept: text/event-stream", *([f"Last-Event-ID: {self._place}"] if self._place else [])]
            head = await self._ask(line, f"/channels/{quote(self._channel)}", *headers)
            was, event = self._place, {"event": "message"}
            async for text in self._lines(line[0], chunked="transfer-encoding" in head):
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


class LongPoll(_Http):
    """A channel's URL, page by page."""

    _place = ""

    async def _listen(self, address: str) -> None:
        async with self._line(address) as line:
            while True:
                query = f"?since={self._place}&wait={WAIT if self.is_in.is_set() else 0}" if self._place else "?limit=0"
                head = await self._ask(line, f"/channels/{quote(self._channel)}{query}")
                page = json.loads(await line[0].readexactly(int(head["content-length"])))
                if not self.is_in.is_set() or not page["recovered"]:
                    self._subscribed(recovered=page["recovered"] if self._place else None)
                self._place = f"{page['epoch']}:{page['offset']}"
                for publication in page["publications"]:
                    self._take(publication["data"])


class HttpStream(_Http, Centrifugal):
    """Hears a stream; what it says goes by requests of their own."""

    _session: dict[str, str]

    async def _listen(self, address: str) -> None:
        connecting, subscribing = self._commands()
        async with self._line(address) as line:
            head = await self._ask(line, "/connection/http_stream", body=json.dumps(connecting))
            async for text in self._lines(line[0], chunked="transfer-encoding" in head):
                message = json.loads(text or "null")
                if message == {}:
                    await self._say({})
                elif message and "connect" in message:
                    self._session = {name: message["connect"][name] for name in ("node", "session")}
                    await self._say(subscribing)
                elif message:
                    self._hear(message)

    async def _say(self, command: dict[str, Any]) -> None:
        await self._apart("/emulation", json.dumps({**self._session, "data": json.dumps(command)}))


class SocketIoPolls(_Http):
    """Socket.IO over long polling, without stickiness: each request has a connection of its own.

    Its events do not say where they stand: they are counted.
    """

    _place: tuple[str, int] | None = None

    async def _listen(self, address: str) -> None:
        path = "/socket.io/?EIO=4&transport=polling"
        opening = await self._apart(path)
        path += f"&sid={json.loads(opening[1:])['sid']}"
        await self._apart(path, "40")
        while not (await self._apart(path)).startswith("40{"):
            pass
        place = {} if self._place is None else {"epoch": self._place[0], "offset": self._place[1]}
        await self._apart(path, f"420{json.dumps(['subscribe', self._channel, place])}")
        while True:
            for packet in (await self._apart(path)).split("\x1e"):
                await self._packet(path, packet)

    async def _packet(self, path: str, packet: str) -> None:
        if packet == "2":
            await self._apart(path, "3")
        elif packet.startswith("430"):
            self._acknowledged(json.loads(packet[3:])[0])
        elif packet.startswith('42["message"'):
            assert self._place is not None
            self._place = (self._place[0], self._place[1] + 1)
            self._take(json.loads(packet[2:])[1])
        elif packet not in ("6", "40"):
            raise EOFError(packet)

    def _acknowledged(self, answer: dict[str, Any]) -> None:
        if "error" in answer:
            raise EOFError(answer["error"])
        recovered = None if self._place is None else bool(answer.get("recovered"))
        if not recovered:
            self._place = (answer["epoch"], answer["offset"])
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
