"""A node on the Redis engine, for the tests of what happens when Redis does not behave."""

from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager

from freshet.engines.redis.engine import RedisEngine
from freshet.errors import EngineUnavailable
from freshet.model.events import Published
from tests.contracts.engine import Delivered


@asynccontextmanager
async def node_at(
    url: str, name: str = "node", presence_time: float = 60
) -> AsyncIterator[tuple[RedisEngine, Delivered]]:
    """An engine that has begun, and what it delivers, until the block ends."""
    engine, delivered = RedisEngine(url, presence_time), Delivered()
    await engine.start(name, delivered.receiver)
    try:
        yield engine, delivered
    finally:
        await engine.stop()


async def succeeds(call: Awaitable[object]) -> bool:
    """Whether a call of an engine is done, and not refused because Redis is away."""
    try:
        await call
    except EngineUnavailable:
        return False
    return True


def payloads(delivered: Delivered) -> list[bytes]:
    return [event.publication.data for event in delivered if isinstance(event, Published)]
