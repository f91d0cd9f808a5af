"""A room that ticks on two nodes: it goes on without its owner, though nobody says anything to it."""

from pathlib import Path
from typing import Any

import pytest

from freshet import Room, RoomSession
from freshet.testing import Client
from tests.rooms.two import LEASE, World, world
from tests.tools.patience import eventually

CHANNEL = "clock:x"


def clock() -> type[Room]:
    class Clock(Room):
        """Counts while somebody is there, until it is told to stop."""

        async def on_start(self) -> None:
            if await self.sessions():
                await self.set_tick_rate(2)

        async def on_join(self, session: RoomSession) -> None:
            await self.set_tick_rate(2)

        async def on_tick(self) -> None:
            count = await self.store.get("count", 0) + 1
            await self.store.put("count", count)
            await self.broadcast(count)

        async def on_message(self, session: RoomSession, data: Any) -> None:
            await self.set_tick_rate(0)

    return Clock


async def counts(client: Client) -> int:
    return int((await client.receive(CHANNEL)).data)


async def stands_still(here: World) -> None:
    """It has told nobody anything since the room began to tick."""


async def stops(here: World) -> None:
    await here.a._rooms.stop()


@pytest.mark.parametrize("ends", [stands_still, stops])
async def test_a_room_that_ticks_goes_on_where_its_owner_does_not(tmp_path: Path, ends: Any) -> None:
    async with world(tmp_path, clock=clock) as here, here.b.test_client("bob") as bob:
        async with here.a.test_client("alice") as alice:
            await alice.subscribe(CHANNEL)
            await bob.subscribe(CHANNEL)
            await here.clocks["a"].advance(0.5)
            assert await counts(bob) == 1
            assert list(here.b._rooms._active) == []
            await ends(here)
            await here.advance(LEASE + 2, "b")
            await eventually(lambda: list(here.b._rooms._active) == [CHANNEL])
            await here.advance(2, "b")
            assert await counts(bob) == 2
            assert await counts(bob) == 3
            await here.advance(LEASE, "a", "b")  # whoever stood still goes on, and finds that it is another's
            await eventually(lambda: list(here.a._rooms._active) == [])
        before = await counts(bob)
        await here.advance(2, "b")
        assert [await counts(bob) for _ in range(3)] == [before + 1, before + 2, before + 3]


async def test_a_room_that_does_not_tick_any_more_is_left_to_sleep(tmp_path: Path) -> None:
    async with (
        world(tmp_path, clock=clock) as here,
        here.a.test_client("alice") as alice,
        here.b.test_client("bob") as bob,
    ):
        await alice.subscribe(CHANNEL)
        await bob.subscribe(CHANNEL)
        await here.advance(2, "a", "b")
        await alice.publish(CHANNEL, "stop")
        await here.advance(2, "a", "b")  # the others are told with the next beat
        await here.advance(3 * LEASE, "b")
        assert list(here.b._rooms._active) == []
