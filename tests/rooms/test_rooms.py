"""Rooms as an application writes them, in one process: their hooks, their store, their alarms, their sleep."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from freshet import Freshet, Refusal, Room, RoomSession
from freshet.config import Config, Rooms, Timing, Tokens
from freshet.errors import ConfigError, Disconnect
from freshet.testing import Client, ManualClock
from tests.tools.patience import eventually

SECRET = "a secret that is long enough for HS256"


def application(clock: ManualClock | None = None, timing: Timing | None = None, **options: Any) -> Freshet:
    config = Config(
        rooms=Rooms(**{"store": "memory://", **options}), timing=timing or Timing(), tokens=Tokens(anonymous=True)
    )
    return Freshet(secret=SECRET, config=config, **({"clock": clock} if clock is not None else {}))


async def received(client: Client) -> Any:
    return (await client.receive()).data


def awake(live: Freshet) -> int:
    return live._rooms.statistics()[1]


class Bid(msgspec.Struct):
    amount: int


class Auction(Room):
    async def on_start(self) -> None:
        self.price = await self.store.get("price", 0)

    async def on_join(self, session: RoomSession) -> None:
        await session.send({"price": self.price})

    async def on_message(self, session: RoomSession, bid: Bid) -> dict[str, int]:
        if bid.amount <= self.price:
            raise Refusal.bad_request("too low")
        self.price = bid.amount
        await self.store.put("price", self.price)
        await self.broadcast({"price": self.price, "by": session.user})
        await self.set_alarm(30)
        return {"yours": bid.amount}

    async def on_alarm(self) -> None:
        await self.broadcast({"sold": self.parameters["lot"]})


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


async def test_an_auction_tells_who_joins_the_price_takes_bids_and_ends_by_its_alarm(clock: ManualClock) -> None:
    live = application(clock)
    live.room("auction:{lot}")(Auction)
    async with live.test_client("alice") as alice, live.test_client("bob") as bob:
        for client in (alice, bob):
            await client.subscribe("auction:42")
            assert await received(client) == {"price": 0}
        await alice.publish("auction:42", {"amount": 5})
        for client in (alice, bob):
            assert await received(client) == {"price": 5, "by": "alice"}
        with pytest.raises(Refusal, match="too low"):
            await bob.publish("auction:42", {"amount": 5})
        with pytest.raises(Refusal, match="amount"):
            await bob.publish("auction:42", {"amount": "much"})
        await clock.advance(20)
        await bob.publish("auction:42", {"amount": 6})
        assert [await received(alice), await received(bob)] == [{"price": 6, "by": "bob"}] * 2
        await clock.advance(29)
        await alice.expect_nothing()  # the bid has set the alarm anew
        await clock.advance(2)
        assert await received(alice) == {"sold": "42"}


async def test_rooms_of_one_kind_have_nothing_in_common() -> None:
    live = application()
    live.room("auction:{lot}")(Auction)
    async with live.test_client("alice") as alice:
        await alice.subscribe("auction:1")
        await alice.publish("auction:1", {"amount": 5})
        await alice.subscribe("auction:2")
        assert [await received(alice) for _ in range(3)] == [{"price": 0}, {"price": 5, "by": "alice"}, {"price": 0}]


async def test_hooks_of_a_room_run_one_at_a_time_whatever_they_await() -> None:
    live = application()

    @live.room("counter:{name}")
    class Counter(Room):
        async def on_message(self, session: RoomSession, data: int) -> None:
            before = await self.store.get("n", 0)
            await asyncio.sleep(0.001)
            await self.store.put("n", before + data)

    async with live.test_client("alice") as alice, live.test_client("bob") as bob:
        for client in (alice, bob):
            await client.subscribe("counter:a")
        await asyncio.gather(*(client.publish("counter:a", 1) for client in (alice, bob) for _ in range(20)))
        assert msgspec.msgpack.decode((await live._rooms._store.get("counter:a", ["n"]))["n"]) == 40


class Fragile(Room):
    """Does what it is told, and fails as it is told."""

    async def on_start(self) -> None:
        self.value = await self.store.get("value", "new")

    async def on_join(self, session: RoomSession) -> None:
        await session.send(self.value)

    async def on_message(self, session: RoomSession, data: dict[str, str]) -> None:
        self.value = data["value"]
        await self.broadcast(self.value)
        if data.get("write", "yes") == "yes":
            await self.store.put("value", self.value)
            await self.set_alarm(0)
        if data.get("fail") == "raise":
            raise RuntimeError("fragile")
        if data.get("fail") == "refuse":
            raise Refusal(1001, "not that")
        if data.get("fail") == "wait":
            await asyncio.Event().wait()


@pytest.mark.parametrize(("fail", "code"), [("raise", 100), ("refuse", 1001)])
async def test_of_a_hook_that_raises_nothing_is_kept_nothing_goes_out_and_the_room_begins_anew(
    fail: str, code: int
) -> None:
    live = application()
    live.room("r:{name}")(Fragile)
    async with live.test_client("alice") as alice, live.test_client("bob") as bob:
        await alice.subscribe("r:a")
        assert await received(alice) == "new"
        await alice.publish("r:a", {"value": "one"})
        assert await received(alice) == "one"
        with pytest.raises(Refusal) as refusal:
            await alice.publish("r:a", {"value": "two", "fail": fail})
        assert refusal.value.code == code
        await alice.expect_nothing()
        await bob.subscribe("r:a")
        assert await received(bob) == "one"
        await bob.publish("r:a", {"value": "three"})
        assert await received(alice) == "three", "she is still there"


async def test_a_refusal_before_anything_was_written_leaves_the_room_as_it_is() -> None:
    live = application()
    live.room("r:{name}")(Fragile)
    async with live.test_client("alice") as alice, live.test_client("bob") as bob:
        await alice.subscribe("r:a")
        with pytest.raises(Refusal, match="not that"):
            await alice.publish("r:a", {"value": "in memory", "write": "no", "fail": "refuse"})
        await bob.subscribe("r:a")
        assert await received(bob) == "in memory"


async def test_a_hook_that_does_not_end_is_cancelled_after_its_time_and_the_room_goes_on() -> None:
    live = application(timing=Timing(pong_timeout=0.2))  # by which the wheel turns

    @live.room("r:{name}")
    class Slow(Fragile):
        timeout = 0.5

    async with live.test_client("alice") as alice:
        await alice.subscribe("r:a")
        assert await received(alice) == "new"
        with pytest.raises(Refusal) as refusal:
            await alice.publish("r:a", {"value": "never", "fail": "wait"})
        assert refusal.value.temporary
        await alice.publish("r:a", {"value": "next"})
        assert await received(alice) == "next"


async def test_who_is_refused_does_not_join_and_does_not_leave() -> None:
    live, happened = application(), []

    @live.room("club:{name}")
    class Club(Room):
        async def on_join(self, session: RoomSession, data: Any) -> None:
            if session.claims.get("age", 0) < 18:
                raise Refusal.permission_denied("too young")
            happened.append(("join", session.user, data))

        async def on_leave(self, session: RoomSession) -> None:
            happened.append(("leave", session.user, session.claims["age"]))

    async with live.test_client("alice", age=20) as alice, live.test_client("bob", age=8) as bob:
        with pytest.raises(Refusal, match="too young"):
            await bob.subscribe("club:a")
        await alice.subscribe("club:a", data="hello")
        await alice.unsubscribe("club:a")
        await eventually(lambda: len(happened) == 2)
        await alice.subscribe("club:a")
    assert happened == [
        ("join", "alice", "hello"),
        ("leave", "alice", 20),
        ("join", "alice", None),
        ("leave", "alice", 20),
    ]


async def test_a_room_that_there_is_not_refuses_all_when_it_starts() -> None:
    live = application()

    @live.room("lot:{number}")
    class Lot(Room):
        async def on_start(self) -> None:
            if self.parameters["number"] != "1":
                raise Refusal.unknown_channel("no such lot")

        async def on_join(self, session: RoomSession) -> None:
            await session.send("welcome")

    async with live.test_client("alice") as alice:
        with pytest.raises(Refusal, match="no such lot"):
            await alice.subscribe("lot:2")
        await alice.subscribe("lot:1")
        assert await received(alice) == "welcome"


async def test_a_hook_that_does_not_end_holds_up_the_end_of_the_server_for_a_bounded_time_only() -> None:
    live = application(timing=Timing(close_timeout=0.1))
    begun = asyncio.Event()

    @live.room("r:{name}")
    class Endless(Room):
        async def on_message(self, session: RoomSession, data: Any) -> None:
            begun.set()
            await asyncio.Event().wait()

    async with live.test_client("alice") as alice:
        await alice.subscribe("r:a")
        publishing = asyncio.create_task(alice.publish("r:a", 1))
        await begun.wait()
    with pytest.raises((Disconnect, Refusal, TimeoutError)):
        await publishing
    assert live._rooms.statistics() == (0, 0)
    assert not live._rooms._leases
    assert not live._rooms._work
    assert not live._rooms._errands


async def test_an_idle_room_leaves_memory_and_comes_back_with_what_it_kept_and_its_clients_state(
    clock: ManualClock,
) -> None:
    live, lives = application(clock, idle=30), []

    @live.room("r:{name}")
    class Sleeper(Room):
        async def on_start(self) -> None:
            self.heard = await self.store.get("heard", [])
            lives.append("start")

        async def on_join(self, session: RoomSession) -> None:
            session.state = {"seen": 0}

        async def on_message(self, session: RoomSession, data: str) -> None:
            self.heard.append(data)
            await self.store.put("heard", self.heard)
            session.state = {"seen": session.state["seen"] + 1}
            await self.broadcast([self.heard, session.state])

        async def on_stop(self) -> None:
            lives.append("stop")
            await self.store.put("stopped", True)

    async with live.test_client("alice") as alice:
        await alice.subscribe("r:a")
        await alice.publish("r:a", "one")
        assert await received(alice) == [["one"], {"seen": 1}]
        await clock.advance(20)
        assert awake(live) == 1
        await clock.advance(32)
        assert lives == ["start", "stop"]
        assert live._rooms.statistics() == (0, 0)
        assert not live._rooms._leases
        await alice.publish("r:a", "two")
        assert await received(alice) == [["one", "two"], {"seen": 2}]
        assert lives == ["start", "stop", "start"]
        assert (await live._rooms._store.get("r:a", ["stopped"])) == {"stopped": b"\xc3"}


async def test_a_clients_state_has_a_limit() -> None:
    live, raised = application(), []

    @live.room("r:{name}")
    class Hoarder(Room):
        async def on_join(self, session: RoomSession) -> None:
            assert session.state is None
            try:
                session.state = "x" * 16 * 1024
            except ValueError as why:
                raised.append(str(why))
            session.state = "x" * 16_000

    async with live.test_client() as alice:
        await alice.subscribe("r:a")
    assert raised == ["session.state: at most 16384 bytes, got 16387"]


async def test_a_full_mailbox_refuses_what_comes_and_says_that_it_may_come_again() -> None:
    live, go = application(mailbox=3), asyncio.Event()

    @live.room("r:{name}")
    class Busy(Room):
        async def on_message(self, session: RoomSession, data: Any) -> None:
            await go.wait()

    clients = [live.test_client(f"user{number}") for number in range(5)]
    for client in clients:
        await client.__aenter__()
        await client.subscribe("r:a")
    sent = [asyncio.create_task(client.publish("r:a", 1)) for client in clients]
    await eventually(lambda: sum(task.done() for task in sent) == 2)
    go.set()
    results = await asyncio.gather(*sent, return_exceptions=True)
    refused = [result for result in results if isinstance(result, Refusal)]
    assert [(why.code, why.temporary) for why in refused] == [(111, True)] * 2
    assert results.count(None) == 3
    for client in clients:
        await client.__aexit__(None, None, None)


async def test_the_store_holds_values_of_all_kinds_and_hooks_see_what_they_have_written() -> None:
    live, seen = application(), []

    @live.room("r:{name}")
    class Keeper(Room):
        async def on_message(self, session: RoomSession, data: str) -> None:
            store = self.store
            if data == "write":
                await store.put("bid:1", Bid(5))
                await store.put("bid:2", {"amount": 7, "by": b"\x00"})
                await store.put("other", None)
                seen.append(await store.get("bid:1", type=Bid))
                seen.append(await store.list("bid:"))
                await store.delete("bid:1", "never")
                seen.append(await store.get("bid:1", "gone"))
            elif data == "read":
                seen.append(await store.list())
                seen.append(await store.list("bid:", limit=0))
                await store.put("bid:0", 1)
                await store.delete("other")
                seen.append(await store.list(after="bid:0"))
                await store.clear()
                await store.put("last", 1)
                seen.append((await store.get("bid:2"), await store.list()))
            else:
                for key, value in (("", 1), ("k" * 1025, 1), ("k", "v" * (1 << 20)), ("k", object())):
                    with pytest.raises((ValueError, TypeError)):
                        await store.put(key, value)
                seen.append(await store.list())

    async with live.test_client() as alice:
        await alice.subscribe("r:a")
        for what in ("write", "read", "limits"):
            await alice.publish("r:a", what)
    two = {"amount": 7, "by": b"\x00"}
    assert seen == [
        Bid(5),
        {"bid:1": {"amount": 5}, "bid:2": two},
        "gone",
        {"bid:2": two, "other": None},
        {},
        {"bid:2": two},
        (None, {"last": 1}),
        {"last": 1},
    ]


async def test_a_task_that_a_hook_begins_cannot_use_the_room() -> None:
    live, raised = application(), []

    @live.room("r:{name}")
    class Careless(Room):
        async def on_message(self, session: RoomSession, data: Any) -> None:
            async def later() -> None:
                for use in (self.broadcast(1), self.store.put("k", 1), self.store.get("k"), session.send(1)):
                    try:
                        await use
                    except RuntimeError as why:
                        raised.append(str(why))

            asyncio.get_running_loop().call_later(0.01, lambda: tasks.append(asyncio.ensure_future(later())))

    tasks: list[asyncio.Future[None]] = []
    async with live.test_client() as alice:
        await alice.subscribe("r:a")
        await alice.publish("r:a", 1)
        await eventually(lambda: len(raised) == 4)
    assert all("while they run" in why for why in raised)


async def test_one_client_is_sent_to_has_its_state_changed_and_is_disconnected_by_what_another_says() -> None:
    live = application()

    @live.room("r:{name}")
    class Moderated(Room):
        async def on_start(self) -> None:
            self.first: RoomSession | None = None

        async def on_message(self, session: RoomSession, data: str) -> None:
            if self.first is None:
                self.first = session
            elif data == "mark":
                self.first.state = "marked"
            elif data == "show":
                await session.send(session.state)
            elif data == "send":
                await self.first.send("hello", tags={"event": "greeting"})
            else:
                await self.first.disconnect(Disconnect(4500, "out"))

    async with live.test_client("alice") as alice, live.test_client("bob") as bob:
        for client in (alice, bob):
            await client.subscribe("r:a")
        await alice.publish("r:a", "first")
        await bob.publish("r:a", "mark")
        await alice.publish("r:a", "show")
        assert await received(alice) == "marked"
        await bob.publish("r:a", "send")
        publication = await alice.receive()
        assert (publication.data, publication.tags, publication.offset) == ("hello", {"event": "greeting"}, 0)
        await bob.expect_nothing()
        await bob.publish("r:a", "out")
        assert (await alice.closed()).code == 4500


async def test_what_the_server_publishes_is_no_message_and_goes_out_at_once() -> None:
    live = application()
    live.room("r:{name}")(Fragile)
    async with live.test_client("alice") as alice:
        await alice.subscribe("r:a")
        await received(alice)
        await live.publish("r:a", "from the server")
        assert await received(alice) == "from the server"


async def test_only_subscribers_publish_unless_the_rule_says_otherwise() -> None:
    live = application()
    live.room("r:{name}")(Fragile)
    live.room("open:{name}", publish="client")(Fragile)
    async with live.test_client("alice") as alice, live.test_client("bob") as bob:
        with pytest.raises(Refusal) as refusal:
            await alice.publish("r:a", {"value": "x"})
        assert refusal.value.code == 103
        await bob.subscribe("open:a")
        await alice.publish("open:a", {"value": "x"})
        assert [await received(bob), await received(bob)] == ["new", "x"]


def test_what_cannot_be_a_room_is_refused_when_it_is_registered() -> None:
    live = application()

    class Demanding(Room):
        async def on_join(self, session: RoomSession, mood: str) -> None: ...  # type: ignore[override]

    with pytest.raises(TypeError, match="mood"):
        live.room("r:{name}")(Demanding)
    with pytest.raises(TypeError, match="Room"):
        live.room("r:{name}")(int)  # type: ignore[type-var]
    with pytest.raises(ConfigError, match="delta"):
        live.room("r:{name}", delta=True)(Auction)
    with pytest.raises(ConfigError, match="presence"):
        live.room("r:{name}", join_leave=True)(Auction)


async def test_a_store_that_nobody_knows_is_refused_at_the_start() -> None:
    live = application(store="mongo://")
    live.room("r:{name}")(Auction)
    with pytest.raises(ConfigError, match="no store 'mongo'"):
        async with live.lifespan():
            pass


async def test_an_application_without_rooms_opens_no_store(tmp_path: Path) -> None:
    path = tmp_path / "rooms.db"
    live = application(store=f"sqlite:///{path}")
    async with live.lifespan():
        assert not path.exists()
        with pytest.raises(ConfigError, match="before the application starts"):
            live.room("r:{name}")(Auction)
