"""Each hook of a room, each call of its store and of the engine is held, while each other thing happens to the room.

Afterwards all parts of the node agree, as in `tests/races`, and the room with them: what it keeps has each message
once, and whoever heard of one heard of what is kept.
"""

from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import msgspec
import pytest

from freshet import Freshet, Room, RoomSession
from freshet.runtime.clock import Clock
from freshet.stores.base import Change, Due
from freshet.stores.memory import MemoryStore
from tests.races.clients import CentrifugeClient
from tests.races.gates import Gates
from tests.races.test_races import each_gate, each_operation
from tests.races.world import Step, World, connected, fail_within, leaves, nobody, race_within, running

COUNTER = "counter:a"


class GateStore(MemoryStore):
    """One with a gate before and behind each call."""

    def __init__(self, clock: Clock, gates: Gates) -> None:
        super().__init__(clock)
        self._gates = gates

    async def _through(self, name: str, call: Awaitable[Any]) -> Any:
        try:
            await self._gates.come(name)
            result = await call
        finally:
            if hasattr(call, "close"):
                call.close()  # it may not have begun
        await self._gates.come(f"{name} done")
        return result

    async def claim(self, room: str, fence: int) -> int:
        return int(await self._through("claim", super().claim(room, fence)))

    async def commit(self, room: str, fence: int, change: Change) -> None:
        await self._through("commit", super().commit(room, fence, change))

    async def get(self, room: str, keys: Sequence[str]) -> dict[str, bytes]:
        return dict(await self._through("get", super().get(room, keys)))

    async def reply(self, room: str, request: str) -> bytes | None:
        found: bytes | None = await self._through("reply", super().reply(room, request))
        return found

    async def alarm(self, room: str) -> float | None:
        found: float | None = await self._through("alarm", super().alarm(room))
        return found

    async def due(self, before: float, limit: int) -> list[Due]:
        return list(await super().due(before, limit))


def prepare(live: Freshet, gates: Gates, clock: Clock) -> None:
    live._rooms._make_store = lambda url: GateStore(clock, gates)

    @live.room("counter:{name}", publish="subscriber")
    class Counter(Room):
        """Keeps who said what as which number, and lets all know."""

        async def on_start(self) -> None:
            self.value = await self.store.get("value", 0)
            await gates.come("on_start")

        async def on_join(self, session: RoomSession) -> None:
            await gates.come("on_join")
            session.state = self.value
            await session.send({"there": self.value})

        async def on_leave(self, session: RoomSession) -> None:
            await gates.come("on_leave")

        async def on_message(self, session: RoomSession, data: dict[str, Any]) -> None:
            await gates.come("on_message")
            self.value += 1
            await self.store.put("value", self.value)
            await self.store.put(f"message:{self.value:04}", data["id"])
            await self.set_alarm(5)
            await self.broadcast({"value": self.value, "id": data["id"]})

        async def on_alarm(self) -> None:
            await gates.come("on_alarm")
            await self.store.put("rang", True)


@asynccontextmanager
async def rooms() -> AsyncIterator[World]:
    async with running("centrifuge", prepare) as world:
        world.channels.append(COUNTER)
        yield world
        if not len(world.node.registry):  # else there was no gate of that number, and it did not come to its end
            await agree_on_rooms(world)


async def agree_on_rooms(world: World) -> None:
    """When nobody is there any more."""
    its, store = world.live._rooms, world.live._rooms._store
    assert store is not None
    assert its._occupants == {}
    assert set(its._active) == set(its._leases._owned), "what is in memory is owned, and nothing else"
    assert [it for it in its._active.values() if it._mailbox or it._working] == []
    kept = [msgspec.msgpack.decode(value) for _, value in await MemoryStore.scan(store, COUNTER, "message:")]  # type: ignore[arg-type]
    value = (await MemoryStore.get(store, COUNTER, ["value"])).get("value", b"\0")  # type: ignore[arg-type]
    assert len(set(kept)) == len(kept) == msgspec.msgpack.decode(value), f"a message was done twice, or lost: {kept}"
    for client in world.clients:
        heard = [it for it in client.got.get(COUNTER, []) if "value" in it]
        assert all(kept[it["value"] - 1] == it["id"] for it in heard), f"{heard} of {kept}"
        assert [it["value"] for it in heard] == sorted({it["value"] for it in heard})


# ------------------------------------------------------------------------------------------------------- what happens


async def in_counter(world: World) -> None:
    await connected(world)
    world.client.subscribe(COUNTER)
    await world.rest()


async def said(world: World) -> None:
    """And so the room has an alarm."""
    await in_counter(world)
    await speaks(world)
    await world.rest()


async def subscribes(world: World) -> None:
    if world.client.is_open:
        world.client.subscribe(COUNTER)


async def unsubscribes(world: World) -> None:
    if world.client.is_open:
        world.client.unsubscribe(COUNTER)


async def speaks(world: World) -> None:
    if world.client.is_open:
        heard = sum(len(client.got.get(COUNTER, [])) for client in world.clients)
        world.client.publish(COUNTER, {"id": f"{id(world.client)}:{heard}:{len(world.gates.passed)}"})


async def another_speaks(world: World) -> None:
    other = CentrifugeClient(world.doors)
    await world.come(other, "carol")
    if other.is_open:
        other.subscribe(COUNTER)
        other.publish(COUNTER, {"id": "another's"})


async def alarm_is_due(world: World) -> None:
    await world.clock.advance(6)


async def is_idle(world: World) -> None:
    await world.clock.advance(world.live._node.config.rooms.idle + 3)


async def leases_are_renewed(world: World) -> None:
    await world.clock.advance(world.live._node.config.rooms.lease / 2)


async def stood_still(world: World) -> None:
    """The process did, for so long that what it owns may be another's, and is not."""
    world.clock.now += world.live._node.config.rooms.lease


async def another_node_has_it(world: World) -> None:
    """For a moment: it takes it over, and lets it go."""
    store = world.live._rooms._store
    assert store is not None
    world.engine._leases.pop(COUNTER, None)
    lease = await world.engine.take_lease(COUNTER, "another", 60)
    await MemoryStore.claim(store, COUNTER, lease.fence)  # type: ignore[arg-type]
    await world.engine.release_lease(COUNTER, lease)


async def time_is_over(world: World) -> None:
    """For hooks."""
    await world.clock.advance(22)


async def server_disconnects(world: World) -> None:
    await world.live.disconnect("alice")


HELD: dict[str, tuple[Step, Step]] = {
    "subscribe": (connected, subscribes),
    "subscribe, with a room that there was": (said, unsubscribes),
    "message": (in_counter, speaks),
    "unsubscribe": (in_counter, unsubscribes),
    "leave": (in_counter, leaves),
    "alarm": (said, alarm_is_due),
    "idle": (in_counter, is_idle),
    "renewal": (in_counter, leases_are_renewed),
    "nothing": (nobody, nobody),
}
OPERATIONS: dict[str, Step] = {
    "subscribe": subscribes,
    "unsubscribe": unsubscribes,
    "message": speaks,
    "another's message": another_speaks,
    "leave": leaves,
    "alarm": alarm_is_due,
    "idle": is_idle,
    "renewal": leases_are_renewed,
    "standstill": stood_still,
    "takeover": another_node_has_it,
    "timeout": time_is_over,
    "server disconnect": server_disconnects,
}


@pytest.mark.parametrize("held", HELD)
async def test_all_agree_whatever_happens_to_a_room_meanwhile(held: str) -> None:
    def race(operation: str, at: int) -> Awaitable[str]:
        return race_within(rooms(), *HELD[held], OPERATIONS[operation], at)

    assert await each_operation(OPERATIONS, race) == {}


@pytest.mark.parametrize("failing", HELD)
async def test_all_agree_wherever_engine_store_or_a_hook_of_a_room_fails(failing: str) -> None:
    assert await each_gate(partial(lambda at: fail_within(rooms(), *HELD[failing], at))) == []


async def test_without_the_fence_a_takeover_at_some_gate_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    commit = MemoryStore.commit

    async def unfenced(self: MemoryStore, room: str, fence: int, change: Change) -> None:
        await commit(self, room, self._rooms[room].fence, change)

    async def writes(world: World) -> None:
        """As another node that owns the room for a moment."""
        await another_node_has_it(world)
        its = world.live._rooms._store
        await unfenced(its, COUNTER, 0, Change({"message:0001": b"\xa1x", "value": b"\x01"}))  # type: ignore[arg-type]

    monkeypatch.setattr(MemoryStore, "commit", unfenced)
    faults = await each_gate(lambda at: race_within(rooms(), *HELD["message"], writes, at))
    assert faults
