"""Official clients on one channel, each on its own way to the server, which note what happens to them.

They come back by themselves, or as their documentation has it. What is published there is a number each.
"""

import asyncio
import json
from asyncio.subprocess import PIPE, create_subprocess_exec
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import httpx
from centrifuge import Client
from httpx_sse import SSEError, aconnect_sse
from socketio import AsyncClient
from socketio.exceptions import SocketIOError
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from tests.tools.need import NODE
from tests.tools.patience import seconds

PAUSE = 0.05  # seconds before a client comes back, where that is up to us
WAIT = 20  # seconds for which a poll waits


class Heard:
    """What happened to one client. there: how often it was subscribed. lost: how often it lost that, and why."""

    def __init__(self) -> None:
        self.data: list[Any] = []
        self.errors: list[str] = []
        self.there = 0
        self.lost = 0
        self.why: list[str] = []

    def note(self, event: str, data: Any = None) -> None:
        match event:
            case "data":
                self.data.append(data)
            case "there":
                self.there += 1
            case "lost":
                self.lost += 1
                self.why.append(str(data))
            case _:
                self.errors.append(str(data))

    def read(self, text: str) -> None:
        """A message as it came: JSON, whatever the server sends it for."""
        try:
            self.note("data", json.loads(text))
        except ValueError:
            self.note("error", f"not JSON: {text!r}")


class Place(NamedTuple):
    """url: of the server. channel: of which everything is to be heard."""

    url: str
    channel: str


Listen = Callable[[Place, Heard], Coroutine[Any, Any, None]]


async def _bare_websocket(place: Place, heard: Heard) -> None:
    """It names no position, so that it gets all that is kept each time."""
    url = f"{place.url.replace('http', 'ws')}/channels/{place.channel}?since=oldest"
    while True:
        try:
            async with connect(url) as socket:
                heard.data.clear()
                heard.note("there")
                async for message in socket:
                    heard.read(str(message))
        except (OSError, WebSocketException):
            pass
        heard.note("lost")
        await asyncio.sleep(PAUSE)


async def _events(place: Place, heard: Heard) -> None:
    last = "oldest"
    async with httpx.AsyncClient(base_url=place.url, timeout=None) as http:
        while True:
            try:
                headers = {"Last-Event-ID": last}
                async with aconnect_sse(http, "GET", f"/channels/{place.channel}", headers=headers) as source:
                    async for event in source.aiter_sse():
                        last = event.id or last
                        if event.event == "subscribed":
                            heard.note("there")
                        elif event.event != "disconnected":
                            heard.read(event.data)
            except (httpx.TransportError, SSEError):
                pass
            heard.note("lost")
            await asyncio.sleep(PAUSE)


async def _polls(place: Place, heard: Heard) -> None:
    since: dict[str, Any] = {"since": "oldest"}
    async with httpx.AsyncClient(base_url=place.url, timeout=seconds(WAIT + 5)) as http:
        while True:
            try:
                answer = await http.get(f"/channels/{place.channel}", params=since)
                page = answer.raise_for_status().json()
            except httpx.HTTPError:
                heard.note("lost")
                await asyncio.sleep(PAUSE)
                continue
            heard.note("there")
            for publication in page["publications"]:
                heard.note("data", publication["data"])
            since = {"since": f"{page['epoch']}:{page['offset']}", "wait": WAIT}


async def _centrifuge(place: Place, heard: Heard) -> None:
    url = f"{place.url.replace('http', 'ws')}/connection/websocket"
    client = Client(url, min_reconnect_delay=PAUSE, max_reconnect_delay=4 * PAUSE)
    subscription = client.new_subscription(place.channel)

    async def published(context: Any) -> None:
        heard.note("data", context.pub.data)

    async def subscribed(context: Any) -> None:
        gap = context.was_recovering and not context.recovered
        heard.note("error" if gap else "there", context)

    async def connecting(context: Any) -> None:
        if context.code:
            heard.note("lost", context)

    async def disconnected(context: Any) -> None:
        if context.code:
            heard.note("error", context)

    client.events.on_connecting = connecting
    client.events.on_disconnected = disconnected
    subscription.events.on_publication = published
    subscription.events.on_subscribed = subscribed
    await client.connect()
    await subscription.subscribe()
    try:
        await asyncio.Event().wait()
    finally:
        await client.disconnect()


def _socketio(*transports: str) -> Listen:
    async def listen(place: Place, heard: Heard) -> None:
        """It goes on where it stopped: each event is one publication."""
        client = AsyncClient(reconnection_delay=PAUSE, reconnection_delay_max=4 * PAUSE)
        epoch, subscribing = "", set()

        async def subscribe() -> None:
            nonlocal epoch
            since = [{"epoch": epoch, "offset": len(heard.data)}] if epoch else []
            try:
                place_of = await client.call("subscribe", (place.channel, *since), timeout=seconds(5))
            except SocketIOError:
                return  # lost again
            epoch = place_of.get("epoch", "")
            heard.note("there" if epoch else "error", place_of)

        async def connected() -> None:
            subscribing.add(asyncio.ensure_future(subscribe()))

        client.on("connect", connected)
        client.on("message", lambda data: heard.note("data", data))
        client.on("disconnect", lambda reason: heard.note("lost", reason))
        await client.connect(place.url, transports=list(transports), wait_timeout=seconds(5))
        try:
            await asyncio.Event().wait()
        finally:
            await client.disconnect()

    return listen


PYTHON: dict[str, Listen] = {
    "websockets": _bare_websocket,
    "httpx-sse": _events,
    "httpx, long polls": _polls,
    "centrifuge-python": _centrifuge,
    "python-socketio polling": _socketio("polling"),
    "python-socketio websocket": _socketio("websocket"),
    "python-socketio upgrade": _socketio("polling", "websocket"),
}
JAVASCRIPT = (
    "centrifuge websocket",
    "centrifuge sse",
    "centrifuge http_stream",
    "socket.io-client polling",
    "socket.io-client websocket",
    "socket.io-client upgrade",
    "eventsource",
    "fetch-event-source",
    "eventsource-client",
)
CLIENTS = (*PYTHON, *JAVASCRIPT)


@asynccontextmanager
async def listening(place: Place) -> AsyncIterator[dict[str, Heard]]:
    """All of `CLIENTS`, until the block ends."""
    heard = {client: Heard() for client in CLIENTS}
    tasks = [asyncio.create_task(listen(place, heard[name])) for name, listen in PYTHON.items()]
    node = await create_subprocess_exec("node", "listeners.mjs", *place, cwd=NODE, stdin=PIPE, stdout=PIPE)
    assert node.stdin is not None
    assert node.stdout is not None
    tasks.append(asyncio.create_task(_note_lines(node.stdout, heard)))
    try:
        yield heard
    finally:
        node.stdin.close()
        await node.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _note_lines(lines: asyncio.StreamReader, heard: dict[str, Heard]) -> None:
    async for line in lines:
        it = json.loads(line)
        heard[it["client"]].note(it["event"], it.get("data"))
