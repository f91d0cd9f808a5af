"""Which sessions a node has: the open ones, those of a user, and how all of them are disconnected."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from freshet.commands.dispatch import Dispatcher
from freshet.errors import Disconnect
from freshet.node.registry import DRAIN_RATE, DRAIN_STEP, Registry
from tests.tools.sessions import came, code, opened, running

BATCH = round(DRAIN_RATE * DRAIN_STEP)


@pytest.fixture
async def dispatcher() -> AsyncIterator[Dispatcher]:
    async with running() as dispatcher:
        yield dispatcher


@pytest.fixture
def registry(dispatcher: Dispatcher) -> Registry:
    return dispatcher.node.registry


async def test_a_session_is_there_from_when_it_opens_until_it_ends(dispatcher: Dispatcher, registry: Registry) -> None:
    session = opened(dispatcher)
    assert (list(registry), len(registry), registry.users) == ([session], 1, 0)
    session.end(Disconnect.normal())
    assert (list(registry), len(registry)) == ([], 0)


async def test_a_user_has_the_sessions_that_have_connected(dispatcher: Dispatcher, registry: Registry) -> None:
    opened(dispatcher).user = "alice"  # it has not connected
    one, two = await came(dispatcher, "alice"), await came(dispatcher, "alice")
    bob = await came(dispatcher, "bob")
    assert registry.users == 2
    assert registry.of("alice") == [one, two]
    assert (registry.of("alice", two.id), registry.of("alice", bob.id)) == ([two], [])
    assert (registry.of("bob"), registry.of("eve")) == ([bob], [])
    one.end(Disconnect.normal())
    assert (registry.of("alice"), registry.users) == ([two], 2)
    two.end(Disconnect.normal())
    assert (registry.of("alice"), registry.users) == ([], 1)


async def test_the_anonymous_are_no_user(dispatcher: Dispatcher, registry: Registry) -> None:
    nobody = await came(dispatcher, "")
    assert (registry.users, registry.of(""), list(registry)) == (0, [], [nobody])


async def test_all_are_disconnected_also_those_that_have_not_connected(
    dispatcher: Dispatcher, registry: Registry
) -> None:
    sessions = [await came(dispatcher, "alice"), opened(dispatcher)]
    registry.disconnect_all()
    assert [code(session) for session in sessions] == [3001, 3001]


async def test_few_are_drained_at_once(dispatcher: Dispatcher, registry: Registry) -> None:
    sessions = [opened(dispatcher) for _ in range(BATCH)]
    draining = asyncio.create_task(registry.drain(60))
    await asyncio.sleep(0)
    assert {code(session) for session in sessions} == {3001}
    await draining


async def test_many_are_drained_bit_by_bit_with_those_that_come_meanwhile(
    dispatcher: Dispatcher, registry: Registry
) -> None:
    sessions = [opened(dispatcher) for _ in range(2 * BATCH + 1)]
    draining = asyncio.create_task(registry.drain(60))
    await asyncio.sleep(0)
    assert sum(code(session) == 3001 for session in sessions) == BATCH
    late = opened(dispatcher)
    await draining
    assert {code(session) for session in [*sessions, late]} == {3001}


async def test_the_more_there_are_the_more_are_drained_at_once(dispatcher: Dispatcher, registry: Registry) -> None:
    """So that all are gone when the time is over."""
    sessions = [opened(dispatcher) for _ in range(20 * BATCH)]
    draining = asyncio.create_task(registry.drain(1))
    await asyncio.sleep(0)
    assert sum(code(session) == 3001 for session in sessions) == 2 * BATCH
    draining.cancel()
