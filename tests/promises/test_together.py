"""One channel, seven kinds of client at once: each publishes, and all get all in the same order."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
from httpx_sse import aconnect_sse
from socketio import AsyncClient
from websockets.asyncio.client import connect as websocket

from tests.tools.clients import Listener, connected
from tests.tools.patience import eventually, seconds
from tests.tools.serving import Server, serving

CHANNEL = "log:together"
ROUNDS = 20

Publish = Callable[[str], Awaitable[Any]]
Kind = Callable[[Server, httpx.AsyncClient, list[str]], Any]


@asynccontextmanager
async def centrifuge_json(server: Server, http: httpx.AsyncClient, received: list[str]) -> AsyncIterator[Publish]:
    async with connected(server, token="") as client:
        listener = Listener(client, CHANNEL)
        listener.subscription.events.on_publication = _note(received, lambda context: context.pub.data)
        await listener.start()
        yield listener.subscription.publish


@asynccontextmanager
async def centrifuge_protobuf(server: Server, http: httpx.AsyncClient, received: list[str]) -> AsyncIterator[Publish]:
    async with connected(server, token="", use_protobuf=True) as client:
        listener = Listener(client, CHANNEL)
        listener.subscription.events.on_publication = _note(received, lambda context: json.loads(context.pub.data))
        await listener.start()
        yield lambda text: listener.subscription.publish(json.dumps(text).encode())


def _note(received: list[str], read: Callable[[Any], str]) -> Callable[[Any], Awaitable[None]]:
    async def note(context: Any) -> None:
        received.append(read(context))

    return note


@asynccontextmanager
async def socketio_websocket(server: Server, http: httpx.AsyncClient, received: list[str]) -> AsyncIterator[Publish]:
    async with _socketio(server, received, "websocket") as publish:
        yield publish


@asynccontextmanager
async def socketio_polling(server: Server, http: httpx.AsyncClient, received: list[str]) -> AsyncIterator[Publish]:
    async with _socketio(server, received, "polling") as publish:
        yield publish


@asynccontextmanager
async def _socketio(server: Server, received: list[str], transport: str) -> AsyncIterator[Publish]:
    client = AsyncClient()
    client.on("message", received.append)
    await client.connect(server.http(""), transports=[transport], wait_timeout=seconds(5))
    await client.call("subscribe", CHANNEL, timeout=seconds(5))
    try:
        yield lambda text: client.call("publish", (CHANNEL, text), timeout=seconds(5))
    finally:
        await client.disconnect()


@asynccontextmanager
async def bare_websocket(server: Server, http: httpx.AsyncClient, received: list[str]) -> AsyncIterator[Publish]:
    async with websocket(server.ws(f"/channels/{CHANNEL}")) as socket, _reading(_frames(socket, received)):
        yield lambda text: socket.send(json.dumps(text))


async def _frames(socket: Any, received: list[str]) -> None:
    while True:
        received.append(json.loads(await socket.recv()))


@asynccontextmanager
async def event_stream(server: Server, http: httpx.AsyncClient, received: list[str]) -> AsyncIterator[Publish]:
    begun = asyncio.Event()

    async def read() -> None:
        async with aconnect_sse(http, "GET", f"/channels/{CHANNEL}", timeout=None) as source:
            async for event in source.aiter_sse():
                begun.set()
                if event.event == "message":
                    received.append(event.json())

    async with _reading(read()):
        await begun.wait()
        yield lambda text: http.post(f"/channels/{CHANNEL}", json=text)


@asynccontextmanager
async def long_poll(server: Server, http: httpx.AsyncClient, received: list[str]) -> AsyncIterator[Publish]:
    page = (await http.get(f"/channels/{CHANNEL}")).json()

    async def read() -> None:
        since = f"{page['epoch']}:{page['offset']}"
        while True:
            got = (await http.get(f"/channels/{CHANNEL}", params={"since": since, "wait": 20}, timeout=None)).json()
            received.extend(each["data"] for each in got["publications"])
            since = f"{got['epoch']}:{got['offset']}"

    async with _reading(read()):
        yield lambda text: http.post(f"/channels/{CHANNEL}", json=text)


@asynccontextmanager
async def _reading(work: Any) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait((task,))


KINDS: list[Kind] = [
    centrifuge_json,
    centrifuge_protobuf,
    socketio_websocket,
    socketio_polling,
    bare_websocket,
    event_stream,
    long_poll,
]


async def test_all_get_all_in_the_same_order() -> None:
    with serving("tests.endpoints.socketio.kept_app:live") as server:
        async with AsyncExitStack() as stack:
            http = await stack.enter_async_context(httpx.AsyncClient(base_url=server.http(""), timeout=seconds(10)))
            received: dict[str, list[str]] = {kind.__name__: [] for kind in KINDS}
            publish: dict[str, Publish] = {}
            for kind in KINDS:
                client = kind(server, http, received[kind.__name__])
                publish[kind.__name__] = await stack.enter_async_context(client)

            async def tell(name: str) -> None:
                for number in range(ROUNDS):
                    await publish[name](f"{name} {number}")

            await asyncio.gather(*map(tell, publish))
            total = ROUNDS * len(KINDS)
            await eventually(lambda: all(len(got) >= total for got in received.values()), 10, "all to get all")
    first = received["centrifuge_json"]
    assert all(got == first for got in received.values())
    for name in received:
        assert [text for text in first if text.startswith(f"{name} ")] == [f"{name} {n}" for n in range(ROUNDS)]
