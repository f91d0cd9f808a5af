"""The Redis engine on a cluster of three, and what it does when slots move and masters fail."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from freshet.engines.redis.engine import RedisEngine
from freshet.errors import EngineUnavailable
from freshet.model.events import Published
from tests.contracts.engine import *  # noqa: F403 - the contract's tests are this module's
from tests.contracts.engine import KEEP, LOGGED, Delivered
from tests.contracts.nodes import *  # noqa: F403
from tests.contracts.owning import *  # noqa: F403
from tests.engines.redis.node import node_at, succeeds
from tests.tools.certificates import certify
from tests.tools.patience import eventually
from tests.tools.redis import Redis, cluster
from tests.tools.serving import HOST, free_port


def url_of(servers: list[Redis]) -> str:
    return "redis+cluster://" + ",".join(f"{HOST}:{server.port}" for server in servers[:2]) + "?timeout=2"


@pytest.fixture(scope="module")
def servers() -> Iterator[list[Redis]]:
    with cluster() as it:
        yield it


@pytest.fixture
def another(servers: list[Redis]) -> Callable[[], RedisEngine]:
    for server in servers:
        server.cli("FLUSHALL")
    return lambda: RedisEngine(url_of(servers))


@pytest.fixture
def engine(another: Callable[[], RedisEngine]) -> RedisEngine:
    return another()


async def test_channels_are_spread_over_all_masters(
    engine: RedisEngine, delivered: Delivered, servers: list[Redis]
) -> None:
    for index in range(50):
        await engine.subscribe(f"channel-{index}", KEEP)
        await engine.publish(f"channel-{index}", b"1", LOGGED)
    await delivered.count(50)
    assert all(int(server.cli("DBSIZE")) > 0 for server in servers)
    assert all("freshet:{channel-" in server.cli("PUBSUB", "SHARDCHANNELS") for server in servers)


async def test_a_channel_goes_on_while_its_slot_moves_to_another_server(
    engine: RedisEngine, delivered: Delivered, servers: list[Redis]
) -> None:
    await engine.subscribe("a", KEEP)
    await engine.publish("a", b"0", LOGGED)
    slot = servers[0].cli("CLUSTER", "KEYSLOT", "freshet:{a}:log")
    ids = [server.cli("CLUSTER", "MYID") for server in servers]
    owner = next(index for index, server in enumerate(servers) if slot_is_at(server, slot, ids))
    target = (owner + 1) % 3
    servers[target].cli("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[owner])
    servers[owner].cli("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target])
    keys = servers[owner].cli("CLUSTER", "GETKEYSINSLOT", slot, "100").split("\n")
    servers[owner].cli("MIGRATE", HOST, str(servers[target].port), "", "0", "5000", "KEYS", *keys)
    during = await engine.publish("a", b"1", LOGGED)
    assert during.offset == 2
    for server in (servers[target], servers[owner], *servers):
        server.cli("CLUSTER", "SETSLOT", slot, "NODE", ids[target])
    await eventually(lambda: "" in delivered.suspicions, 10, "the suspicion")
    after = await engine.publish("a", b"2", LOGGED)
    assert after == (during.epoch, 3)
    await eventually(lambda: offsets(delivered)[-1] == 3, 5, "what was published after the move")
    assert [it.data for it in (await engine.history("a", KEEP)).publications] == [b"0", b"1", b"2"]


def slot_is_at(server: Redis, slot: str, ids: list[str]) -> bool:
    """Whether this server itself says that it has the slot."""
    mine = next(line for line in server.cli("CLUSTER", "NODES").split("\n") if "myself" in line)
    ranges = [each.partition("-") for each in mine.split()[8:] if not each.startswith("[")]
    return any(int(first) <= int(slot) <= int(last or first) for first, _, last in ranges)


def offsets(delivered: Delivered) -> list[int]:
    return [event.publication.offset for event in delivered if isinstance(event, Published)]


@pytest.fixture(scope="module")
def pairs() -> Iterator[list[Redis]]:
    with cluster(3, 1) as it:
        yield it


@pytest.mark.timeout(120)
async def test_when_a_master_fails_its_channels_go_on_at_its_replica(
    pairs: list[Redis],
) -> None:
    async with node_at(url_of(pairs)) as (engine, delivered):
        await outlive(pairs, engine, delivered)


async def outlive(pairs: list[Redis], engine: RedisEngine, delivered: Delivered) -> None:
    names = [f"channel-{index}" for index in range(30)]
    for name in names:
        await engine.subscribe(name, KEEP)
        await engine.publish(name, b"0", LOGGED)
    for server in pairs[:3]:
        server.cli("WAIT", "1", "1000")
    pairs[1].kill()

    for name in names:
        publish = partial(engine.publish, name, b"1", LOGGED)
        await eventually(lambda publish=publish: succeeds(publish()), 30, f"a publication in {name}")
    await eventually(lambda: "" in delivered.suspicions, 5, "the suspicion")
    delivered.clear()
    for name in names:
        await engine.publish(name, b"2", LOGGED)
    await eventually(
        lambda: {event.channel for event in delivered if event.publication.data == b"2"} == set(names), 10, "all"
    )


async def test_a_cluster_over_tls_is_reached_by_a_certificate_of_its_own_and_by_any_server(tmp_path: Path) -> None:
    certificate, key = certify(tmp_path)
    with cluster(tls=(certificate, key)) as servers:
        ports = [server.cli("CONFIG", "GET", "tls-port").split()[1] for server in servers]
        places = f"{HOST}:{free_port()},{HOST}:{ports[2]}"  # nobody is at the first
        async with node_at(f"rediss+cluster://{places}?ssl_ca_certs={certificate}") as (engine, delivered):
            for index in range(10):
                await engine.subscribe(f"channel-{index}", KEEP)
                await engine.publish(f"channel-{index}", b"1", LOGGED)
            await delivered.count(10)
        with pytest.raises(EngineUnavailable, match="no server of the cluster says who has which slot"):
            await RedisEngine(f"rediss+cluster://{places}").start("node", Delivered().receiver)


async def test_the_addresses_of_the_url_are_asked_again_when_all_that_were_found_are_away(
    pairs: list[Redis],
) -> None:
    async with node_at(url_of(pairs)) as (engine, _):
        nodes = engine._servers._nodes
        nodes.startup_nodes.clear()
        assert await engine._servers._refresh() is False
        assert len(nodes.startup_nodes) >= 3
