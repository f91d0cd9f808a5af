"""The Redis engine where Sentinel says which server is the master."""

from collections.abc import Iterator

import pytest

from freshet.engines.redis.engine import RedisEngine
from freshet.errors import EngineUnavailable
from tests.contracts.engine import KEEP, LOGGED, Delivered
from tests.engines.redis.node import node_at, succeeds
from tests.tools.patience import eventually
from tests.tools.redis import Redis, sentinels
from tests.tools.serving import HOST


@pytest.fixture
def group() -> Iterator[tuple[list[Redis], list[Redis]]]:
    with sentinels() as it:
        yield it


def url_of(watchers: list[Redis], service: str = "live") -> str:
    places = ",".join(f"{HOST}:{watcher.port}" for watcher in watchers)
    return f"redis+sentinel://{places}/{service}?timeout=2"


@pytest.mark.timeout(120)
async def test_when_the_master_fails_channels_go_on_at_the_next_with_another_epoch(
    group: tuple[list[Redis], list[Redis]],
) -> None:
    (master, replica), watchers = group
    async with node_at(url_of(watchers)) as (engine, delivered):
        await engine.subscribe("a", KEEP)
        before = await engine.publish("a", b"1", LOGGED)
        await delivered.count(1)
        assert master.cli("WAIT", "1", "5000") == "1"
        master.kill()
        await eventually(lambda: succeeds(engine.publish("a", b"2", LOGGED)), 30, "a publication at the replica")
        stream = await engine.history("a", KEEP)
        assert [it.data for it in stream.publications] == [b"1", b"2"]
        assert stream.position.epoch != before.epoch  # the replica may have lacked the last
        assert "" in delivered.suspicions
        await delivered.count(2)
        assert "role:master" in replica.cli("INFO", "replication")


async def test_a_service_that_the_sentinels_do_not_know_is_named(group: tuple[list[Redis], list[Redis]]) -> None:
    engine = RedisEngine(url_of(group[1], "other"))
    with pytest.raises(EngineUnavailable, match="the Sentinels know no 'other'"):
        await engine.start("node", Delivered().receiver)


async def test_sentinels_that_are_away_are_passed_over_and_told_when_none_is_left(
    group: tuple[list[Redis], list[Redis]],
) -> None:
    watchers = group[1]
    watchers[0].kill()
    watchers[1].pause()
    async with node_at(url_of(watchers)) as (engine, _):
        await engine.publish("a", b"1", LOGGED)
    watchers[2].kill()
    with pytest.raises(EngineUnavailable, match="not all of them answer"):
        await RedisEngine(url_of(watchers)).start("node", Delivered().receiver)
    watchers[1].go_on()


async def test_sentinels_and_servers_ask_for_passwords_of_their_own() -> None:
    with sentinels(password="right") as (_, watchers):
        url = url_of(watchers).replace("://", "://:right@")
        async with node_at(f"{url}&sentinel_password=right") as (engine, _):
            await engine.publish("a", b"1", LOGGED)
        for wrong in ("", "&sentinel_password=wrong-secret"):
            with pytest.raises(EngineUnavailable, match="check sentinel_username and sentinel_password") as error:
                await RedisEngine(url + wrong).start("node", Delivered().receiver)
            assert "wrong-secret" not in str(error.value)
