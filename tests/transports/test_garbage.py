"""What is over is gone: no request and no connection leaves objects that refer to one another.

Only a collection finds these, and while it runs all clients wait, the longer the more there are: whoever asks often, or
is refused often, would decide when that is.
"""

import asyncio
import gc
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest
import uvicorn
from uvicorn.server import ServerState

from freshet import Freshet
from freshet.runtime.server import RunningServer
from freshet.transports.entrance import Entrance
from freshet.transports.hosting import HostedWebSocket
from freshet.transports.http import BoundedHttp
from freshet.transports.lobby import Lobby
from freshet.websocket.handshake import client_request
from tests.tools.patience import eventually, seconds

TIMES = 3
SHORT = b"Host: h\r\n"
LONG = b"Host:  h\r\n"  # which is no plain request, and parsed by uvicorn
POST = b"POST /channels/log:a HTTP/1.1\r\n%bContent-Length: 1\r\n\r\n1"
PAGE = b"GET /channels/log:a?limit=1 HTTP/1.1\r\n%b\r\n"
POLL = b"GET /channels/log:a?wait=0.01 HTTP/1.1\r\n%b\r\n"
STREAM = b"GET /channels/log:a HTTP/1.1\r\n%bAccept: text/event-stream\r\n\r\n"
SOCKET_IO = b"GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\n%b\r\n"
UPGRADE = client_request("h", "/connection/websocket")[0]
CONNECT = b"\x81\x96\0\0\0\0" + b'{"id":1,"connect":{}}\n'

WAYS = {
    "publications": POST % SHORT,
    "publications, the long way": POST % LONG,
    "pages": PAGE % SHORT,
    "pages, the long way": PAGE % LONG,
    "long polls": POLL % SHORT,
    "streams": STREAM % SHORT,
    "streams, the long way": STREAM % LONG,
    "polls of Socket.IO": SOCKET_IO % SHORT,
    "more requests than may be sent ahead": POST % SHORT * 40,
    "a head beyond its bound": b"GET / HTTP/1.1\r\nHost: h\r\n" + b"a: b\r\n" * 200 + b"\r\n",
    "what is no request": b"\x16\x03\x01\r\n\r\n",
    "half a request": b"POST /channels/log:a HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n1",
    "websockets": UPGRADE + CONNECT,
    "websockets, the long way": UPGRADE.replace(b"Host: h", b"Host:  h") + CONNECT,
}


@asynccontextmanager
async def served() -> AsyncIterator[tuple[int, ServerState]]:
    live = Freshet(dev=True, environment={})
    async with live.lifespan():
        state, running = ServerState(), RunningServer()
        lobby = Lobby(lambda: len(state.connections), 1000)
        config = uvicorn.Config(live, interface="asgi3", ws=HostedWebSocket, log_config=None, lifespan="off")
        config.load()
        running.app = live
        live._direct.open(running)

        def long_way() -> BoundedHttp:
            return BoundedHttp(config, state, {}, lobby=lobby, server=running)

        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Entrance(long_way, state, lobby, running), "127.0.0.1", 0)
        async with server:
            yield server.sockets[0].getsockname()[1], state


async def ask(port: int, request: bytes) -> None:
    """Send it, wait until something is answered, and go."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with suppress(OSError, asyncio.TimeoutError):
        writer.write(request)
        await asyncio.wait_for(reader.read(1), 0.05 if b"Content-Length: 9" in request else seconds(5))
    writer.transport.abort()


async def left_behind(work: Callable[[], Awaitable[None]]) -> Counter[str]:
    """The kinds of ours that only a collection finds."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        await work()
        gc.collect()
        return Counter(
            f"{type(each).__module__}.{type(each).__qualname__}"
            for each in gc.garbage
            if type(each).__module__.startswith(("freshet.", "uvicorn."))
        )
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


@pytest.mark.parametrize("way", WAYS)
async def test_what_is_over_leaves_nothing_that_only_a_collection_finds(way: str) -> None:
    async with served() as (port, state):

        async def work() -> None:
            for _ in range(TIMES):
                await ask(port, WAYS[way])
            await eventually(lambda: not state.connections and not state.tasks)

        await work()  # what is made once
        assert await left_behind(work) == {}
