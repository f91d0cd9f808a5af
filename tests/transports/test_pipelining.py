"""Requests that are sent before the one before them is answered."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from freshet.runtime.server import RunningServer
from freshet.transports.hosting import HostedWebSocket
from freshet.transports.http import BoundedHttp
from freshet.transports.lobby import Lobby
from freshet.websocket.handshake import client_request
from tests.transports.sockets import Peer, joined

GET = b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\n"
UPGRADE = client_request("h", "/socket")[0]


class Application:
    """Accepts WebSockets, and answers the others when it is let. asked: paths."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.may = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked.append(scope["path"])
        await receive()
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
            return
        await self.may.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"6")]})
        await send({"type": "http.response.body", "body": b"secret"})


@asynccontextmanager
async def connection(app: Application, room: int | None = None) -> AsyncIterator[Peer]:
    config = uvicorn.Config(
        app,
        interface="asgi3",
        ws=HostedWebSocket,
        log_config=None,
        lifespan="off",
        date_header=False,  # type: ignore[arg-type]
    )
    config.load()
    state = ServerState()
    lobby = Lobby(lambda: len(state.connections), room)
    async with joined(BoundedHttp(config, state, {}, lobby=lobby, server=RunningServer())) as (_, peer):
        yield peer


async def rest(peer: Peer) -> bytes:
    got = b""
    while chunk := await peer.read():
        got += chunk
    return got


async def test_a_websocket_is_not_opened_while_a_response_is_owed() -> None:
    app = Application()
    async with connection(app) as peer:
        await peer.write(GET + UPGRADE)
        assert await rest(peer) == b""
        assert app.asked == ["/slow"]


async def test_a_websocket_opens_behind_a_response_that_is_complete() -> None:
    app = Application()
    app.may.set()
    async with connection(app) as peer:
        await peer.write(GET)
        assert b"200 OK" in await peer.head()
        await peer.write(UPGRADE)
        assert b" 101 " in await peer.head()


async def test_a_websocket_for_which_there_is_no_room_leaves_no_error(caplog: pytest.LogCaptureFixture) -> None:
    async with connection(Application(), room=-1) as peer:  # none but short requests
        await peer.write(UPGRADE)
        assert (await peer.response())[0] == 503
    await asyncio.sleep(0)
    assert [each for each in caplog.records if each.name == "asyncio"] == []
