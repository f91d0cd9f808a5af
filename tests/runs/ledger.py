"""Viewers of runs that are cut, reload and come late, over every kind of client; and what each has in the end."""

import asyncio
import json
import random
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from typing import Any

import httpx
from centrifuge import CentrifugeError, Client, PublicationContext
from httpx_sse import aconnect_sse
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from tests.runs.viewer import Viewer
from tests.tools.patience import seconds
from tests.tools.serving import Server

GONE = (OSError, httpx.HTTPError, WebSocketException, CentrifugeError, TimeoutError, EOFError)
PAUSE = 0.05  # seconds before a client comes back

Servers = Callable[[], Server]


class Watcher(ABC):
    """One client that watches one chat until its run is over. chance: of what happens to it."""

    def __init__(self, chat: str, servers: Servers, chance: random.Random) -> None:
        self.chat = chat
        self.viewer = Viewer()
        self.cuts = 0
        self.http: httpx.AsyncClient
        self._servers = servers
        self._chance = chance

    async def watch(self, run: str) -> None:
        """Raises AssertionError for a gap or a repeat."""
        await asyncio.sleep(self._chance.uniform(0, 0.5))
        async with httpx.AsyncClient(verify=False) as self.http:
            while not self.viewer.has_ended(run):
                life = self._chance.uniform(0.2, 1.5)
                end = time.monotonic() + life
                with suppress(*GONE):
                    async with aclosing(self.events(self._servers(), life)) as events:
                        async for data in events:
                            self.viewer.take(data)
                            if self.viewer.has_ended(run):
                                return
                            if time.monotonic() > end:
                                break
                self.cuts += 1
                if self._chance.random() < 0.3:
                    self.reload()
                await asyncio.sleep(PAUSE)

    @abstractmethod
    def events(self, server: Server, quiet: float) -> AsyncGenerator[dict[str, Any]]:
        """What comes over one connection, which ends when nothing has come for so many seconds."""

    def reload(self) -> None:
        """The page is loaded again: it knows nothing any more."""
        self.viewer = Viewer()


class SocketWatcher(Watcher):
    """A bare WebSocket: each connection begins anew."""

    async def events(self, server: Server, quiet: float) -> AsyncGenerator[dict[str, Any]]:
        async with connect(server.ws(f"/channels/chat:{self.chat}")) as socket:
            while True:
                yield json.loads(await asyncio.wait_for(socket.recv(), quiet))


class StreamWatcher(Watcher):
    """An event stream that recovers by `Last-Event-ID`, as an `EventSource` does."""

    last = ""

    async def events(self, server: Server, quiet: float) -> AsyncGenerator[dict[str, Any]]:
        headers = {"Last-Event-ID": self.last} if self.last else {}
        url = server.http(f"/channels/chat:{self.chat}")
        timeout = httpx.Timeout(5, read=quiet)
        async with aconnect_sse(self.http, "GET", url, headers=headers, timeout=timeout) as source:
            async for event in source.aiter_sse():
                self.last = event.id or self.last
                if event.event == "message":
                    yield json.loads(event.data)

    def reload(self) -> None:
        super().reload()
        self.last = ""


class PollWatcher(Watcher):
    """Pages of history that wait: `since` is where the one before ended."""

    since = ""

    async def events(self, server: Server, quiet: float) -> AsyncGenerator[dict[str, Any]]:
        while True:
            query = {"since": self.since, "wait": "5"} if self.since else {}
            url = server.http(f"/channels/chat:{self.chat}")
            answer = await self.http.get(url, params=query, timeout=httpx.Timeout(5, read=quiet))
            answer.raise_for_status()
            page = answer.json()
            for publication in page["publications"]:
                self.since = f"{page['epoch']}:{publication['offset']}"
                yield publication["data"]
            self.since = f"{page['epoch']}:{page['offset']}"

    def reload(self) -> None:
        super().reload()
        self.since = ""


class CentrifugeWatcher(Watcher):
    """The official client, which recovers by itself while it lives."""

    async def events(self, server: Server, quiet: float) -> AsyncGenerator[dict[str, Any]]:
        self.viewer = Viewer()  # another client each time
        queue: asyncio.Queue[Any] = asyncio.Queue()

        async def note(context: PublicationContext) -> None:
            queue.put_nowait(context.pub.data)

        client = Client(server.ws("/connection/websocket"))
        subscription = client.new_subscription(f"chat:{self.chat}")
        subscription.events.on_publication = note
        try:
            await client.connect()
            await subscription.subscribe()
            while True:
                yield await asyncio.wait_for(queue.get(), quiet)
        finally:
            await client.disconnect()


KINDS: list[type[Watcher]] = [SocketWatcher, StreamWatcher, PollWatcher, CentrifugeWatcher, StreamWatcher]


async def begin(chat: str, text: str, servers: Servers) -> str:
    """Begin a run as `useChat` does, and leave; tried until it is known that it has begun. The answer is its id."""
    message = {"id": f"{chat}-m", "role": "user", "parts": [{"type": "text", "text": text}]}
    while True:
        with suppress(*GONE):
            async with httpx.AsyncClient(timeout=seconds(3), verify=False) as http:
                url = servers().http("/ai/chat")
                async with http.stream("POST", url, json={"id": chat, "messages": [message]}) as answer:
                    answer.raise_for_status()
                    async for line in answer.aiter_lines():
                        if '"start"' in line:
                            return f"{chat}-m:answer"
        await asyncio.sleep(PAUSE)


async def kept(chat: str, servers: Servers) -> dict[str, Any]:
    """The answer as the server keeps it."""
    while True:
        with suppress(*GONE):
            async with httpx.AsyncClient(timeout=seconds(3), verify=False) as http:
                answer = await http.get(servers().http(f"/ai/chat/{chat}/messages"))
                answer.raise_for_status()
                message: dict[str, Any] = answer.json()["messages"][-1]
                return message
        await asyncio.sleep(PAUSE)
