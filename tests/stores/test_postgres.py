"""The PostgreSQL store, on a real one: the contract, several nodes, and a server that goes away and comes back."""

import asyncio
import itertools
from collections.abc import Iterator

import asyncpg
import pytest
from hypothesis import settings

from freshet.errors import ConfigError, StaleOwner, StoreUnavailable
from freshet.stores.base import REPLY_TIME, Change
from freshet.stores.postgres import PostgresStore
from freshet.testing import ManualClock
from freshet.wiring.stores import store_of
from tests.contracts.store import *  # noqa: F403 - the contract's tests are this module's
from tests.contracts.store import StoreMachine
from tests.tools.patience import eventually
from tests.tools.ports import HOST, free_port
from tests.tools.postgres import Postgres, postgres

_numbers = itertools.count()
_URLS: list[str] = []


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[Postgres]:
    with postgres() as it:
        _URLS.append(it.url)
        yield it


def empty() -> str:
    """The URL of a database that nobody has used."""
    name = f"test{next(_numbers)}"

    async def create() -> None:
        connection = await asyncpg.connect(_URLS[-1])
        await connection.execute(f"CREATE DATABASE {name}")
        await connection.close()

    loop = asyncio.new_event_loop()
    loop.run_until_complete(create())
    loop.close()
    return _URLS[-1].replace("/postgres", f"/{name}")


@pytest.fixture
def url(server: Postgres) -> str:
    return empty()


@pytest.fixture
def store(url: str) -> PostgresStore:
    return PostgresStore(url)


class PostgresMachine(StoreMachine):
    url = ""

    def make(self) -> PostgresStore:
        """The same database for all, emptied: to make one takes a second."""
        if not self.url:
            type(self).url = empty()
            return PostgresStore(self.url)
        self.loop.run_until_complete(self._empty())
        return PostgresStore(self.url)

    async def _empty(self) -> None:
        connection = await asyncpg.connect(self.url)
        await connection.execute("TRUNCATE freshet_rooms, freshet_entries, freshet_replies")
        await connection.close()


TestModel = PostgresMachine.TestCase
TestModel.settings = settings(max_examples=8, stateful_step_count=25)


async def test_nodes_that_start_at_once_share_it_and_the_fence_holds_between_them(url: str) -> None:
    stores = [PostgresStore(url) for _ in range(5)]
    await asyncio.gather(*(store.start() for store in stores))
    fences = await asyncio.gather(*(store.claim("a", 1) for store in stores))
    assert sorted(fences) == [1, 2, 3, 4, 5]
    for store, fence in zip(stores, fences, strict=True):
        change = Change({"x": b"%d" % fence})
        if fence == 5:
            await store.commit("a", fence, change)
        else:
            with pytest.raises(StaleOwner):
                await store.commit("a", fence, change)
    assert await stores[0].get("a", ["x"]) == {"x": b"5"}
    for store in stores:
        await store.stop()


async def test_a_server_that_was_killed_has_all_that_it_acknowledged_when_it_is_back(
    server: Postgres, store: PostgresStore
) -> None:
    await store.start()
    fence = await store.claim("a", 1)
    await store.commit("a", fence, Change({"x": b"1"}, alarm=5.0))
    server.kill()
    with pytest.raises(StoreUnavailable):
        await store.commit("a", fence, Change({"x": b"2"}))
    server.start()

    async def is_back() -> bool:
        try:
            return await store.alarm("a") == 5.0
        except StoreUnavailable:
            return False

    await eventually(is_back, 20, "the server")
    assert await store.get("a", ["x"]) == {"x": b"1"}
    await store.commit("a", fence, Change({"x": b"3"}))
    assert await store.get("a", ["x"]) == {"x": b"3"}
    await store.stop()


async def test_replies_are_forgotten_after_their_time(url: str) -> None:
    clock = ManualClock(1000.0)
    store = PostgresStore(url, clock)
    await store.start()
    fence = await store.claim("a", 1)
    await store.commit("a", fence, Change(reply=("r1", b"1")))
    clock.now += REPLY_TIME - 100
    await store.commit("a", fence, Change(reply=("r2", b"2")))
    clock.now += 130

    async def forgotten() -> bool:
        await clock.advance(31)
        return await store.reply("a", "r1") is None

    await eventually(forgotten)
    assert await store.reply("a", "r2") == b"2"
    await store.stop()


async def test_what_cannot_be_reached_says_so_and_shows_no_password() -> None:
    store = store_of(f"postgresql://freshet:hidden@{HOST}:{free_port()}/rooms")
    with pytest.raises(StoreUnavailable) as error:
        await store.start()
    assert "hidden" not in str(error.value)
    await store.stop()
    with pytest.raises(StoreUnavailable, match="does not run"):
        await store.claim("a", 1)
    with pytest.raises(ConfigError, match=r"rooms\.store"):
        await store_of("postgresql://host:port/rooms").start()
