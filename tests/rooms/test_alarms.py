"""Alarms: once at least, though the hook fails, the room sleeps, or the server was away."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from freshet import Freshet, Room, RoomSession
from freshet.testing import ManualClock
from tests.rooms.test_rooms import application, awake
from tests.tools.patience import eventually


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


async def test_an_alarm_that_fails_is_fired_again_later_and_later(clock: ManualClock) -> None:
    live, fired = application(clock), []

    @live.room("r:{name}")
    class Alarmed(Room):
        async def on_message(self, session: RoomSession, data: float | None) -> None:
            await self.set_alarm(data)

        async def on_alarm(self) -> None:
            fired.append(clock.now)
            if len(fired) < 4:
                raise RuntimeError("not yet")

    async with live.test_client() as alice:
        await alice.subscribe("r:a")
        await alice.publish("r:a", 10)
        await alice.publish("r:a", None)
        await clock.advance(20)
        assert fired == []
        await alice.publish("r:a", 10)
        began = clock.now
        for _ in range(60):
            await clock.advance(1)
    assert [round(at - began) for at in fired] == [10, 12, 16, 24]


async def test_an_alarm_is_fired_though_the_room_sleeps_and_though_the_server_was_started_anew(
    clock: ManualClock, tmp_path: Path
) -> None:
    fired = []

    def begin() -> Freshet:
        live = application(clock, store=f"sqlite:///{tmp_path}/rooms.db", idle=5)

        @live.room("r:{name}")
        class Alarmed(Room):
            async def on_message(self, session: RoomSession, data: float) -> None:
                await self.set_alarm(data)

            async def on_alarm(self) -> None:
                fired.append(self.channel)

        return live

    async def turn(live: Freshet, done: Callable[[], bool]) -> None:
        async def one() -> bool:
            await clock.advance(1)
            await asyncio.sleep(0.005)
            return done()

        await eventually(one)

    live = begin()
    async with live.test_client() as alice:
        await alice.subscribe("r:a")
        await alice.subscribe("r:b")
        await alice.publish("r:b", 10_000)
        await alice.publish("r:a", 60)
        await turn(live, lambda: not awake(live))
        await turn(live, lambda: fired == ["r:a"])
        await turn(live, lambda: not awake(live))
    clock.now += 10_000
    live = begin()
    async with live.lifespan():
        await turn(live, lambda: fired == ["r:a", "r:b"])
