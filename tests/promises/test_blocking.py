"""A function of the user's that blocks the whole process: nobody is sent away for an answer that was not read yet."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect

from tests.tools.clients import soon
from tests.tools.patience import eventually, seconds
from tests.tools.serving import Server, serving

APPLICATION = """
import time
from pathlib import Path

from freshet import Freshet
from freshet.config import parse

options = {"tokens": {"anonymous": True}, "api": {"anonymous": True}, "timing": {"ping_interval": 2, "pong_timeout": 1}}
live = Freshet(config=parse(options), environment={})
live.channel("*")

@live.api_rpc("block")
def block(data):
    Path("blocked").touch()
    time.sleep(1.5)
"""
Ping = Pong = Callable[[], Awaitable[None]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("blocking")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    (folder / "blocking.py").write_text(APPLICATION)
    with serving("blocking:live", cwd=folder) as server:
        yield server


@asynccontextmanager
async def websocket(
    server: Server, url: str, opening: list[str], ping: str, pong: str
) -> AsyncIterator[tuple[Ping, Pong]]:
    async with connect(server.ws(url)) as link:
        for command in opening:
            await link.send(command)

        async def pinged() -> None:
            while await soon(link.recv()) != ping:
                pass

        yield pinged, lambda: link.send(pong)


@asynccontextmanager
async def centrifuge(server: Server) -> AsyncIterator[tuple[Ping, Pong]]:
    async with websocket(server, "/connection/websocket", ['{"id":1,"connect":{}}'], "{}", "{}") as client:
        yield client


@asynccontextmanager
async def socketio(server: Server) -> AsyncIterator[tuple[Ping, Pong]]:
    async with websocket(server, "/socket.io/?EIO=4&transport=websocket", ["40"], "2", "3") as client:
        yield client


@asynccontextmanager
async def polling(server: Server) -> AsyncIterator[tuple[Ping, Pong]]:
    async with httpx.AsyncClient(base_url=server.http("/socket.io/"), timeout=seconds(10)) as http:
        query = {"EIO": "4", "transport": "polling"}
        opened = await http.get("", params=query)
        query["sid"] = httpx.Response(200, text=opened.text[1:]).json()["sid"]

        async def say(packet: str) -> None:
            assert (await http.post("", params=query, content=packet)).text == "ok"

        async def pinged() -> None:
            while "2" not in (packets := (await http.get("", params=query)).text.split("\x1e")):
                assert "1" not in packets, "the session is over"

        await say("40")
        yield pinged, lambda: say("3")


@pytest.mark.parametrize("client", [centrifuge, socketio, polling])
async def test_who_answers_while_a_function_blocks_stays(
    server: Server, folder: Path, client: Callable[[Server], AbstractAsyncContextManager[tuple[Ping, Pong]]]
) -> None:
    (folder / "blocked").unlink(missing_ok=True)
    async with client(server) as (pinged, pong), httpx.AsyncClient(timeout=seconds(10)) as http:
        await pinged()
        blocking = asyncio.ensure_future(http.post(server.http("/api/rpc"), json={"method": "block"}))
        await eventually((folder / "blocked").exists, 5, "the function to block")
        await pong()
        await blocking
        await pinged()
