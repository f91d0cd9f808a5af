"""What every engine has from its base: epochs, and presence that is renewed client by client."""

import pytest

from freshet.engines.base import Engine, Present, new_epoch
from freshet.engines.memory import MemoryEngine
from freshet.errors import EngineUnavailable
from freshet.model.log import ClientInfo
from freshet.testing import ManualClock
from tests.contracts.engine import Delivered

ALICE, BOB = ClientInfo("alice", "a1"), ClientInfo("bob", "b1")


class Failing(MemoryEngine):
    """Cannot be reached from some request on, and renews as the base does."""

    renew_presence = Engine.renew_presence
    left = 1000

    async def set_presence(self, channel: str, client: str, info: ClientInfo | None) -> None:
        self.left -= 1
        if self.left < 0:
            raise EngineUnavailable("away")
        await super().set_presence(channel, client, info)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1000.0)


@pytest.fixture
async def engine(clock: ManualClock) -> Failing:
    engine = Failing(presence_time=60, clock=clock)
    await engine.start("node", Delivered().receiver)
    return engine


def test_no_two_epochs_are_the_same_and_none_has_what_a_position_is_divided_by() -> None:
    epochs = {new_epoch() for _ in range(10_000)}
    assert len(epochs) == 10_000
    assert all(epoch.isascii() and not set(epoch) & set(":&= \r\n") and 0 < len(epoch) <= 16 for epoch in epochs)


async def test_renewed_clients_stay_and_others_leave(engine: Failing, clock: ManualClock) -> None:
    for channel, info in (("a", ALICE), ("a", BOB), ("b", BOB)):
        await engine.set_presence(channel, info.client, info)
    clock.now += 40
    await engine.renew_presence([Present("a", "a1", ALICE), Present("b", "b1", BOB)])
    clock.now += 40
    assert await engine.presence("a") == {"a1": ALICE}
    assert await engine.presence("b") == {"b1": BOB}


async def test_renewing_nobody_asks_for_nothing(engine: Failing) -> None:
    engine.left = 0
    await engine.renew_presence([])


async def test_a_renewal_that_fails_half_way_says_so_and_keeps_the_first_half(engine: Failing) -> None:
    engine.left = 1
    with pytest.raises(EngineUnavailable):
        await engine.renew_presence([Present("a", "a1", ALICE), Present("a", "b1", BOB)])
    assert await engine.presence("a") == {"a1": ALICE}


async def test_an_engine_has_its_port_for_itself_unless_it_says_otherwise(engine: Failing) -> None:
    assert await Engine.neighbours(engine) == []
    assert Engine.shared is True
