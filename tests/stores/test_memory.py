"""The memory store: the contract, and that it does not grow."""

import pytest
from hypothesis import settings

from freshet.stores.base import REPLY_TIME, Change
from freshet.stores.memory import MemoryStore
from freshet.testing import ManualClock
from tests.contracts.store import *  # noqa: F403 - the contract's tests are this module's
from tests.contracts.store import StoreMachine


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


class MemoryMachine(StoreMachine):
    def make(self) -> MemoryStore:
        return MemoryStore()


TestModel = MemoryMachine.TestCase
TestModel.settings = settings(max_examples=60, stateful_step_count=30)


async def test_replies_are_forgotten_after_their_time() -> None:
    clock = ManualClock(1000.0)
    store = MemoryStore(clock)
    fence = await store.claim("a", 1)
    await store.commit("a", fence, Change(reply=("r1", b"1")))
    clock.now += REPLY_TIME - 1
    await store.commit("a", fence, Change(reply=("r2", b"2")))
    assert await store.reply("a", "r1") == b"1"
    clock.now += 2
    await store.commit("a", fence, Change(reply=("r3", b"3")))
    assert await store.reply("a", "r1") is None
    assert await store.reply("a", "r2") == b"2"
