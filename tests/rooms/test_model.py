"""Rooms against a model: whatever is said, crowds, fails, sleeps, is due and is lost, they hold what it holds."""

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from freshet import Refusal, Room, RoomSession
from freshet.endpoints.in_process import settle
from freshet.testing import ManualClock
from tests.rooms.test_rooms import application

IDLE = 10.0
MAILBOX = 4
ROOMS = st.sampled_from(["r:a", "r:b"])


class Ledger(Room):
    """Writes down what it is told, in the store and in an attribute, and says so."""

    async def on_start(self) -> None:
        self.entries = await self.store.list("entry:")

    async def on_message(self, session: RoomSession, data: dict[str, Any]) -> None:
        number = len(self.entries) + 1
        for offset in range(data["entries"]):
            key = f"entry:{number + offset:04}"
            await self.store.put(key, data["value"])
            self.entries[key] = data["value"]
            await asyncio.sleep(0)
        if data["alarm"] is not None:
            await self.set_alarm(data["alarm"])
        await self.broadcast([len(self.entries), data["value"]])
        if data["fails"] == "raise":
            raise RuntimeError("told to")
        if data["fails"] == "refuse":
            raise Refusal(1001, "told to")

    async def on_alarm(self) -> None:
        key = f"entry:{len(self.entries) + 1:04}"
        await self.store.put(key, "alarm")
        self.entries[key] = "alarm"
        await self.broadcast([len(self.entries), "alarm"])


class RoomsMachine(RuleBasedStateMachine):
    """entries, alarms: what the rooms hold. expected: what the client is to get, in each room."""

    @initialize()
    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.run = self.loop.run_until_complete
        self.clock = ManualClock()
        self.live = application(self.clock, idle=IDLE, mailbox=MAILBOX)
        self.live.room("r:{name}")(Ledger)
        self.client = self.live.test_client("alice")
        self.run(self.client.__aenter__())
        self.entries: dict[str, list[str]] = {"r:a": [], "r:b": []}
        self.alarms: dict[str, float] = {}
        self.expected: dict[str, list[Any]] = {"r:a": [], "r:b": []}
        for room in self.entries:
            self.run(self.client.subscribe(room))

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            self.run(self.client.__aexit__(None, None, None))
            self.loop.close()

    @rule(
        room=ROOMS,
        value=st.text("abc", min_size=1, max_size=3),
        entries=st.integers(0, 3),
        fails=st.sampled_from(["no", "no", "no", "raise", "refuse"]),
        alarm=st.sampled_from([None, None, 3, 15]),
    )
    def say(self, room: str, value: str, entries: int, fails: str, alarm: float | None) -> None:
        message = {"value": value, "entries": entries, "fails": fails, "alarm": alarm}
        if fails != "no":
            with pytest.raises(Refusal, match="told to" if fails == "refuse" else "internal"):
                self.run(self.client.publish(room, message))
            return
        self.run(self.client.publish(room, message))
        self.entries[room] += [value] * entries
        self.expected[room].append([len(self.entries[room]), value])
        if alarm is not None:
            self.alarms[room] = self.clock.now + alarm

    @rule(room=ROOMS, many=st.integers(2, 7))
    def crowd(self, room: str, many: int) -> None:
        """So many speak at the same time: those for whom there is no place are told so, and the others take turns."""
        messages = [{"value": f"v{number}", "entries": 1, "fails": "no", "alarm": None} for number in range(many)]

        async def all_at_once() -> list[Any]:
            sent = [asyncio.create_task(self.client.publish(room, it)) for it in messages]
            return await asyncio.gather(*sent, return_exceptions=True)

        results = self.run(all_at_once())
        refused = [it for it in results if it is not None]
        assert all(isinstance(it, Refusal) and (it.code, it.temporary) == (111, True) for it in refused)
        assert len(refused) <= max(0, many - MAILBOX)
        for number, it in enumerate(results):
            if it is None:
                self.entries[room].append(f"v{number}")
                self.expected[room].append([len(self.entries[room]), f"v{number}"])

    @rule(seconds=st.sampled_from([1, 4, 14]))
    def pass_time(self, seconds: float) -> None:
        """Rooms fall asleep meanwhile, and alarms wake them."""
        end = self.clock.now + seconds
        for room, at in sorted(self.alarms.items(), key=lambda it: it[1]):
            if at <= end:
                del self.alarms[room]
                self.entries[room].append("alarm")
                self.expected[room].append([len(self.entries[room]), "alarm"])
        for _ in range(int(seconds * 4)):
            self.run(self.clock.advance(0.25))

    @rule(room=ROOMS)
    def lose(self, room: str) -> None:
        """As if another node had taken it over, and died."""
        self.live._rooms._leases.lose(room)
        self.live._node.engine._leases.clear()  # type: ignore[attr-defined]

    @rule()
    def lose_the_data_of_the_engine(self) -> None:
        """Its fences begin at 1 again, and nobody owns anything by it."""
        self.live._node.engine._leases.clear()  # type: ignore[attr-defined]
        self.live._node.engine._fences = iter(range(1, 1000))  # type: ignore[attr-defined]

    @invariant()
    def the_client_got_all_and_the_store_holds_all(self) -> None:
        if not hasattr(self, "loop"):
            return
        self.run(settle())
        for room, expected in self.expected.items():
            assert [self.run(self.client.receive(room)).data for _ in expected] == expected
            expected.clear()
        self.run(self.client.expect_nothing())
        for room, entries in self.entries.items():
            kept = self.run(self.live._rooms._store.scan(room, "entry:"))
            assert [value for _, value in kept] == [msgspec.msgpack.encode(it) for it in entries]
            assert self.run(self.live._rooms._store.alarm(room)) == self.alarms.get(room)


TestModel = RoomsMachine.TestCase
TestModel.settings = settings(max_examples=40, stateful_step_count=25)
