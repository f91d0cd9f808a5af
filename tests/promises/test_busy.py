"""While a process has more to write than it can, who sends much waits, by whatever door; who sends little does not."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from tests.tools.doors import CHANNEL, Doors, doors
from tests.tools.patience import seconds
from tests.tools.serving import Server, serving

LITTLE, MUCH = b'"little"', b'"%b"' % (b"x" * 20_000)
WAITS = 0.3  # seconds in which what is not read would be


@asynccontextmanager
async def busy(http: httpx.AsyncClient) -> AsyncIterator[None]:
    (await http.post("/api/rpc", json={"method": "busy"})).raise_for_status()
    try:
        yield
    finally:
        (await http.post("/api/rpc", json={"method": "relieve"})).raise_for_status()


async def published(http: httpx.AsyncClient) -> int:
    """So many were, in all."""
    answer = (await http.post("/api/history", json={"channel": CHANNEL, "limit": 0})).json()
    return int(answer["result"]["offset"])


async def check(server: Server, opened: Doors, name: str) -> None:
    way = opened.ways_in[name]
    async with httpx.AsyncClient(base_url=server.http(""), timeout=seconds(10)) as http:
        before = await published(http)
        async with busy(http):
            assert await way(LITTLE), name
            assert await published(http) == before + 1, name
            sending = asyncio.ensure_future(way(MUCH))
            await asyncio.sleep(WAITS)
            assert await published(http) == before + 1, name
        assert await sending, name
        assert await published(http) == before + 2, name


async def test_much_waits_while_the_process_is_busy_by_every_door_of_clients() -> None:
    with serving("tests.promises.busy_app:live") as server:
        async with doors(server) as opened:
            ways = [name for name in opened.ways_in if not name.startswith("api ")]
        assert len(ways) >= 6
        for name in ways:
            async with doors(server) as opened:  # anew, as nobody reads what came by the others
                await check(server, opened, name)


async def test_who_has_the_key_of_the_api_does_not_wait() -> None:
    with serving("tests.promises.busy_app:live") as server:
        async with doors(server) as opened, httpx.AsyncClient(base_url=server.http("")) as http, busy(http):
            for name in opened.ways_in:
                if name.startswith("api "):
                    assert await opened.ways_in[name](MUCH), name
