"""A call of an ASGI application as a server makes it, with a client that the test plays message by message."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import unquote

from tests.tools.patience import seconds

Message = MutableMapping[str, Any]
Application = Callable[..., Awaitable[Any]]


def request(method: str, target: str, **headers: str) -> Message:
    """The scope of an HTTP request. headers: `content_type="..."`."""
    return _scope("http", target, headers) | {"method": method, "http_version": "1.1"}


def websocket(target: str, *subprotocols: str, **headers: str) -> Message:
    """The scope of a request for a WebSocket."""
    return _scope("websocket", target, headers) | {"subprotocols": list(subprotocols)}


def _scope(kind: str, target: str, headers: dict[str, str]) -> Message:
    path, _, query = target.partition("?")
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {
        "type": kind,
        "path": unquote(path),
        "query_string": query.encode(),
        "headers": [(b"host", b"localhost"), *raw],
        "extensions": {},
    }


class Call:
    """unread: what the application sent and the test has not taken. asked: what it will receive.

    room: `send` waits while it is cleared. broken: `send` raises, as servers do when the client is gone.
    """

    def __init__(self) -> None:
        self.unread: asyncio.Queue[Message] = asyncio.Queue()
        self.asked: asyncio.Queue[Message] = asyncio.Queue()
        self.room = asyncio.Event()
        self.room.set()
        self.broken = False
        self.task: asyncio.Task[Any] | None = None

    async def receive(self) -> Message:
        return await self.asked.get()

    async def send(self, message: Message) -> None:
        await self.room.wait()
        if self.broken:
            raise OSError("the client is gone")
        self.unread.put_nowait(message)

    def say(self, **message: Any) -> None:
        self.asked.put_nowait(message)

    def body(self, body: bytes = b"", *, more_body: bool = False) -> None:
        self.say(type="http.request", body=body, more_body=more_body)

    def leave(self) -> None:
        """The client is gone."""
        self.say(type="http.disconnect")

    async def next(self) -> Message:
        async with asyncio.timeout(seconds(5)):
            return await self.unread.get()

    async def chunk(self) -> bytes:
        """The next part of the body that is not empty."""
        while not (part := (await self.next()).get("body", b"")):
            pass
        return bytes(part)

    async def head(self) -> tuple[int, dict[str, str]]:
        """Status and headers of the response."""
        start = await self.next()
        assert start["type"] == "http.response.start", start
        return start["status"], {name.decode(): value.decode() for name, value in start["headers"]}

    async def response(self) -> tuple[int, dict[str, str], bytes]:
        """A response that ends: status, headers, body."""
        status, headers = await self.head()
        body, more = b"", True
        while more:
            message = await self.next()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        return status, headers, body

    async def result(self) -> Any:
        """What the call returns."""
        assert self.task is not None
        async with asyncio.timeout(seconds(5)):
            return await self.task


@asynccontextmanager
async def calling(function: Callable[[Call], Awaitable[Any]]) -> AsyncIterator[Call]:
    """Run `function` with a call as a task of its own, until the block ends."""
    call = Call()
    call.task = asyncio.ensure_future(function(call))
    try:
        yield call
    finally:
        call.task.cancel()
        await asyncio.wait((call.task,))


def called(app: Application, scope: Message) -> Any:
    """Call an application: `async with called(app, request("GET", "/")) as call:`."""
    return calling(lambda call: app(scope, call.receive, call.send))
