"""The Redis store, on a real one: the contract, a cluster's way of keys, and a server that goes away and comes back."""

import itertools
from collections.abc import Iterator

import pytest
from hypothesis import settings

from freshet.errors import ConfigError, StaleOwner, StoreUnavailable
from freshet.stores.base import Change, Due, Store
from freshet.stores.redis import RedisStore
from freshet.wiring.stores import store_of
from tests.contracts.store import *  # noqa: F403 - the contract's tests are this module's
from tests.contracts.store import StoreMachine
from tests.tools.patience import eventually
from tests.tools.redis import Redis, cluster, redis

_numbers = itertools.count()
_URLS: list[str] = []


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[Redis]:
    with redis() as it:
        _URLS.append(it.url)
        yield it


def empty() -> str:
    """The URL of keys that nobody has used."""
    return f"{_URLS[-1]}?prefix=test{next(_numbers)}"


@pytest.fixture
def url(server: Redis) -> str:
    return empty()


@pytest.fixture
def store(url: str) -> Store:
    return store_of(url)


class RedisMachine(StoreMachine):
    def make(self) -> Store:
        return store_of(empty())


TestModel = RedisMachine.TestCase
TestModel.settings = settings(max_examples=30, stateful_step_count=30)


async def test_what_is_kept_outlives_the_store_and_another_node_sees_it(url: str) -> None:
    one, two = store_of(url), store_of(url)
    await one.start()
    fence = await one.claim("a", 1)
    await one.commit("a", fence, Change({"x": b"1"}, alarm=5.0, reply=("r", b"done")))
    await one.stop()
    await two.start()
    assert await two.scan("a") == [("x", b"1")]
    assert (await two.alarm("a"), await two.reply("a", "r")) == (5.0, b"done")
    assert await two.claim("a", 1) == fence + 1
    await two.stop()


async def test_an_alarm_is_never_late_whatever_a_stale_owner_notes_behind(url: str) -> None:
    """It was paused between its commit and what it notes after that, or before it."""
    store = store_of(url)
    assert isinstance(store, RedisStore)
    await store.start()
    await store.commit("a", await store.claim("a", 1), Change(alarm=200.0))
    await store.commit("a", await store.claim("a", 1), Change(alarm=50.0))
    await store._note("a", 200.0)
    assert await store.due(100.0, 10) == [Due("a", 50.0)]
    with pytest.raises(StaleOwner):
        await store.commit("a", 1, Change(alarm=20.0))
    assert await store.due(100.0, 10) == [Due("a", 50.0)], "what is noted too early is found out"
    assert await store.due(100.0, 10) == [Due("a", 50.0)]
    await store.stop()


async def test_replies_are_forgotten_by_redis_itself(url: str, server: Redis) -> None:
    store = store_of(url)
    await store.start()
    await store.commit("a{b}", await store.claim("a{b}", 1), Change(reply=("r", b"1")))
    prefix = url.rpartition("=")[2]
    assert 290_000 < int(server.cli("PTTL", f"{prefix}:{{a%7Bb%7D}}:reply:r")) <= 300_000
    await store.stop()


async def test_while_redis_is_away_nothing_is_promised_and_then_it_goes_on() -> None:
    with redis() as own:
        store = store_of(own.url)
        await store.start()
        fence = await store.claim("a", 1)
        own.stop()
        with pytest.raises(StoreUnavailable):
            await store.commit("a", fence, Change({"x": b"1"}))
        own.start()

        async def works() -> bool:
            try:
                await store.scan("a")
            except StoreUnavailable:
                return False
            return True

        await eventually(works, 20, "it to go on")
        assert await store.claim("a", 1) >= 1
        await store.stop()


async def test_a_store_that_does_not_run_says_so_and_so_does_one_that_is_not_there() -> None:
    store = store_of("redis://127.0.0.1:1")
    with pytest.raises(StoreUnavailable):
        await store.get("a", ["x"])
    with pytest.raises(StoreUnavailable):
        await store.start()
    with pytest.raises(ConfigError) as why:
        store_of("redis://localhost?nothing=1")
    assert why.value.path == "rooms.store"


async def test_in_a_cluster_each_room_is_where_its_slot_is_and_alarms_are_found_all_the_same() -> None:
    with cluster() as servers:
        hosts = ",".join(it.url.removeprefix("redis://") for it in servers)
        store = store_of(f"redis+cluster://{hosts}")
        await store.start()
        rooms = [f"room:{number}" for number in range(20)]
        for at, room in enumerate(rooms):
            fence = await store.claim(room, 1)
            await store.commit(room, fence, Change({"b": b"2", "a": b"1"}, alarm=float(at), reply=("r", b"done")))
        for room in rooms:
            assert await store.scan(room) == [("a", b"1"), ("b", b"2")]
            assert await store.reply(room, "r") == b"done"
        assert [it.room for it in await store.due(5.0, 100)] == rooms[:5]
        await store.stop()
