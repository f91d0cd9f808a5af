"""No silent loss over HTTP: readers that are cut at random, and change the way in which they read, keep the ledger.

They read a channel's URL as event streams, one for each channel or one for both, and as pages that wait.
"""

import asyncio
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
from httpx_sse import aconnect_sse

from tests.promises.cutting import Line, check, cut_lines, unlimited_server
from tests.promises.test_recovery import CHANNELS, publish
from tests.tools.clients import token
from tests.tools.patience import eventually, seconds
from tests.tools.serving import Server

READERS = 4


server = pytest.fixture(unlimited_server, scope="module")


class Reader:
    """got: offsets and data, with a None where it was told of a gap. places: where it goes on, `epoch:offset`."""

    def __init__(self, line: Line, places: dict[str, str], chance: random.Random) -> None:
        self.got: dict[str, list[tuple[int, Any] | None]] = defaultdict(list)
        self.ways: dict[str, int] = defaultdict(int)
        self._places = dict(places)
        self._chance = chance
        self._http = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{line.port}",
            headers={"Authorization": f"Bearer {token('reader')}"},
            timeout=seconds(10),
        )

    async def read(self) -> None:
        """Until it is cancelled."""
        ways: list[Callable[[], Awaitable[Any]]] = [self._both, self._each, self._pages]
        async with self._http:
            while True:
                way = self._chance.choice(ways)
                try:
                    async with asyncio.timeout(self._chance.uniform(0.05, 0.5)):
                        await way()
                except (TimeoutError, httpx.HTTPError):
                    continue
                except ExceptionGroup as errors:
                    others = errors.split(httpx.HTTPError)[1]
                    if others is not None:
                        raise

    def _note(self, way: str, channel: str, offset: int, data: Any) -> None:
        self.ways[way] += 1
        self.got[channel].append((offset, data))

    async def _both(self) -> None:
        query: dict[str, Any] = {"channel": list(CHANNELS)}
        headers = {"Last-Event-ID": ",".join(self._places[channel] for channel in CHANNELS)}
        async with aconnect_sse(self._http, "GET", "/channels", params=query, headers=headers) as source:
            async for event in source.aiter_sse():
                self._places = dict(zip(CHANNELS, event.id.split(","), strict=True))
                told = event.json()
                if event.event == "unrecoverable":
                    self.got[told["channel"]].append(None)
                elif event.event == "message":
                    offset = int(self._places[told["channel"]].rpartition(":")[2])
                    self._note("both", told["channel"], offset, told["data"])

    async def _each(self) -> None:
        async with asyncio.TaskGroup() as group:
            for channel in CHANNELS:
                group.create_task(self._stream(channel))

    async def _stream(self, channel: str) -> None:
        headers = {"Last-Event-ID": self._places[channel]}
        async with aconnect_sse(self._http, "GET", f"/channels/{channel}", headers=headers) as source:
            async for event in source.aiter_sse():
                self._places[channel] = event.id
                if event.event == "unrecoverable":
                    self.got[channel].append(None)
                elif event.event == "message":
                    self._note("each", channel, int(event.id.rpartition(":")[2]), event.json())

    async def _pages(self) -> None:
        async with asyncio.TaskGroup() as group:
            for channel in CHANNELS:
                group.create_task(self._page_after_page(channel))

    async def _page_after_page(self, channel: str) -> None:
        while True:
            query = {"since": self._places[channel], "wait": "5", "limit": str(self._chance.choice((1, 3, 100)))}
            page = (await self._http.get(f"/channels/{channel}", params=query)).raise_for_status().json()
            self._places[channel] = f"{page['epoch']}:{page['offset']}"
            if not page["recovered"]:
                self.got[channel].append(None)
            for each in page["publications"]:
                self._note("pages", channel, each["offset"], each["data"])


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_readers_that_change_their_way_get_every_publication_once_in_order_or_hear_of_the_loss(
    server: Server, seed: int
) -> None:
    chance = random.Random(seed)
    random.seed(seed)
    ledger: dict[str, list[Any]] = {channel: [] for channel in CHANNELS}
    places = {channel: await place(server, channel) for channel in CHANNELS}
    async with AsyncExitStack() as stack:
        lines = [await stack.enter_async_context(Line(server.port).laid()) for _ in range(READERS)]
        readers = [Reader(line, places, chance) for line in lines]
        async with asyncio.TaskGroup() as group:
            reading = [group.create_task(reader.read()) for reader in readers]
            cutting = group.create_task(cut_lines(lines, chance))
            await asyncio.gather(*(publish(server, f"{seed} {name}", chance, ledger) for name in ("ann", "ben")))
            cutting.cancel()
            total = len(ledger["ledger"])
            await eventually(
                lambda: all(len(reader.got["ledger"]) >= total for reader in readers), 10, "all publications at all"
            )
            for task in reading:
                task.cancel()
    assert sum(line.cuts for line in lines) > 10
    assert all(sum(reader.ways[way] for reader in readers) > 10 for way in ("both", "each", "pages"))
    for reader in readers:
        for channel in CHANNELS:
            base = int(places[channel].rpartition(":")[2])
            got = [each and (each[0] - base, each[1]) for each in reader.got[channel]]
            check(got, set(ledger[channel]), complete=channel == "ledger")


async def place(server: Server, channel: str) -> str:
    """Where a channel's log stands before the test."""
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {token('reader')}"}) as http:
        page = (await http.get(server.http(f"/channels/{channel}"), params={"limit": 0})).raise_for_status().json()
    return f"{page['epoch']}:{page['offset']}"
