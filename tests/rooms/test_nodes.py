"""Rooms on two nodes: one owns a room, and when it is paused or gone the other does."""

import asyncio
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from freshet import Refusal, Room, RoomSession
from freshet.errors import StaleOwner
from freshet.stores.base import Change
from freshet.testing import Client
from tests.rooms.two import LEASE, SharedStore, World, world
from tests.tools.linearizability import Increment, violations
from tests.tools.patience import eventually

GATES: dict[str, asyncio.Event] = {}


def counter() -> type[Room]:
    class Counter(Room):
        """Answers who asks with its new value. One that is told to wait does so between its read and its write."""

        async def on_join(self, session: RoomSession) -> None:
            session.state = 0

        async def on_message(self, session: RoomSession, data: dict[str, Any]) -> None:
            value = await self.store.get("value", 0) + 1
            if (gate := GATES.get(data.get("gate", ""))) is not None:
                GATES["reached"].set()
                await gate.wait()
            await self.store.put("value", value)
            session.state += 1
            await session.send({"value": value, "mine": session.state})

        async def on_leave(self, session: RoomSession) -> None:
            await self.store.put(f"left:{session.user}", session.state)

    return Counter


def talk() -> type[Room]:
    class Talk(Room):
        async def on_message(self, session: RoomSession, data: Any) -> None:
            if data == "refuse":
                raise Refusal(4321, "no", temporary=True)
            await self.broadcast([session.user, session.claims.get("sub"), session.info, data])

    return Talk


@pytest.fixture(autouse=True)
def gates() -> None:
    GATES.clear()
    GATES["reached"] = asyncio.Event()


def owners(here: World, channel: str) -> list[bool]:
    return [channel in live._rooms._active for live in (here.a, here.b)]


async def value(client: Client) -> int:
    await client.publish("counter:x", {})
    return int((await client.receive("counter:x")).data["value"])


async def test_a_message_reaches_the_one_room_from_every_node_and_its_reply_the_one_client(tmp_path: Path) -> None:
    async with (
        world(tmp_path, counter=counter) as here,
        here.a.test_client("alice") as alice,
        here.b.test_client("bob") as bob,
    ):
        await alice.subscribe("counter:x")
        await bob.subscribe("counter:x")
        assert owners(here, "counter:x") == [True, False]
        values = [await value(client) for client in (alice, bob, bob, alice)]
        assert values == [1, 2, 3, 4]
        await alice.expect_nothing()
        await bob.expect_nothing()
        await bob.publish("counter:x", {})
        assert (await bob.receive()).data == {"value": 5, "mine": 3}
        await bob.unsubscribe("counter:x")
        await eventually(lambda: here.store._rooms["counter:x"].entries.get("left:bob") == b"\x03")


async def test_who_speaks_is_known_and_refusals_come_back_as_they_were_raised(tmp_path: Path) -> None:
    async with (
        world(tmp_path, talk=talk) as here,
        here.a.test_client("alice") as alice,
        here.b.test_client("bob") as bob,
    ):
        await alice.subscribe("talk:x")
        await alice.publish("talk:x", "hello")
        await bob.subscribe("talk:x")
        await bob.publish("talk:x", {"any": "thing"})
        await alice.receive()
        for client in (alice, bob):
            assert (await client.receive()).data == ["bob", "bob", None, {"any": "thing"}]
        with pytest.raises(Refusal) as refusal:
            await bob.publish("talk:x", "refuse")
        assert (refusal.value.code, refusal.value.message, refusal.value.temporary) == (4321, "no", True)


async def test_a_node_that_stops_hands_its_rooms_over_at_once(tmp_path: Path) -> None:
    async with world(tmp_path, counter=counter) as here, here.b.test_client("bob") as bob:
        async with here.a.test_client("alice") as alice:
            await alice.subscribe("counter:x")
            assert await value(alice) == 1
        await here.a._rooms.stop()
        await bob.subscribe("counter:x")
        assert await value(bob) == 2
        assert owners(here, "counter:x") == [False, True]


async def paused_in_a_hook(here: World, alice: Client, bob: Client) -> list[Increment]:
    """The owner is paused within a hook, behind its read; the other node takes over, and counts on; then it goes on."""
    history: list[Increment] = []

    async def increment(client: Client, gate: str = "") -> None:
        call = time.monotonic()
        await client.publish("counter:x", {"gate": gate})
        answer = (await client.receive("counter:x")).data["value"]
        history.append(Increment(call, time.monotonic(), "ok", answer))

    await alice.subscribe("counter:x")
    await bob.subscribe("counter:x")
    await increment(alice)
    GATES["paused"] = asyncio.Event()
    paused = asyncio.create_task(increment(alice, "paused"))
    await GATES["reached"].wait()
    await here.advance(LEASE + 1, "b")  # and nothing for a, whose lease ends without its knowledge
    for _ in range(3):
        await increment(bob)
    GATES.pop("paused").set()
    await paused
    await increment(alice)
    return history


async def test_an_owner_that_goes_on_after_a_pause_writes_nothing_and_its_message_is_done_by_the_new_one(
    tmp_path: Path,
) -> None:
    async with (
        world(tmp_path, counter=counter) as here,
        here.a.test_client("alice") as alice,
        here.b.test_client("bob") as bob,
    ):
        history = await paused_in_a_hook(here, alice, bob)
        assert [it.value for it in history] == [1, 2, 3, 4, 5, 6]
        assert not list(violations(history, 6))
        assert owners(here, "counter:x") == [False, True]
        with pytest.raises(StaleOwner):
            await here.store.commit("counter:x", 1, Change({"value": b"\x00"}))


class Unfenced(SharedStore):
    """One that lets everybody write."""

    async def commit(self, room: str, fence: int, change: Change) -> None:
        await super().commit(room, self._rooms[room].fence, change)


async def test_without_the_fence_the_same_pause_loses_what_was_acknowledged_and_the_checker_sees_it(
    tmp_path: Path,
) -> None:
    async with (
        world(tmp_path, Unfenced(), counter=counter) as here,
        here.a.test_client("alice") as alice,
        here.b.test_client("bob") as bob,
    ):
        history = await paused_in_a_hook(here, alice, bob)
        kept = msgspec.msgpack.decode(here.store._rooms["counter:x"].entries["value"])
        assert list(violations(history, kept))


async def test_an_engine_that_lost_its_data_brings_no_old_owner_back(tmp_path: Path) -> None:
    async with (
        world(tmp_path, counter=counter) as here,
        here.a.test_client("alice") as alice,
        here.b.test_client("bob") as bob,
    ):
        for client in (alice, bob):
            await client.subscribe("counter:x")
        for _ in range(5):
            assert await value(alice)
        engine = here.hub._engine
        assert engine is not None
        engine._leases.clear()  # type: ignore[attr-defined]
        engine._fences = iter(range(1, 100))  # type: ignore[attr-defined]
        fence = here.store._rooms["counter:x"].fence
        here.b._rooms._forwarding._owners.clear()
        assert await value(bob) == 6
        assert here.store._rooms["counter:x"].fence > fence
        assert await value(alice) == 7, "its node learns from the store that it is no longer the owner"


async def test_a_request_that_was_done_is_not_done_again_when_its_reply_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        world(tmp_path, counter=counter) as here,
        here.a.test_client("alice") as alice,
        here.b.test_client("bob") as bob,
    ):
        await alice.subscribe("counter:x")
        await bob.subscribe("counter:x")
        assert await value(bob) == 1
        send, lost = here.a._node.bus._send, asyncio.Event()

        async def lose(node: str, message: Any) -> None:
            if message.kind == "reply":
                lost.set()
            else:
                await send(node, message)

        with monkeypatch.context() as patch:
            patch.setattr(here.a._node.bus, "_send", lose)
            publishing = asyncio.create_task(bob.publish("counter:x", {}))
            await lost.wait()
        here.a._rooms._leases._running = False  # it dies: nothing is renewed any more
        await here.advance(LEASE + 1, "b")
        await publishing
        assert (await bob.receive()).data["value"] == 2
        assert await value(bob) == 3
