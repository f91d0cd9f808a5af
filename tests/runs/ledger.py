"""Viewers of runs that are cut, reload and come late, over every kind of client; and what each has in the end."""

import asyncio
import itertools
import json
import random
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
from centrifuge import CentrifugeError, Client, PublicationContext
from httpx_sse import aconnect_sse
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from tests.runs.viewer import Viewer
from tests.tools.need import require
from tests.tools.patience import seconds
from tests.tools.serving import Server

GONE = (OSError, httpx.HTTPError, WebSocketException, CentrifugeError, TimeoutError, EOFError)
PAUSE = 0.05  # seconds before a client comes back
QUIET = (
    1  # seconds, scaled, in which a server has to say something: of a busy one that is cut sooner none hears anything
)

Servers = Callable[[], Server]


class SocketIoClients:
    """The official client, many of it in one process of Node. lines: what each was given, by its number."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._numbers = itertools.count()
        self._given: dict[int, asyncio.Queue[Any]] = {}

    def open(self, url: str, channel: str) -> tuple[int, asyncio.Queue[Any]]:
        number = next(self._numbers)
        self._given[number] = asyncio.Queue()
        self._say("open", number, url, channel)
        return number, self._given[number]

    def cut(self, number: int) -> None:
        """It loses its connection, and comes back."""
        self._say("cut", number)

    def close(self, number: int) -> None:
        del self._given[number]
        self._say("close", number)

    def _say(self, *line: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(line).encode() + b"\n")

    async def hear(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            number, data = json.loads(line)
            if number in self._given:
                self._given[number].put_nowait(data)


@asynccontextmanager
async def socketio_clients(node: Path) -> AsyncIterator[SocketIoClients]:
    """node: the folder with the npm clients."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *(require("node"), "watchers.mjs"), cwd=node, stdin=pipe, stdout=pipe, limit=2**24
    )
    clients = SocketIoClients(process)
    hearing = asyncio.ensure_future(clients.hear())
    try:
        yield clients
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()
        await hearing


class Watcher(ABC):
    """One client that watches one chat until its run is over. chance: of what happens to it."""

    def __init__(self, chat: str, servers: Servers, chance: random.Random, socketio: SocketIoClients) -> None:
        self.chat = chat
        self.socketio = socketio
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
                    async with aclosing(self.events(self._servers(), max(life, seconds(QUIET)))) as events:
                        async for data in events:
                            self._take(data)
                            if self.viewer.has_ended(run):
                                return
                            if time.monotonic() > end:
                                break
                self.cuts += 1
                if self._chance.random() < 0.3:
                    self.reload()
                await asyncio.sleep(PAUSE)

    def _take(self, data: dict[str, Any]) -> None:
        try:
            self.viewer.take(data)
        except (AssertionError, KeyError) as why:
            raise AssertionError(f"{type(self).__name__} of {self.chat}, cut {self.cuts} times: {why!r}") from why

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


class SocketIoWatcher(Watcher):
    """The official client, which loses its connection in between, and recovers by itself while it lives."""

    async def events(self, server: Server, quiet: float) -> AsyncGenerator[dict[str, Any]]:
        self.viewer = Viewer()  # another client each time
        number, given = self.socketio.open(server.http(""), f"chat:{self.chat}")
        again = asyncio.get_running_loop().call_later(quiet / 2, self.socketio.cut, number)
        try:
            while (data := await asyncio.wait_for(given.get(), quiet)) is not None:
                yield data
        finally:
            again.cancel()
            self.socketio.close(number)


class ChatWatcher(Watcher):
    """As `useChat` with `resume`: what runs is replayed from its start, and what is over is among the messages."""

    async def events(self, server: Server, quiet: float) -> AsyncGenerator[dict[str, Any]]:
        url = server.http(f"/ai/chat/{self.chat}")
        timeout = httpx.Timeout(5, read=quiet)
        async with self.http.stream("GET", f"{url}/stream", timeout=timeout) as answer:
            answer.raise_for_status()
            if answer.status_code == 204:
                async for summary in self._messages(url):
                    yield summary
                return
            run, seq = "", itertools.count()
            async for line in answer.aiter_lines():
                if line.startswith("data: {"):
                    part = json.loads(line.removeprefix("data: "))
                    run = part.get("messageId") or run
                    state = self._state_of(part)
                    yield {"run": run, "seq": next(seq), "parts": [part], "state": state}

    async def _messages(self, url: str) -> AsyncGenerator[dict[str, Any]]:
        answer = await self.http.get(f"{url}/messages")
        answer.raise_for_status()
        yield answer.json()

    @staticmethod
    def _state_of(part: dict[str, Any]) -> str:
        if part["type"] == "error" and part["errorText"].endswith("try again"):
            raise EOFError  # the connection is at its end, the run is not
        return {"finish": "finished", "abort": "stopped", "error": "failed"}.get(part["type"], "running")


KINDS: list[type[Watcher]] = [
    SocketWatcher,
    StreamWatcher,
    PollWatcher,
    CentrifugeWatcher,
    SocketIoWatcher,
    ChatWatcher,
]


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


async def stop(chat: str, servers: Servers) -> None:
    """Stop what runs there, tried until it is known that it was done."""
    while True:
        with suppress(*GONE):
            async with httpx.AsyncClient(timeout=seconds(3), verify=False) as http:
                (await http.post(servers().http(f"/ai/chat/{chat}/stop"))).raise_for_status()
                return
        await asyncio.sleep(PAUSE)


async def stop_after(delay: float, chat: str, servers: Servers) -> None:
    await asyncio.sleep(delay)
    await stop(chat, servers)


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
