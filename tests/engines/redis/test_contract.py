"""The Redis engine on one server: the contracts."""

from collections.abc import Callable, Iterator

import pytest

from freshet.engines.redis.engine import RedisEngine
from tests.contracts.engine import *  # noqa: F403 - the contract's tests are this module's
from tests.contracts.nodes import *  # noqa: F403
from tests.contracts.own_events import *  # noqa: F403
from tests.contracts.owning import *  # noqa: F403
from tests.tools.redis import Redis, redis


@pytest.fixture(scope="module")
def server() -> Iterator[Redis]:
    with redis() as it:
        yield it


@pytest.fixture
def another(server: Redis) -> Callable[[], RedisEngine]:
    server.cli("FLUSHALL")
    return lambda: RedisEngine(server.url)


@pytest.fixture
def engine(another: Callable[[], RedisEngine]) -> RedisEngine:
    return another()
