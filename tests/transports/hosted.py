"""The WebSocket side of the server in the test's own process, and the client at the other end of its socket."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from freshet.transports.hosting import HostedWebSocket
from freshet.websocket.handshake import check_response, client_request
from tests.tools.patience import eventually
from tests.transports.sockets import Peer, joined

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]
ACCEPT = {"type": "websocket.accept"}


class Hosted:
    """A server's protocol in this process, and the client at the other end of its socket."""

    def __init__(self, protocol: HostedWebSocket, state: ServerState, transport: asyncio.Transport, peer: Peer) -> None:
        self.protocol = protocol
        self.state = state
        self.transport = transport
        self.peer = peer

    async def request(self, target: str = "/", **options: Any) -> bytes:
        """Ask for a WebSocket; the key to check the answer with."""
        request, key = client_request("localhost", target, **options)
        await self.peer.write(request)
        return key

    async def open(self, target: str = "/", **options: Any) -> dict[bytes, bytes]:
        """Ask for a WebSocket and get it; the headers of the answer."""
        key = await self.request(target, **options)
        return dict(check_response(await self.peer.head() + b"\r\n\r\n", key))

    async def over(self) -> None:
        """Until the application has returned, and the connection is forgotten."""
        await eventually(lambda: not self.state.tasks and not self.state.connections)


@asynccontextmanager
async def hosted(app: Application, *, deflate: bool = False, **options: Any) -> AsyncIterator[Hosted]:
    """What the application itself asserts counts too, though a server logs whatever an application raises.

    deflate: what the client reads may be compressed.
    """
    failures: list[BaseException] = []

    async def watched(scope: Message, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        except (AssertionError, pytest.fail.Exception) as failure:
            failures.append(failure)
            raise RuntimeError("the test failed") from failure

    config = uvicorn.Config(watched, ws=HostedWebSocket, log_config=None, lifespan="off", **options)  # type: ignore[arg-type]
    state = ServerState()
    state.default_headers = [(b"x-server", b"ours")]
    protocol = HostedWebSocket(config, state, {"shared": 1}, asyncio.get_running_loop())
    async with joined(protocol, deflate=deflate) as (transport, peer):
        yield Hosted(protocol, state, transport, peer)
    for failure in failures:
        raise failure


async def echo(scope: Message, receive: Receive, send: Send) -> None:
    await receive()
    await send(ACCEPT)
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})
