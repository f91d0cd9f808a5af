"""The output gate: nothing goes out before what was written is durable, and nothing of what was not."""

import asyncio
from typing import Any

import pytest

from freshet import Refusal, RoomSession, StoreUnavailable
from tests.rooms.test_rooms import Fragile, application, received


async def test_a_store_that_is_away_lets_nothing_out_and_the_room_goes_on_from_what_it_holds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    live = application()
    live.room("r:{name}")(Fragile)
    async with live.test_client("alice") as alice, live.test_client("bob") as bob:
        await alice.subscribe("r:a")
        await alice.publish("r:a", {"value": "one"})
        assert [await received(alice), await received(alice)] == ["new", "one"]

        async def away(*arguments: Any) -> None:
            raise StoreUnavailable("the disk is full")

        with monkeypatch.context() as patch:
            patch.setattr(live._rooms._store, "commit", away)
            with pytest.raises(Refusal) as refusal:
                await alice.publish("r:a", {"value": "two"})
        assert (refusal.value.code, refusal.value.temporary) == (100, True)
        await alice.expect_nothing()
        await bob.subscribe("r:a")
        assert await received(bob) == "one"


async def test_nothing_goes_out_before_what_was_written_is_durable(monkeypatch: pytest.MonkeyPatch) -> None:
    live = application()
    live.room("r:{name}")(Fragile)
    async with live.test_client("alice") as alice, live.test_client("bob") as bob:
        await alice.subscribe("r:a")
        await received(alice)
        store, durable, writing = live._rooms._store, asyncio.Event(), asyncio.Event()
        commit = store.commit

        async def slowly(*arguments: Any) -> None:
            writing.set()
            await durable.wait()
            await commit(*arguments)

        monkeypatch.setattr(store, "commit", slowly)
        publishing = asyncio.create_task(alice.publish("r:a", {"value": "one"}))
        joining = asyncio.create_task(bob.subscribe("r:a"))
        await writing.wait()
        await alice.expect_nothing()
        assert not publishing.done()
        assert not joining.done()
        durable.set()
        await publishing
        await joining
        assert [await received(alice), await received(bob)] == ["one", "one"]


async def test_what_was_committed_within_a_hook_stays_when_the_hook_fails_behind_it() -> None:
    live = application()

    @live.room("r:{name}")
    class Charging(Fragile):
        async def on_message(self, session: RoomSession, data: Any) -> None:
            await self.store.put("value", "charging")
            await self.broadcast("charging")
            await self.store.commit()
            await self.store.put("value", "charged")
            await self.broadcast("charged")
            raise RuntimeError("the card was refused")

    async with live.test_client("alice") as alice, live.test_client("bob") as bob:
        await alice.subscribe("r:a")
        await received(alice)
        with pytest.raises(Refusal):
            await alice.publish("r:a", 1)
        assert await received(alice) == "charging"
        await alice.expect_nothing()
        await bob.subscribe("r:a")
        assert await received(bob) == "charging"
