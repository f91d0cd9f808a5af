"""Every way in which JSON comes to a server as a publication, and every way in which it goes out, as bytes.

What a client library would do to the bytes is not done here: they are compared as they are.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from typing import Any
from urllib.parse import quote

import httpx
import msgspec
from centrifuge.protocol.client_pb2 import Command, Reply
from websockets.asyncio.client import ClientConnection, connect

from freshet.model.frame import Frame
from tests.dialects.centrifuge.official import framed, messages
from tests.tools.event_streams import events_of
from tests.tools.patience import seconds
from tests.tools.serving import Server

CHANNEL = "door"
BINARY = {"content-type": "application/octet-stream"}

_ids = count(2)


async def _soon(awaitable: Any) -> Any:
    return await asyncio.wait_for(awaitable, seconds(10))


class Doors:
    """Connections that stay, to a server without heartbeats.

    Each of `ways_in` publishes a text, and says whether it was taken; refused is no end. Each of `ways_out` gives the
    next publication as it came out: its JSON text, or what a client of it has of that.
    """

    def __init__(self, server: Server, stack: AsyncExitStack) -> None:
        self._server = server
        self._stack = stack
        self.ways_in: dict[str, Callable[[bytes], Any]] = {}
        self.ways_out: dict[str, Callable[[], Any]] = {}

    async def socket(self, path: str) -> ClientConnection:
        return await self._stack.enter_async_context(connect(self._server.ws(path), max_size=2**24))

    async def open(self) -> None:
        self._http = await self._stack.enter_async_context(
            httpx.AsyncClient(base_url=self._server.http(""), timeout=seconds(10))
        )
        await self._open_json()
        await self._open_protobuf()
        await self._open_socketio()
        await self._open_streams()
        url = await self.socket(f"/channels/{CHANNEL}")
        self.ways_out["channel url, websocket"] = lambda: _soon(url.recv(decode=False))
        writer = await self.socket(f"/channels/{CHANNEL}")
        self.ways_out["channel url, another"] = lambda: _soon(writer.recv(decode=False))

        async def write(text: bytes) -> bool:
            await writer.send(text, text=True)
            return True

        self.ways_in["channel url, websocket"] = write
        self.ways_in["channel url, post"] = self._post
        self.ways_in["api publish"] = lambda text: self._call("publish", b'{"channel":"%b","data":%b}', text)
        self.ways_in["api broadcast"] = lambda text: self._call("broadcast", b'{"channels":["%b"],"data":%b}', text)
        batch = b'{"commands":[{"publish":{"channel":"%b","data":%b}}]}'
        self.ways_in["api batch"] = lambda text: self._call("batch", batch, text)
        self.ways_out["channel url, page"] = self._page
        self.ways_out["api history"] = self._history

    # ---------------------------------------------------------------------------------------------- Centrifuge

    async def _open_json(self) -> None:
        writer, reader = await self.socket("/connection/websocket"), await self.socket("/connection/websocket")
        for each in (writer, reader):
            await each.send('{"id":1,"connect":{}}')
            await _soon(each.recv())
        await reader.send(f'{{"id":2,"subscribe":{{"channel":"{CHANNEL}"}}}}')
        await _soon(reader.recv())

        async def publish(text: bytes) -> bool:
            id, line = next(_ids), text.replace(b"\n", b" ")  # a line ends a command
            await writer.send(
                b'{"id":%d,"publish":{"channel":"%b","data":%b}}' % (id, CHANNEL.encode(), line), text=True
            )
            answer = await _soon(writer.recv(decode=False))
            assert answer.startswith(b'{"id":%d,' % id), answer
            return b'"error"' not in answer

        async def read() -> bytes:
            return _pushed(await _soon(reader.recv(decode=False)))

        self.ways_in["centrifuge json"] = publish
        self.ways_out["centrifuge json"] = read

    async def _open_protobuf(self) -> None:
        writer, reader = [await self.socket("/connection/websocket?format=protobuf") for _ in range(2)]
        for each in (writer, reader):
            await each.send(framed(Command(id=1, connect={})))
            await _soon(each.recv())
        await reader.send(framed(Command(id=2, subscribe={"channel": CHANNEL})))
        await _soon(reader.recv())

        async def ask(command: Command) -> Reply:
            await writer.send(framed(command))
            [reply] = _protobuf(await _soon(writer.recv()))
            return reply

        async def publish(text: bytes) -> bool:
            reply = await ask(Command(id=next(_ids), publish={"channel": CHANNEL, "data": text}))
            return not reply.HasField("error")

        async def read() -> bytes:
            [reply] = _protobuf(await _soon(reader.recv()))
            return bytes(reply.push.pub.data)

        self.ways_in["centrifuge protobuf"] = publish
        self.ways_out["centrifuge protobuf"] = read

    async def _open_streams(self) -> None:
        connecting = b'{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"%b"}}' % CHANNEL.encode()
        lines = await self._stream("POST", "/connection/http_stream", content=connecting)
        events = await self._stream("GET", f"/connection/sse?cf_connect={quote(connecting)}")
        own = await self._stream("GET", f"/channels/{CHANNEL}", headers={"accept": "text/event-stream"})
        opened = (await lines(b"\n", 2)).split(b"\n")[0]
        await events(b"\n\n", 2)
        await own(b"\n\n", 1)
        connected = msgspec.json.decode(opened)["connect"]

        async def emulate(text: bytes) -> bool:
            id, line = next(_ids), text.replace(b"\n", b" ")
            command = b'{"id":%d,"publish":{"channel":"%b","data":%b}}' % (id, CHANNEL.encode(), line)
            body = {"node": connected["node"], "session": connected["session"], "data": command.decode()}
            answer = await self._http.post("/emulation", content=msgspec.json.encode(body))
            assert answer.status_code == 204, answer.text
            reply = await lines(b"\n", 1)
            if reply.startswith(b'{"push"'):  # the publication itself, which the stream gets as well
                early.append(_pushed(reply))
                reply = await lines(b"\n", 1)
            assert reply.startswith(b'{"id":%d,' % id), reply
            return b'"error"' not in reply

        early: list[bytes] = []

        async def line() -> bytes:
            return early.pop(0) if early else _pushed((await lines(b"\n", 1)).strip(b"\n"))

        async def event() -> bytes:
            [one] = events_of(await events(b"\n\n", 1))
            return _pushed(one.data.encode())

        async def own_event() -> bytes:
            [one] = events_of(await own(b"\n\n", 1))
            return one.data.encode()

        self.ways_in["centrifuge emulation"] = emulate
        self.ways_out |= {"centrifuge http_stream": line, "centrifuge sse": event, "channel url, events": own_event}

    async def _stream(self, method: str, path: str, **options: Any) -> Callable[[bytes, int], Any]:
        """What gives the next so many pieces of a response that does not end."""
        response = await self._stack.enter_async_context(self._http.stream(method, path, **options))
        assert response.status_code == 200
        chunks, rest = response.aiter_raw(), bytearray()

        async def next_pieces(mark: bytes, number: int) -> bytes:
            pieces = b""
            while number:
                end = rest.find(mark)
                if end < 0:
                    rest.extend(await _soon(anext(chunks)))
                    continue
                pieces += rest[: end + len(mark)]
                del rest[: end + len(mark)]
                number -= 1
            return pieces

        return next_pieces

    # ---------------------------------------------------------------------------------------------- the others

    async def _open_socketio(self) -> None:
        writer, reader = [await self.socket("/socket.io/?EIO=4&transport=websocket") for _ in range(2)]
        for each in (writer, reader):
            await _soon(each.recv())
            await each.send("40")
            await _soon(each.recv())
        await reader.send(f'421["subscribe","{CHANNEL}"]')
        await _soon(reader.recv())

        async def publish(text: bytes) -> bool:
            id = next(_ids)
            await writer.send(b'42%d["publish","%b",%b]' % (id, CHANNEL.encode(), text), text=True)
            answer = await _soon(writer.recv(decode=False))
            assert answer.startswith(b"43%d[" % id), answer
            return b'"error"' not in answer

        async def read() -> bytes:
            event = await _soon(reader.recv(decode=False))
            assert event.startswith(b'42["message",'), event
            return bytes(event[13:-1])

        self.ways_in["socket.io"] = publish
        self.ways_out["socket.io"] = read

    async def _post(self, text: bytes) -> bool:
        answer = await self._http.post(
            f"/channels/{CHANNEL}", content=text, headers={"content-type": "application/json"}
        )
        assert answer.status_code in (200, 400), answer.text
        return answer.status_code == 200

    async def _call(self, method: str, request: bytes, text: bytes) -> bool:
        answer = await self._http.post(f"/api/{method}", content=request % (CHANNEL.encode(), text))
        assert answer.status_code in (200, 400), answer.text
        return b'"error"' not in answer.content

    async def _page(self) -> bytes:
        page = (await self._http.get(f"/channels/{CHANNEL}?limit=1")).content
        found = re.search(rb'"data":(.*)(?:,"info".*)?\}\]\}', page, re.DOTALL)
        assert found is not None
        return found[1].split(b',"info":{"user"')[0]

    async def _history(self) -> bytes:
        asked = {"channel": CHANNEL, "limit": 1, "reverse": True}
        page = (await self._http.post("/api/history", json=asked)).content
        found = re.search(rb'"publications":\[\{"data":(.*?),"offset":\d+[,}]', page, re.DOTALL)
        assert found is not None
        return found[1]


def _pushed(line: bytes) -> bytes:
    found = re.search(rb'"pub":\{"data":(.*?)(?:,"info":\{"user".*?\})?(?:,"offset":\d+)?\}\}\}\n?\Z', line, re.DOTALL)
    assert found is not None, line
    return found[1]


def _protobuf(data: Any) -> list[Reply]:
    return [reply for reply in messages(Frame(data, binary=True)) if reply.ByteSize()]


@asynccontextmanager
async def doors(server: Server) -> AsyncIterator[Doors]:
    async with AsyncExitStack() as stack:
        opened = Doors(server, stack)
        await opened.open()
        yield opened
