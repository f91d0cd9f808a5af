"""Requests that are sent before the one before them is answered."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise
from math import ceil
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from freshet.runtime.fair_queue import LEAST, FairQueue
from freshet.runtime.server import RunningServer
from freshet.transports.hosting import HostedWebSocket
from freshet.transports.http import IN_TASK, BoundedHttp
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
async def connection(
    app: Application, room: int | None = None, server: RunningServer | None = None
) -> AsyncIterator[Peer]:
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
    server = server or RunningServer()
    async with joined(BoundedHttp(config, state, {}, lobby=lobby, server=server)) as (_, peer):
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


async def test_requests_of_many_connections_begin_a_portion_a_turn() -> None:
    app, server = Application(), RunningServer()
    server.fair_queue = FairQueue(now=lambda: 0.0)  # there is no time but what a request is reckoned with
    each = ceil(LEAST / IN_TASK)
    async with AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(connection(app, server=server)) for _ in range(20)]
        for peer in peers:
            await peer.write(GET)
        asked = [0]
        while len(app.asked) < len(peers):
            await asyncio.sleep(0)
            asked.append(len(app.asked))
        assert max(after - before for before, after in pairwise(asked)) <= each
        app.may.set()
        for peer in peers:
            assert (await peer.read()).startswith(b"HTTP/1.1 200 OK")


async def test_what_was_sent_ahead_is_answered_in_order_and_all_of_it() -> None:
    app = Application()
    app.may.set()
    async with connection(app) as peer:
        await peer.write(b"".join(GET.replace(b"slow", b"%d" % number) for number in range(12)))
        got = b""
        while got.count(b"secret") < 12:
            got += await peer.read()
    assert app.asked == [f"/{number}" for number in range(12)]
