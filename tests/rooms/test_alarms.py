"""Alarms: once at least, though the hook fails, the room sleeps, or the server was away."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from freshet import Freshet, Room, RoomSession
from freshet.errors import StoreUnavailable
from freshet.stores.base import Change, Due
from freshet.stores.memory import MemoryStore
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


async def test_of_thousands_that_became_due_while_the_server_was_away_none_waits_for_a_search_of_its_own(
    clock: ManualClock,
) -> None:
    live, fired = application(clock), set()

    @live.room("r:{name}")
    class Alarmed(Room):
        async def on_alarm(self) -> None:
            fired.add(self.channel)

    store = MemoryStore(clock)
    for number in range(1050):
        name = f"r:{number:04}"
        await store.commit(name, await store.claim(name, 1), Change(alarm=clock.now - 10))
    searches, due = [], store.due

    async def counted(before: float, limit: int) -> list[Due]:
        searches.append(clock.now)
        return await due(before, limit)

    store.due = counted  # type: ignore[method-assign]
    live._rooms._make_store = lambda url: store
    async with live.lifespan():
        await eventually(lambda: len(fired) == 1050)
    assert set(searches) == {searches[0]}, "no time had to pass"


async def test_alarms_that_cannot_be_fired_are_looked_for_no_more_often_than_others(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = application(clock)
    live.room("r:{name}")(Room)
    store, searches = MemoryStore(clock), list[float]()
    for number in range(250):
        await store.commit(f"r:{number}", await store.claim(f"r:{number}", 1), Change(alarm=clock.now - 10))
    due = store.due

    async def counted(before: float, limit: int) -> list[Due]:
        searches.append(clock.now)
        return await due(before, limit)

    async def away(*arguments: Any) -> int:
        raise StoreUnavailable("away")

    store.due, store.claim = counted, away  # type: ignore[method-assign]
    live._rooms._make_store = lambda url: store
    async with live.lifespan():
        await eventually(lambda: len(searches) == 2)
        for _ in range(50):
            await asyncio.sleep(0)
        assert len(searches) == 2
        await clock.advance(1.1)
        await eventually(lambda: len(searches) == 4)
