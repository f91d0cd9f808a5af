"""Who is in a room: on one node and on two, by tags, read-only, after sleep; what a room answers; ticks."""

from pathlib import Path
from typing import Any

import pytest

from freshet import Refusal, Room, RoomSession
from freshet.testing import ManualClock
from tests.rooms.test_rooms import application, awake, received
from tests.rooms.two import world
from tests.tools.patience import eventually


class Document(Room):
    """Who says that it edits may write; all others read."""

    async def on_join(self, session: RoomSession, data: Any) -> None:
        session.tags = [data["as"]]
        session.read_only = data["as"] == "reader"
        session.state = data["name"]

    async def on_message(self, session: RoomSession, data: Any) -> Any:
        if data == "who":
            return {tag or "all": sorted(it.state for it in await self.sessions(tag)) for tag in (None, "editor")}
        if data == "promote":
            for reader in await self.sessions("reader"):
                reader.tags, reader.read_only = ["editor"], False
        if data == "promote, and fail":
            for reader in await self.sessions("reader"):
                reader.tags = ["editor"]
            raise RuntimeError
        for it in await self.sessions("editor"):
            await it.send(data)
        return None


def document() -> type[Room]:
    return type("Document", (Document,), {})


def person(name: str, role: str) -> dict[str, str]:
    return {"name": name, "as": role}


async def test_a_room_knows_who_is_in_it_by_tags_and_readers_may_not_write() -> None:
    live = application()
    live.room("doc:{id}")(Document)
    async with live.test_client("a") as ann, live.test_client("b") as bob:
        await ann.subscribe("doc:1", data=person("ann", "editor"))
        assert await ann.rpc("doc:1", "who") == {"all": ["ann"], "editor": ["ann"]}
        await bob.subscribe("doc:1", data=person("bob", "reader"))
        assert await ann.rpc("doc:1", "who") == {"all": ["ann", "bob"], "editor": ["ann"]}
        with pytest.raises(Refusal, match="only listen"):
            await bob.publish("doc:1", "hello")
        with pytest.raises(Refusal, match="only listen"):
            await bob.rpc("doc:1", "who")
        await ann.publish("doc:1", "to editors")
        assert await received(ann) == "to editors"
        await bob.expect_nothing()
        await ann.publish("doc:1", "promote")
        assert [await received(ann), await received(bob)] == ["promote", "promote"]
        assert await bob.rpc("doc:1", "who") == {"all": ["ann", "bob"], "editor": ["ann", "bob"]}
        await bob.unsubscribe("doc:1")
        assert await ann.rpc("doc:1", "who") == {"all": ["ann"], "editor": ["ann"]}


class Board(Document):
    """Whose state clients may change, too."""

    async def on_change(self, session: RoomSession | None, key: str, data: Any) -> Any:
        return data


async def test_readers_may_not_change_a_rooms_state_either() -> None:
    live = application()
    live.room("board:{id}", state={})(Board)
    async with live.test_client("a") as ann, live.test_client("b") as bob:
        await ann.subscribe("board:1", data=person("ann", "editor"))
        await bob.subscribe("board:1", data=person("bob", "reader"))
        await ann._ask("publish", {"channel": "board:1", "type": 1, "key": "title", "data": "ours"})
        for change in ({"data": "mine"}, {"removed": True}):
            with pytest.raises(Refusal, match="only listen"):
                await bob._ask("publish", {"channel": "board:1", "type": 1, "key": "title", **change})
        assert await live.entries("board:1") == {"title": "ours"}


async def test_tags_that_a_hook_set_before_it_failed_are_not_kept() -> None:
    live = application()
    live.room("doc:{id}")(Document)
    async with live.test_client("a") as ann, live.test_client("b") as bob:
        await ann.subscribe("doc:1", data=person("ann", "editor"))
        await bob.subscribe("doc:1", data=person("bob", "reader"))
        with pytest.raises(Refusal):
            await ann.publish("doc:1", "promote, and fail")
        assert await ann.rpc("doc:1", "who") == {"all": ["ann", "bob"], "editor": ["ann"]}


async def test_a_room_that_woke_up_asks_who_is_there_with_tags_and_all() -> None:
    clock = ManualClock()
    live = application(clock, idle=10)
    live.room("doc:{id}")(Document)
    async with live.test_client("a") as ann, live.test_client("b") as bob, live.test_client("c") as cas:
        await ann.subscribe("doc:1", data=person("ann", "editor"))
        await bob.subscribe("doc:1", data=person("bob", "reader"))
        await cas.subscribe("doc:1", data=person("cas", "reader"))
        await clock.advance(15)
        await eventually(lambda: awake(live) == 0)
        await cas.unsubscribe("doc:1")
        assert awake(live) == 0, "a client that leaves wakes no room that has no hook for it"
        with pytest.raises(Refusal, match="only listen"):
            await bob.publish("doc:1", "hello")
        assert await ann.rpc("doc:1", "who") == {"all": ["ann", "bob"], "editor": ["ann"]}


async def test_clients_of_all_nodes_are_in_the_room_and_what_is_kept_for_them_survives_a_takeover(
    tmp_path: Path,
) -> None:
    async with world(tmp_path, doc=document) as here, here.b.test_client("b") as bob:
        async with here.a.test_client("a") as ann:
            await ann.subscribe("doc:1", data=person("ann", "editor"))
            await bob.subscribe("doc:1", data=person("bob", "reader"))
            assert await ann.rpc("doc:1", "who") == {"all": ["ann", "bob"], "editor": ["ann"]}
            await ann.publish("doc:1", "promote")
            assert await received(bob) == "promote"
        await eventually_who(bob, {"all": ["bob"], "editor": ["bob"]})
        await here.a._rooms.stop()
        assert await bob.rpc("doc:1", "who") == {"all": ["bob"], "editor": ["bob"]}


async def eventually_who(client: Any, expected: dict[str, list[str]]) -> None:
    """A client that left is gone behind what is on its way."""
    for _ in range(100):
        if (found := await client.rpc("doc:1", "who")) == expected:
            return
    assert found == expected


@pytest.mark.parametrize("tags", [[str(n) for n in range(11)], ["x" * 257], [""]])
async def test_tags_have_a_limit(tags: list[str]) -> None:
    class Tagged(Room):
        async def on_message(self, session: RoomSession, data: Any) -> None:
            try:
                session.tags = data
            except ValueError as why:
                raise Refusal.bad_request(str(why)) from None

    live = application()
    live.room("r:{name}")(Tagged)
    async with live.test_client("a") as ann:
        await ann.subscribe("r:1")
        with pytest.raises(Refusal, match="at most 10"):
            await ann.publish("r:1", tags)


async def test_a_call_of_a_room_needs_the_rights_of_a_publication_and_leaves_other_methods_alone() -> None:
    live = application()
    live.room("doc:{id}")(Document)

    @live.rpc("time")
    async def time(session: Any, data: Any) -> str:
        return "now"

    async with live.test_client("a") as ann:
        assert await ann.rpc("time") == "now"
        with pytest.raises(Refusal) as refusal:
            await ann.rpc("doc:1", "who")
        assert refusal.value.code == 103, "it has not subscribed"
        with pytest.raises(Refusal) as refusal:
            await ann.rpc("nothing")
        assert refusal.value.code == 104


class Clockwork(Room):
    async def on_start(self) -> None:
        self.ticks = 0
        await self.set_tick_rate(20)

    async def on_message(self, session: RoomSession, data: Any) -> int:
        await self.set_tick_rate(data)
        return self.ticks

    async def on_tick(self) -> None:
        self.ticks += 1
        if self.ticks == 30:
            raise RuntimeError
        await self.broadcast(self.ticks)


async def test_a_room_ticks_at_its_rate_does_not_sleep_meanwhile_and_after_a_failure_begins_anew() -> None:
    clock = ManualClock()
    live = application(clock, idle=1)
    live.room("c:{name}")(Clockwork)
    async with live.test_client("a") as ann:
        await ann.subscribe("c:1")
        for expected in range(1, 30):
            await clock.advance(0.05)
            assert await received(ann) == expected
        await clock.advance(0.05)
        await ann.expect_nothing()  # it failed, and waits for a second
        await clock.advance(1.0)
        await clock.advance(0.05)
        assert (await received(ann)) in (1, 2), "it counts from the start"
        await ann.publish("c:1", 0)
        await clock.advance(5)
        await eventually(lambda: awake(live) == 0)


async def test_a_rate_has_a_limit() -> None:
    raised = []

    class Fast(Room):
        async def on_start(self) -> None:
            for rate in (121.0, -1.0, float("nan")):
                try:
                    await self.set_tick_rate(rate)
                except ValueError as why:
                    raised.append(str(why))

    live = application()
    live.room("r:{name}")(Fast)
    async with live.test_client("a") as ann:
        await ann.subscribe("r:1")
    assert len(raised) == 3
