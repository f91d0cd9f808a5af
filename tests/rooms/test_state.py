"""A state as an application and its clients use it, in one process."""

import asyncio
from typing import Any
from unittest.mock import AsyncMock

import msgspec
import pytest

from freshet import MISSING, Freshet, History, Refusal, Room, RoomSession
from freshet.errors import ConfigError, EngineUnavailable
from freshet.rooms.step import RoomStep
from freshet.testing import Client, ManualClock
from tests.rooms.test_rooms import application
from tests.tools.patience import eventually


class Note(msgspec.Struct):
    text: str


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def live(clock: ManualClock) -> Freshet:
    live = application(clock)
    live.state("lobby:{id}")
    live.state("typing:{id}", mode="ephemeral", ttl=5, key="client")
    return live


async def data(client: Client) -> Any:
    return (await client.receive()).data


async def test_who_comes_gets_all_entries_and_then_each_change(live: Freshet) -> None:
    async with live.test_client("alice") as alice, live.test_client("bob") as bob:
        await alice.subscribe("lobby:1")
        assert await data(alice) == {"state": {}}
        await alice.publish("lobby:1", {"key": "title", "value": "hello"})
        got = await alice.receive()
        assert (got.data, got.tags, got.offset) == (
            {"key": "title", "value": "hello"},
            {"event": "state", "key": "title"},
            1,
        )
        await live.set_entry("lobby:1", "size", 3)
        assert await data(alice) == {"key": "size", "value": 3}
        await bob.subscribe("lobby:1")
        got = await bob.receive()
        assert (got.data, got.tags) == ({"state": {"size": 3, "title": "hello"}}, {"event": "snapshot"})
        await bob.publish("lobby:1", {"key": "title", "removed": True})
        for client in (alice, bob):
            assert await data(client) == {"key": "title", "removed": True}
        assert await live.entries("lobby:1") == {"size": 3}
        assert await live.entries("lobby:2") == {}


async def test_who_was_away_gets_what_changed_or_if_that_is_too_much_all_entries(live: Freshet) -> None:
    live.state("small:{id}", history=History(size=2, ttl=60))
    async with live.test_client("alice") as alice:
        for channel in ("lobby:1", "small:1"):
            await alice.subscribe(channel)
            assert await data(alice) == {"state": {}}
        await alice.disconnect()
        for number in range(3):
            for channel in ("lobby:1", "small:1"):
                await live.set_entry(channel, "n", number)
        await alice.connect()
        assert [(await alice.receive("lobby:1")).data for _ in range(3)] == [
            {"key": "n", "value": it} for it in range(3)
        ]
        assert (await alice.receive("small:1")).data == {"state": {"n": 2}}
        await alice.expect_nothing()


async def test_an_entry_is_set_only_if_its_value_is_the_expected_one(live: Freshet) -> None:
    async with live.test_client("alice") as alice:
        await alice.subscribe("lobby:1")
        await alice.receive()
        assert await live.set_entry("lobby:1", "owner", {"who": "a", "n": 1}, expect=MISSING)
        assert not await live.set_entry("lobby:1", "owner", "b", expect=MISSING)
        assert not await live.set_entry("lobby:1", "owner", "b", expect={"who": "b"})
        assert await live.set_entry("lobby:1", "owner", "b", expect={"n": 1, "who": "a"})
        assert not await live.remove_entry("lobby:1", "owner", expect="c")
        with pytest.raises(Refusal, match="value_mismatch") as why:
            await alice.publish("lobby:1", {"key": "owner", "value": "c", "expect": None})
        assert why.value.code == 120
        await alice.publish("lobby:1", {"key": "owner", "value": "c", "expect": "b"})
        assert await live.remove_entry("lobby:1", "owner", expect="c")
        assert not await live.remove_entry("lobby:1", "owner")
        changes = [await data(alice) for _ in range(4)]
        assert [it.get("value") for it in changes] == [{"who": "a", "n": 1}, "b", "c", None]
        await alice.expect_nothing()


async def test_what_several_add_to_a_counter_is_all_in_it(live: Freshet) -> None:
    async with live.test_client("alice") as alice, live.test_client("bob") as bob:
        await alice.subscribe("lobby:1")
        await bob.subscribe("lobby:1")
        adding = [client.publish("lobby:1", {"key": "n", "add": 2}) for client in (alice, bob) for _ in range(10)]
        await asyncio.gather(*adding, *(live.add_to_entry("lobby:1", "n") for _ in range(5)))
        assert await live.entries("lobby:1") == {"n": 45}
        assert await live.add_to_entry("lobby:1", "n", -0.5) == 44.5
        await live.set_entry("lobby:1", "text", "x")
        with pytest.raises(Refusal, match="two numbers"):
            await live.add_to_entry("lobby:1", "text")


async def test_an_entry_that_is_not_set_again_expires_and_all_hear_of_it(live: Freshet, clock: ManualClock) -> None:
    async with live.test_client("alice") as alice:
        await alice.subscribe("lobby:1")
        await alice.receive()
        await live.set_entry("lobby:1", "a", 1, ttl=10)
        await live.set_entry("lobby:1", "b", 2)
        await live.set_entry("lobby:1", "c", 3, ttl=10)
        await clock.advance(6)
        await live.set_entry("lobby:1", "c", 4, ttl=10)
        assert [(await data(alice))["key"] for _ in range(4)] == ["a", "b", "c", "c"]
        await clock.advance(5)
        assert await data(alice) == {"key": "a", "removed": True}
        assert await live.entries("lobby:1") == {"b": 2, "c": 4}
        await clock.advance(40)  # it sleeps meanwhile
        assert await data(alice) == {"key": "c", "removed": True}
        await alice.expect_nothing()


async def test_a_state_survives_the_sleep_of_its_room(live: Freshet, clock: ManualClock) -> None:
    async with live.test_client("alice") as alice:
        await alice.subscribe("lobby:1")
        await alice.receive()
        await live.set_entry("lobby:1", "a", [1])
        await alice.receive()
        await clock.advance(60)
        await eventually(lambda: live._rooms.statistics()[0] == 0)
        assert await live.entries("lobby:1") == {"a": [1]}
        await alice.expect_nothing()  # what went out before does not go out again


async def test_clients_with_a_key_of_their_own_set_that_alone_and_it_goes_with_them(live: Freshet) -> None:
    async with live.test_client("alice") as alice, live.test_client("bob") as bob:
        await alice.subscribe("typing:1")
        await alice.receive()
        await bob.subscribe("typing:1")
        await bob.publish("typing:1", {"key": "whatever", "value": True})
        assert await data(alice) == {"key": bob.id, "value": True}
        await bob.disconnect()
        assert await data(alice) == {"key": bob.id, "removed": True}


async def test_the_hook_sees_each_change_before_it_is_made_and_may_refuse_or_replace_it() -> None:
    live, seen = application(), []
    notes = live.state("notes:{id}", publish="client")

    @notes.on_change
    async def check(room: Room, session: RoomSession | None, key: str, data: Note | None, removed: bool) -> Any:
        seen.append((session.user if session is not None else None, key, data, removed, dict(room.state)))
        if key == "locked":
            raise Refusal.permission_denied("locked")
        return {"text": data.text.upper()} if data is not None else None

    async with live.test_client("alice") as alice:
        await alice.publish("notes:1", {"key": "a", "value": {"text": "x"}})
        with pytest.raises(Refusal, match="data"):
            await alice.publish("notes:1", {"key": "a", "value": 5})
        with pytest.raises(Refusal, match="locked"):
            await live.set_entry("notes:1", "locked", {"text": ""})
        assert await live.entries("notes:1") == {"a": {"text": "X"}}
        assert await live.remove_entry("notes:1", "a")
    assert seen == [
        ("alice", "a", Note("x"), False, {}),
        (None, "locked", Note(""), False, {"a": {"text": "X"}}),
        (None, "a", None, True, {"a": {"text": "X"}}),
    ]


class Board(Room):
    """Counts its cards in its state and in its store."""

    async def on_message(self, session: RoomSession, data: dict[str, Any]) -> None:
        await self.state.set("last", data, tags={"by": session.user})
        count = await self.state.add("count")
        await self.store.put("count", count)
        await self.broadcast({"count": count})
        if data.get("fail"):
            raise RuntimeError("told to")

    async def on_join(self, session: RoomSession) -> None:
        await session.send({"hello": session.user, "keys": list(self.state)})


async def test_what_a_hook_changes_is_one_with_what_it_stores_and_goes_out_with_that() -> None:
    live = application()
    live.room("board:{id}", state={})(Board)
    async with live.test_client("alice") as alice:
        await alice.subscribe("board:1")
        assert [await data(alice) for _ in range(2)] == [{"state": {}}, {"hello": "alice", "keys": []}]
        await alice.publish("board:1", {"text": "x"})
        assert [await data(alice) for _ in range(3)] == [
            {"key": "last", "value": {"text": "x"}},
            {"key": "count", "value": 1},
            {"count": 1},
        ]
        with pytest.raises(Refusal, match="internal"):
            await alice.publish("board:1", {"fail": True})
        await alice.expect_nothing()
        assert await live.entries("board:1") == {"last": {"text": "x"}, "count": 1}
        with pytest.raises(Refusal, match="only the room itself"):
            await alice._ask("publish", {"channel": "board:1", "type": 1, "key": "count", "data": 100})


class Drawer(Room):
    """Has a store and an alarm of its own beside its state."""

    async def on_message(self, session: RoomSession, data: str) -> None:
        if data == "clear":
            await self.store.clear()
        elif data == "list":
            await session.send(await self.store.list())
        else:
            await self.store.put(data, 1)
            await self.set_alarm(20)

    async def on_alarm(self) -> None:
        await self.broadcast("alarm")


async def test_the_state_and_its_expiry_leave_the_store_and_the_alarm_of_a_room_alone(clock: ManualClock) -> None:
    live = application(clock)
    live.room("drawer:{id}", state={})(Drawer)
    async with live.test_client("alice") as alice:
        await alice.subscribe("drawer:1")
        await alice.receive()
        await live.set_entry("drawer:1", "a", 1, ttl=10)
        await live.set_entry("drawer:1", "b", 1, ttl=50)
        await alice.publish("drawer:1", "x")
        await alice.publish("drawer:1", "list")
        assert [(await data(alice)) for _ in range(3)][-1] == {"x": 1}
        await clock.advance(11)
        assert await data(alice) == {"key": "a", "removed": True}
        await alice.publish("drawer:1", "clear")
        assert await live.entries("drawer:1") == {"b": 1}
        await clock.advance(10)
        assert await data(alice) == "alarm"
        await clock.advance(31)
        assert await data(alice) == {"key": "b", "removed": True}
        await clock.advance(60)
        await alice.expect_nothing()


async def test_a_state_is_bounded_and_what_cannot_be_is_refused(live: Freshet) -> None:
    live.state("tiny:{id}", size=1024)
    async with live.test_client("alice"):
        for number in range(9):
            await live.set_entry("tiny:1", str(number), "x" * 30)
        with pytest.raises(Refusal, match=r"at most 1024 bytes, see state\.size"):
            await live.set_entry("tiny:1", "y", "x" * 100)
        assert len(await live.entries("tiny:1")) == 9
        for key in ("", "a\0b", "x" * 256):
            with pytest.raises(Refusal, match="key"):
                await live.set_entry("lobby:1", key, 1)
        for ttl in (-1.0, float("inf"), float("nan")):
            with pytest.raises(Refusal, match="ttl"):
                await live.set_entry("lobby:1", "a", 1, ttl=ttl)
        with pytest.raises(Refusal, match="tags"):
            await live.set_entry("lobby:1", "a", 1, tags={"event": "x"})
        live.channel("plain")
        with pytest.raises(Refusal, match="no option `state`"):
            await live.set_entry("plain", "a", 1)


@pytest.mark.parametrize(
    "message",
    ["text", {"key": "a"}, {"key": "a", "value": 1, "add": 1}, {"key": "a", "value": 1, "other": 2}, {"value": 1}],
)
async def test_a_message_that_is_no_change_is_refused_with_what_is_expected(live: Freshet, message: Any) -> None:
    async with live.test_client("alice") as alice:
        await alice.subscribe("lobby:1")
        with pytest.raises(Refusal, match="expected") as why:
            await alice.publish("lobby:1", message)
        assert why.value.code == 107


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({"mode": "ephemeral"}, "state.ttl"),
        ({"mode": "recoverable"}, "state.ttl"),
        ({"ttl": 5}, "state.ttl"),
        ({"mode": "ephemeral", "ttl": 5, "history": {"size": 1, "ttl": 1}}, "history"),
        ({"delta": True, "slow": "latest"}, "slow"),
        ({"key": "client"}, "state.key"),
        ({"webhooks": ["publish"]}, "webhooks"),
        ({"size": 2**30}, "state.size"),
        ({"mode": "other"}, "state.mode"),
    ],
)
def test_options_of_a_state_that_do_not_fit_together_are_refused_at_once(options: dict[str, Any], path: str) -> None:
    with pytest.raises(ConfigError) as why:
        application().state("x:{id}", **options)
    assert why.value.path == path


def test_a_channel_without_a_room_has_no_state() -> None:
    with pytest.raises(ConfigError, match=r"live\.state"):
        application().channel("x", state={})


async def test_what_is_asked_twice_with_one_key_is_done_once(live: Freshet) -> None:
    async with live.test_client("alice"):
        added = [await live.add_to_entry("lobby:1", "n", 5, idempotency_key="order 7") for _ in range(3)]
        assert added == [5, 5, 5]
        assert await live.entries("lobby:1") == {"n": 5}


async def test_a_client_compares_and_sets_by_rpc_and_learns_the_value_that_is_there(live: Freshet) -> None:
    async with live.test_client("alice") as alice, live.test_client("bob") as bob:
        with pytest.raises(Refusal, match="subscribers") as why:
            await alice.rpc("state", {"channel": "lobby:1", "key": "lock", "value": "alice", "expect": None})
        assert why.value.code == 103
        for client in (alice, bob):
            await client.subscribe("lobby:1")
        lock = {"channel": "lobby:1", "key": "lock", "expect": None}
        assert await alice.rpc("state", {**lock, "value": "alice"}) == {"done": True, "value": "alice"}
        refused = {"done": False, "value": "alice", "why": "value_mismatch"}
        assert await bob.rpc("state", {**lock, "value": "bob"}) == refused
        assert await alice.rpc("state", {**lock, "expect": "alice", "removed": True}) == {"done": True, "value": None}
        assert await bob.rpc("state", {"channel": "lobby:1", "key": "n", "add": 2}) == {"done": True, "value": 2}
        with pytest.raises(Refusal, match="expected one of"):
            await bob.rpc("state", {"channel": "lobby:1", "key": "n"})


class Price(Room):
    """Shows who comes what there is, and all of them what is new."""

    async def on_join(self, session: RoomSession) -> None:
        await session.send(await self.store.get("price", 0))

    async def on_message(self, session: RoomSession, data: int) -> None:
        await self.store.put("price", data)
        await self.broadcast(data)


@pytest.mark.parametrize("history", [None, History(size=10, ttl=60)])
@pytest.mark.parametrize("channel", ["lobby:1", "typing:1", "price:1"])
async def test_what_changes_while_a_client_comes_in_it_gets_behind_what_it_was_shown(
    live: Freshet, channel: str, history: History | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The room's word is on its way to the client's node, and what comes later is there sooner."""
    live.room("price:{id}", history=history)(Price)
    said, gate, ask = asyncio.Event(), asyncio.Event(), live._rooms._ask

    async def slowly(channel: str, request: Any, once: str = "") -> Any:
        reply = await ask(channel, request, once)
        if request.what == "join" and request.visitor.user == "bob":
            said.set()
            await gate.wait()
        return reply

    async with live.test_client("alice") as alice, live.test_client("bob") as bob:
        await alice.subscribe(channel)
        await alice.receive()
        monkeypatch.setattr(live._rooms, "_ask", slowly)
        coming = asyncio.create_task(bob.subscribe(channel))
        await said.wait()
        await alice.publish(channel, 7 if channel == "price:1" else {"key": "x", "value": 7})
        assert await data(alice) in (7, {"key": "x", "value": 7}, {"key": alice.id, "value": 7})
        gate.set()
        await coming
        assert await data(bob) in (0, {"state": {}})
        assert await data(bob) in (7, {"key": "x", "value": 7}, {"key": alice.id, "value": 7})
        await bob.expect_nothing()


async def test_changes_that_could_not_go_out_go_out_once_the_engine_is_back(
    live: Freshet, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with live.test_client("alice") as alice:
        await alice.subscribe("lobby:1")
        await alice.receive()
        engine, away = live._node.engine, True
        publish = engine.publish

        async def sometimes(*arguments: Any) -> Any:
            if away:
                raise EngineUnavailable("away")
            return await publish(*arguments)

        monkeypatch.setattr(engine, "publish", sometimes)
        assert await live.set_entry("lobby:1", "a", 1)  # it is kept: this is what counts
        with pytest.raises(EngineUnavailable):
            await live.set_entry("lobby:1", "a", 2)  # before what is waiting no other goes out
        await alice.expect_nothing()
        away = False
        await clock.advance(3)
        assert await data(alice) == {"key": "a", "value": 1}
        await live.set_entry("lobby:1", "a", 3)
        assert await data(alice) == {"key": "a", "value": 3}
        await alice.expect_nothing()


async def test_what_a_crash_left_unsent_goes_out_when_the_room_comes_back(
    live: Freshet, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has to ask for it: the alarm that was written along brings it back."""
    async with live.test_client("alice") as alice:
        await alice.subscribe("lobby:1")
        await alice.receive()
        with monkeypatch.context() as dying:
            dying.setattr(RoomStep, "let_out_changes", AsyncMock())
            assert await live.set_entry("lobby:1", "a", 1)
        live._rooms._leases.lose("lobby:1")
        live._node.engine._leases.clear()  # type: ignore[attr-defined]
        await alice.expect_nothing()
        await clock.advance(6)
        assert await data(alice) == {"key": "a", "value": 1}
        await clock.advance(60)
        await alice.expect_nothing()


async def test_of_a_flood_of_changes_so_many_wait_and_the_others_are_to_be_tried_again() -> None:
    live, gate = application(mailbox=3), asyncio.Event()
    slow = live.state("slow:{id}")

    @slow.on_change
    async def wait(room: Room, session: RoomSession | None, key: str, data: int) -> None:
        await gate.wait()

    async with live.test_client("alice"):
        asked = [asyncio.create_task(live.set_entry("slow:1", "k", number)) for number in range(10)]
        await eventually(lambda: sum(task.done() for task in asked) == 7)
        gate.set()
        done = await asyncio.gather(*asked, return_exceptions=True)
        assert [it for it in done if it is True] == [True] * 3
        assert {it.code for it in done if isinstance(it, Refusal)} == {111}
