"""What a server passes to the application that it runs: the hub of its host, and that it is about to end."""

import asyncio
from collections.abc import Iterator
from contextvars import copy_context

import pytest

from freshet import Freshet
from freshet.config import Config
from freshet.engines.local.engine import LocalEngine
from freshet.engines.memory import MemoryEngine
from freshet.engines.redis.engine import RedisEngine
from freshet.runtime.server import SERVER, RunningServer
from freshet.wiring.engines import engine_of
from tests.tools.sessions import connected


@pytest.fixture
def server() -> Iterator[RunningServer]:
    server = RunningServer()
    before = SERVER.set(server)
    yield server
    SERVER.reset(before)


def test_without_a_server_of_ours_there_is_no_hub() -> None:
    assert SERVER.get() is None
    assert isinstance(engine_of(Config()), MemoryEngine)


def test_one_that_is_alone_has_its_engine_itself(server: RunningServer) -> None:
    assert (server.hubs, server.drains) == ((), [])
    assert isinstance(engine_of(Config()), MemoryEngine)


def test_one_of_several_workers_goes_to_the_hub_of_its_host(server: RunningServer) -> None:
    server.hubs = ["/run/hub.sock"]
    assert isinstance(engine_of(Config()), LocalEngine)
    shared = Config(engine="redis://127.0.0.1:1")
    assert isinstance(engine_of(shared), RedisEngine)  # which needs none: it is shared anyway


def test_another_context_does_not_see_it() -> None:
    context = copy_context()
    context.run(SERVER.set, RunningServer(["/run/hub.sock"]))
    assert SERVER.get() is None
    assert isinstance(context.run(engine_of, Config()), LocalEngine)


async def test_while_an_application_runs_the_server_can_drain_it(server: RunningServer) -> None:
    live = Freshet(dev=True, environment={})
    assert server.drains == []
    async with live.lifespan():
        assert len(server.drains) == 1
        session = await connected(live)
        await asyncio.gather(*(drain() for drain in server.drains))
        assert session.outbox.closed is not None
        assert (session.outbox.closed.code, live._node.state) == (3001, "draining")
    assert server.drains == []


async def test_an_application_that_is_started_twice_is_drained_once(server: RunningServer) -> None:
    one, two = Freshet(dev=True, environment={}), Freshet(dev=True, environment={})
    async with one.lifespan(), two.lifespan():
        assert len(server.drains) == 2
        await asyncio.gather(one._lifecycle.start_late(), one._lifecycle.start_late())
        assert len(server.drains) == 2
    assert server.drains == []
