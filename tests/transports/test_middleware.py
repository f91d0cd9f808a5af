"""Streams below the middleware of an application: compression, and functions that wrap each request."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from tests.tools.clients import soon
from tests.tools.patience import eventually, seconds
from tests.tools.serving import Server
from tests.transports.shells import shell

APP = "tests.transports.wrapped_app:api"
CONNECT = '{"id":1,"connect":{"subs":{}}}'
SUBSCRIBE = b'{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"a"}}\n'


@pytest.fixture(scope="module", params=["freshet", "uvicorn", "hypercorn"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with shell(request.param, APP, tmp_path_factory.mktemp("wrapped")) as server:
        yield server


async def heard(lines: AsyncIterator[str], text: str) -> None:
    while text not in await soon(anext(lines)):
        pass


@pytest.mark.parametrize(
    ("method", "path", "accept", "body"),
    [
        ("GET", "/live/channels/a", "text/event-stream", b""),
        ("POST", "/live/connection/sse", "text/event-stream", SUBSCRIBE),
        ("POST", "/live/connection/http_stream", "*/*", SUBSCRIBE),
    ],
    ids=["channel", "sse", "http_stream"],
)
async def test_a_stream_passes_at_once_and_its_end_is_noticed(
    server: Server, method: str, path: str, accept: str, body: bytes
) -> None:
    headers = {"Accept": accept, "Accept-Encoding": "gzip"}
    async with httpx.AsyncClient(base_url=server.http(""), timeout=seconds(5)) as http:

        async def holds(number: int) -> bool:
            return int((await http.get("/clients")).text) == number

        assert await holds(0)
        async with http.stream(method, path, headers=headers, content=body) as answer:
            lines = answer.aiter_lines()
            await heard(lines, "subscribe")
            assert await holds(1)
            for number in range(3):
                await http.post("/live/api/publish", json={"channel": "a", "data": {"number": number}})
                await heard(lines, f'"number":{number}')
        await eventually(lambda: holds(0), 5, "the client to be gone")


async def test_a_long_poll_waits_and_is_answered(server: Server) -> None:
    async with httpx.AsyncClient(base_url=server.http(""), timeout=seconds(10)) as http:
        page = (await http.get("/live/channels/b")).json()
        since = f"{page['epoch']}:{page['offset']}"
        waiting = asyncio.ensure_future(http.get("/live/channels/b", params={"since": since, "wait": "5"}))
        await http.post("/live/api/publish", json={"channel": "b", "data": 1})
        assert [each["data"] for each in (await waiting).json()["publications"]] == [1]
