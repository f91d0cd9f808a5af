"""A NATS of each test's own, and an engine that speaks with it."""

from collections.abc import AsyncIterator, Iterator

import pytest

from freshet.engines.nats.engine import NatsEngine
from tests.contracts.engine import Delivered
from tests.tools.nats import Nats, nats
from tests.tools.patience import seconds


@pytest.fixture
def server() -> Iterator[Nats]:
    with nats() as it:
        yield it


@pytest.fixture
def delivered() -> Delivered:
    return Delivered()


@pytest.fixture
async def engine(server: Nats, delivered: Delivered) -> AsyncIterator[NatsEngine]:
    it = NatsEngine(f"{server.url}?timeout={seconds(1)}")
    await it.start("node", delivered.receiver)
    yield it
    await it.stop()
