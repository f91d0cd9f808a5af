"""The NATS engine on one server with JetStream: the contracts."""

import itertools
from collections.abc import Callable, Iterator

import pytest

from freshet.engines.nats.engine import NatsEngine
from tests.contracts.engine import *  # noqa: F403 - the contract's tests are this module's
from tests.contracts.nodes import *  # noqa: F403
from tests.contracts.own_events import *  # noqa: F403
from tests.tools.nats import Nats, nats

_numbers = itertools.count()


@pytest.fixture(scope="module")
def server() -> Iterator[Nats]:
    with nats() as it:
        yield it


@pytest.fixture
def another(server: Nats) -> Callable[[], NatsEngine]:
    prefix = f"test{next(_numbers)}"  # so that no test sees what another left
    return lambda: NatsEngine(f"{server.url}?prefix={prefix}&storage=memory")


@pytest.fixture
def engine(another: Callable[[], NatsEngine]) -> NatsEngine:
    return another()
