"""The tests of an application behind the gateway: its clients and its calls of `@connections`, without AWS, a network
or a wait.

    async def test_a_message_reaches_the_others():
        async with GatewayClient(live) as alice, GatewayClient(live) as bob:
            await alice.send({"action": "sendMessage", "data": "hello"})
            assert await bob.receive() == "hello"

A client takes the way of a real one, from its handshake on; what it may not, it learns as a real one does. Within
`boto3_calls(live)`, what the application's own functions call by boto3 goes to `live`. Time is a `ManualClock`'s.
"""

import asyncio
import io
import os
import sys
from collections import deque
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from urllib.parse import unquote, urlsplit

import msgspec

from freshet.endpoints.gateway.endpoint import CONNECTION_ID
from freshet.endpoints.gateway.worker import call_this_machine_by_http
from freshet.endpoints.in_process import TIMEOUT, Lifespan, settle

if TYPE_CHECKING:
    from freshet.app import Freshet

__all__ = [
    "ConnectionClosed",
    "GatewayClient",
    "HandshakeRefused",
    "ManagementResponse",
    "boto3_calls",
    "call_this_machine_by_http",
    "manage",
]

HOST = "testserver"
HANDSHAKE = 6 * TIMEOUT  # seconds: a function that is asked may begin as a process

Message = MutableMapping[str, Any]


class HandshakeRefused(Exception):
    """The client did not come in. status: HTTP's. body: of the answer."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"{status} {body.decode(errors='replace')}")
        self.status = status
        self.body = body


class ConnectionClosed(Exception):
    """The server closed the connection."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}")
        self.code = code
        self.reason = reason


class ManagementResponse(NamedTuple):
    """What `@connections` answered."""

    status: int
    headers: dict[str, str]
    body: bytes


class GatewayClient:
    """One client, connected until its block ends. The application runs as long as the first of them does.

    id: of the connection. subprotocol: what `$connect` chose.
    """

    def __init__(
        self,
        live: "Freshet",
        *,
        query: str = "",
        headers: Mapping[str, str] = MappingProxyType({}),
        subprotocols: Sequence[str] = (),
        path: str | None = None,
        address: str = "127.0.0.1",
    ) -> None:
        self.id = ""
        self.subprotocol: str | None = None
        self._live = live
        self._lease = Lifespan(live.lifespan, lambda: live._started() is not None)
        given = {"host": HOST, "user-agent": "testclient", **headers}
        self._scope: dict[str, Any] = {
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "ws",
            "path": path if path is not None else f"/{live.gateway().options.stage}",
            "raw_path": (path or f"/{live.gateway().options.stage}").encode(),
            "root_path": "",
            "query_string": query.encode(),
            "headers": [(name.lower().encode(), value.encode()) for name, value in given.items()],
            "subprotocols": list(subprotocols),
            "client": (address, 50_000),
            "server": (HOST, 80),
            "extensions": {"websocket.http.response": {}},
        }
        self._to_server: asyncio.Queue[Message] = asyncio.Queue()
        self._received: deque[str | bytes] = deque()
        self._closed: ConnectionClosed | None = None
        self._refused: HandshakeRefused | None = None
        self._accepted = False
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self._lease.take()
        try:
            await self._connect()
        except BaseException:
            await self._lease.give_back()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.disconnect()
        await self._lease.give_back()

    async def _connect(self) -> None:
        self._to_server.put_nowait({"type": "websocket.connect"})
        self._task = asyncio.ensure_future(self._live(self._scope, self._to_server.get, self._take))
        await self._until(lambda: self._accepted or self._refused is not None, "the handshake", HANDSHAKE)
        if self._refused is not None:
            raise self._refused
        self.id = self._scope[CONNECTION_ID]

    async def _take(self, message: Message) -> None:
        """What the server sends."""
        kind = message["type"]
        if kind == "websocket.accept":
            self._accepted, self.subprotocol = True, message.get("subprotocol")
        elif kind == "websocket.send":
            text = message.get("text")
            self._received.append(text if text is not None else message["bytes"])
        elif kind == "websocket.close" and not self._accepted:
            self._refused = HandshakeRefused(403, b"")
        elif kind == "websocket.close":
            self._closed = ConnectionClosed(message.get("code", 1000), message.get("reason") or "")
        elif kind == "websocket.http.response.start":
            self._status = message["status"]
        elif kind == "websocket.http.response.body":
            self._refused = HandshakeRefused(self._status, message.get("body", b""))
        self._news.set()

    # ------------------------------------------------------------------------------------------------------- from it

    async def send(self, data: Any) -> None:
        """A text as it is, bytes as a binary message, anything else as JSON. All that this sets going is done then."""
        if self._closed is not None:
            raise self._closed
        if isinstance(data, bytes):
            message = {"type": "websocket.receive", "bytes": data}
        else:
            text = data if isinstance(data, str) else msgspec.json.encode(data).decode()
            message = {"type": "websocket.receive", "text": text}
        self._to_server.put_nowait(message)
        await settle()

    async def disconnect(self, code: int = 1000) -> None:
        """Close the connection. 1005: without a code; 1006: it is cut off, as when the network is gone."""
        if self._task is not None and not self._task.done():
            self._to_server.put_nowait({"type": "websocket.disconnect", "code": code, "reason": ""})
            await asyncio.wait([self._task], timeout=TIMEOUT)
            await settle()

    # ---------------------------------------------------------------------------------------------------------- to it

    async def receive(self, *, within: float = TIMEOUT) -> str | bytes:
        """The next message. Raises `ConnectionClosed` when there is none any more, TimeoutError when none comes."""
        await self._until(lambda: bool(self._received) or self._closed is not None, "a message", within)
        if not self._received:
            assert self._closed is not None  # by the line above
            raise self._closed
        return self._received.popleft()

    async def receive_json(self, *, within: float = TIMEOUT) -> Any:
        return msgspec.json.decode(await self.receive(within=within))

    async def closed(self, *, within: float = TIMEOUT) -> ConnectionClosed:
        """With what the server closed it."""
        await self._until(lambda: self._closed is not None, "the end of the connection", within)
        assert self._closed is not None  # by the line above
        return self._closed

    async def expect_nothing(self) -> None:
        """Raises AssertionError when something came that was not received yet, once all that runs came to rest."""
        await settle()
        if self._received:
            raise AssertionError(f"expected nothing, got {self._received[0]!r}")

    async def _until(self, found: Any, what: str, within: float = TIMEOUT) -> None:
        end = asyncio.get_running_loop().time() + within
        while not found():
            self._news.clear()
            if self._task is not None and self._task.done() and not found():
                self._task.result()
            try:
                await asyncio.wait_for(self._news.wait(), end - asyncio.get_running_loop().time())
            except TimeoutError:
                raise TimeoutError(f"waited {within:g} s for {what}, which did not come") from None


# ------------------------------------------------------------------------------------------------------ `@connections`


async def manage(
    live: "Freshet", method: str, path: str, body: bytes = b"", headers: Mapping[str, str] = MappingProxyType({})
) -> ManagementResponse:
    """One request to `live`, such as `POST /dev/@connections/{id}`. path: percent-encoded, with its query."""
    target, _, query = path.partition("?")
    start: Message = {}
    parts: list[bytes] = []
    given = {"host": HOST, **headers}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(target),
        "raw_path": target.encode(),
        "root_path": "",
        "query_string": query.encode(),
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in given.items()],
        "client": ("127.0.0.1", 50_000),
        "server": (HOST, 80),
    }

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            start.update(message)
        else:
            parts.append(message.get("body", b""))

    await live(scope, receive, send)
    names = {name.decode(): value.decode("latin-1") for name, value in start["headers"]}
    return ManagementResponse(start["status"], names, b"".join(parts))


class _Raw(io.BytesIO):
    """A body, as botocore reads it."""

    def stream(self, **_: Any) -> Iterator[bytes]:
        while chunk := self.read(65536):
            yield chunk


@contextmanager
def boto3_calls(live: "Freshet") -> Iterator[None]:
    """Let what is called by boto3's `apigatewaymanagementapi` go to `live`, whatever the endpoint's URL.

    For clients that are made within the block, in other threads than that of the event loop: functions of
    `isolation = "thread"` run in such. Without any credentials, there are some within the block.
    """
    handlers, awsrequest = import_module("botocore.handlers"), import_module("botocore.awsrequest")

    def answer(request: Any, **_: Any) -> Any:
        url, body = urlsplit(request.url), request.body or b""
        body = body if isinstance(body, bytes) else body.read()
        names = {
            name: value if isinstance(value, str) else value.decode("latin-1")
            for name, value in request.headers.items()
        }
        path = url.path + (f"?{url.query}" if url.query else "")
        response = live._node.portal.wait(manage(live, request.method, path, body, {"host": url.netloc, **names}))
        return awsrequest.AWSResponse(request.url, response.status, response.headers, _Raw(response.body))

    entry = ("before-send.apigatewaymanagementapi", answer)
    some = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    added = [name for name in some if name not in os.environ]
    os.environ.update({name: some[name] for name in added})
    handlers.BUILTIN_HANDLERS.insert(0, entry)
    boto3 = sys.modules.get("boto3")
    before = getattr(boto3, "DEFAULT_SESSION", None)
    if boto3 is not None:
        boto3.DEFAULT_SESSION = None  # type: ignore[attr-defined]  # the next client makes another
    try:
        yield
    finally:
        if boto3 is not None or (boto3 := sys.modules.get("boto3")) is not None:
            boto3.DEFAULT_SESSION = before  # type: ignore[attr-defined]
        handlers.BUILTIN_HANDLERS.remove(entry)
        for name in added:
            del os.environ[name]
