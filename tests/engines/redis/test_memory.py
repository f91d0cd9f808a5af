"""The Redis engine on a Redis that has little memory, and how few requests it needs to renew presence."""

import asyncio
from collections.abc import Iterator

import pytest

from freshet.engines.base import Present
from freshet.engines.redis.engine import RedisEngine
from freshet.errors import EngineUnavailable
from freshet.model.log import ClientInfo
from tests.contracts.engine import ALICE, KEEP, LOGGED
from tests.engines.redis.node import node_at
from tests.tools.patience import eventually
from tests.tools.redis import Redis, redis


@pytest.fixture
def server() -> Iterator[Redis]:
    with redis() as it:
        yield it


def facts(server: Redis, section: str) -> dict[str, str]:
    return dict(line.split(":", 1) for line in server.cli("INFO", section).splitlines() if ":" in line)


async def test_where_redis_evicts_keys_no_position_names_two_publications(server: Redis) -> None:
    """A log, or its epoch, may go at any time; that nobody can recover from it then is what a client is told."""
    used = int(facts(server, "memory")["used_memory"])
    server.cli("CONFIG", "SET", "maxmemory-policy", "allkeys-random")
    async with node_at(server.url) as (engine, _):
        server.cli("CONFIG", "SET", "maxmemory", str(used + 2_000_000))
        published: dict[tuple[str, str, int], bytes] = {}
        for number in range(12):
            names = [f"channel-{index}" for index in range(200)]
            data = [f"{name} {number} ".encode().ljust(2000, b"x") for name in names]
            calls = (engine.publish(name, each, LOGGED) for name, each in zip(names, data, strict=True))
            positions = await asyncio.gather(*calls)
            for name, each, (epoch, offset) in zip(names, data, positions, strict=True):
                assert (name, epoch, offset) not in published
                published[name, epoch, offset] = each
        assert int(facts(server, "stats")["evicted_keys"]) > 100
        for name in names:
            stream = await engine.history(name, KEEP)
            for publication in stream.publications:
                assert published[name, stream.position.epoch, publication.offset] == publication.data


@pytest.mark.parametrize("evicted", ["here", "until"])
async def test_presence_of_which_redis_evicted_a_part_ends_all_the_same(server: Redis, evicted: str) -> None:
    async with node_at(server.url, presence_time=0.3) as (engine, _):
        await engine.renew_presence([Present("a", f"c{index}", ALICE) for index in range(1200)])
        server.cli("DEL", f"freshet:{{a}}:{evicted}")
        await eventually(lambda: ended(engine, server), 5, "the end of all that is left")


async def ended(engine: RedisEngine, server: Redis) -> bool:
    return await engine.presence("a") == {} and server.cli("EXISTS", "freshet:{a}:here", "freshet:{a}:until") == "0"


async def test_many_clients_are_renewed_in_few_requests(server: Redis) -> None:
    def scripts() -> int:
        return int(facts(server, "commandstats").get("cmdstat_evalsha", "calls=0,").split("calls=")[1].split(",")[0])

    def reads() -> int:
        return int(facts(server, "stats")["total_reads_processed"])

    clients = [ClientInfo(f"user{index}", f"c{index}") for index in range(2000)]
    async with node_at(server.url) as (engine, _):
        before = scripts()
        await engine.renew_presence([Present("one", info.client, info) for info in clients])
        assert scripts() - before <= 10
        assert await engine.presence("one") == {info.client: info for info in clients}
        before, tasks = reads(), len(asyncio.all_tasks())
        renewing = asyncio.ensure_future(
            engine.renew_presence(
                [Present(f"channel-{index}", info.client, info) for index, info in enumerate(clients)]
            )
        )
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == tasks + 1
        await renewing
        assert reads() - before < 100
        assert await engine.presence("channel-1999") == {"c1999": clients[1999]}


async def test_presence_is_renewed_when_redis_has_forgotten_the_scripts(server: Redis) -> None:
    async with node_at(server.url) as (engine, _):
        server.cli("SCRIPT", "FLUSH")
        await engine.renew_presence([Present(f"channel-{index}", "a1", ALICE) for index in range(1500)])
        for index in (0, 999, 1000, 1499):
            assert await engine.presence(f"channel-{index}") == {"a1": ALICE}


async def test_presence_that_cannot_be_renewed_is_told(server: Redis) -> None:
    async with node_at(server.url) as (engine, _):
        server.cli("CONFIG", "SET", "maxmemory-policy", "noeviction")
        server.cli("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(EngineUnavailable, match="Redis has no memory left"):
            await engine.renew_presence([Present(f"channel-{index}", "a1", ALICE) for index in range(50)])
        server.cli("CONFIG", "SET", "maxmemory", "0")
        await engine.renew_presence([Present("a", "a1", ALICE)])
        server.kill()
        with pytest.raises(EngineUnavailable, match="Redis"):
            await engine.renew_presence([Present(f"channel-{index}", "a1", ALICE) for index in range(50)])
