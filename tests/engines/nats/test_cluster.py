"""The NATS engine on a cluster of three servers that each hold every stream."""

import asyncio
from collections.abc import Iterator

import pytest

from freshet.engines.base import Engine
from freshet.engines.nats.engine import NatsEngine
from freshet.errors import EngineUnavailable
from freshet.model.events import Published
from freshet.model.log import NOWHERE, Position
from tests.contracts.engine import KEEP, LOGGED, Delivered
from tests.tools.nats import Nats, cluster
from tests.tools.patience import eventually, seconds


@pytest.fixture(scope="module")
def servers() -> Iterator[list[Nats]]:
    with cluster() as it:
        yield it


async def published(engine: Engine, data: bytes) -> Position:
    """One publication, as soon as the cluster takes it: it may have to elect a leader first."""
    async with asyncio.timeout(seconds(30)):
        while True:
            try:
                return await engine.publish("a", data, LOGGED)
            except EngineUnavailable:
                await asyncio.sleep(0.1)
    return NOWHERE


def offsets(delivered: Delivered) -> list[int]:
    return [event.publication.offset for event in delivered if isinstance(event, Published)]


async def test_a_cluster_that_loses_a_server_keeps_all_that_was_acknowledged(servers: list[Nats]) -> None:
    hosts = ",".join(server.url.removeprefix("nats://") for server in servers)
    one, two = (NatsEngine(f"nats://{hosts}?replicas=3&timeout=2") for _ in range(2))
    delivered = Delivered()
    await one.start("one", Delivered().receiver)
    await two.start("two", delivered.receiver)
    first = await published(one, b"1")
    assert await two.subscribe("a", KEEP) == first
    await published(one, b"2")
    await eventually(lambda: offsets(delivered) == [2], 10, "the second")
    servers[0].kill()  # the first of the URL: both are connected to it
    await eventually(lambda: delivered.suspicions == [""], 15, "another server")
    assert await published(one, b"3") == (first.epoch, 3)
    async with asyncio.timeout(seconds(30)):
        while True:
            try:
                stream = await two.history("a", KEEP)
                break
            except EngineUnavailable:
                await asyncio.sleep(0.1)
    assert [it.data for it in stream.publications] == [b"1", b"2", b"3"]
    for engine in (one, two):
        await engine.stop()
