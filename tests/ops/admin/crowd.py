"""Many clients at once, for the page to show: each with a user of its own, in a room and in a channel for all."""

import asyncio
import json
from contextlib import AsyncExitStack, suppress
from threading import Event, Thread
from types import TracebackType
from typing import Self

import jwt
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.tools.patience import seconds
from tests.tools.serving import Server

SECRET = "a secret of the tests that is long enough for any algorithm"
ROOMS = 40
AT_ONCE = 50  # that connect at the same time


def token(user: str) -> str:
    return jwt.encode({"sub": user}, SECRET, "HS256")


class Crowd:
    """`with Crowd(server, 1000) as crowd:`: they are connected, and read what comes, in a thread of their own."""

    def __init__(self, server: Server, size: int, names: dict[int, str] | None = None) -> None:
        self._url = server.ws("/connection/websocket")
        self._size = size
        self._names = names or {}
        self._there, self._stop = Event(), asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=lambda: self._loop.run_until_complete(self._run()))
        self.closed: dict[str, int] = {}
        """By user: the codes with which the server ended their connections."""

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._there.wait(seconds(60)), "the crowd did not come"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop.close()

    def user(self, index: int) -> str:
        return self._names.get(index, f"user-{index:04}")

    async def _run(self) -> None:
        places = asyncio.Semaphore(AT_ONCE)
        async with AsyncExitStack() as stack:

            async def come(index: int) -> ClientConnection:
                async with places:
                    client = await stack.enter_async_context(connect(self._url, ping_interval=None))
                    await self._enter(client, index)
                    return client

            clients = await asyncio.gather(*(come(index) for index in range(self._size)))
            reading = [asyncio.create_task(self._read(client, self.user(at))) for at, client in enumerate(clients)]
            self._there.set()
            await self._stop.wait()
            for task in reading:
                task.cancel()

    async def _enter(self, client: ClientConnection, index: int) -> None:
        commands = [
            {"id": 1, "connect": {"token": token(self.user(index))}},
            {"id": 2, "subscribe": {"channel": f"room:{index % ROOMS}"}},
            {"id": 3, "subscribe": {"channel": "everybody"}},
        ]
        await client.send("\n".join(map(json.dumps, commands)))
        answered = 0
        while answered < len(commands):
            answered += sum("id" in json.loads(line) for line in str(await client.recv()).split("\n"))

    async def _read(self, client: ClientConnection, user: str) -> None:
        with suppress(ConnectionClosed):
            async for frame in client:
                if frame == "{}":
                    await client.send("{}")
        self.closed[user] = client.close_code or 0
