"""A Redis for a module's tests, empty before each; a module that needs it otherwise has a `server` of its own."""

from collections.abc import Iterator

import pytest

from tests.tools.redis import Redis, redis


@pytest.fixture(scope="module")
def shared() -> Iterator[Redis]:
    with redis() as it:
        yield it


@pytest.fixture
def server(shared: Redis) -> Redis:
    shared.cli("FLUSHALL")
    return shared
