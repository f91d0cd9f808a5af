"""What an application calls, it may call from any thread and any event loop: every method, on every engine."""

import asyncio
import inspect
import itertools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any

import pytest

from freshet import Disconnect, EngineUnavailable, Freshet, NotRunning, Refusal, Room, RoomSession, Run, Session
from freshet.config import Config, Rooms, Timing
from tests.tools.asgi import status
from tests.tools.nats import Nats, nats
from tests.tools.patience import eventually, seconds
from tests.tools.redis import Redis, redis

Call = Callable[..., Awaitable[Any]]
METHODS = sorted(
    name for name, method in inspect.getmembers(Freshet) if inspect.iscoroutinefunction(method) and name[0] != "_"
)
ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "add_to_entry": ("state:a", "n", 1),
    "answer": ("chat:1", "nothing"),
    "broadcast": (["a", "b"], 1),
    "channels": (),
    "disconnect": ("alice",),
    "drain": (),
    "emit": ("price", 1),
    "entries": ("state:a",),
    "history": ("a",),
    "messages": ("chat:1",),
    "presence": ("a",),
    "publish": ("a", 1),
    "refresh": ("alice",),
    "remove_history": ("a",),
    "remove_entry": ("state:a", "k"),
    "resume": ("chat:1", "r1"),
    "revoke": ("nobody",),
    "set_entry": ("state:a", "k", 1),
    "start": ("chat:1", 1),
    "steer": ("chat:1", 1),
    "stop": ("chat:1",),
    "subscribe": ("alice", "a"),
    "unsubscribe": ("alice", "a"),
}
_numbers = itertools.count()


@pytest.fixture(scope="module")
def redis_server() -> Iterator[Redis]:
    with redis() as server:
        yield server


@pytest.fixture(scope="module")
def nats_server() -> Iterator[Nats]:
    with nats() as server:
        yield server


@pytest.fixture(params=["memory", "sqlite", "redis", "nats"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty one."""
    if request.param == "redis":
        server = request.getfixturevalue("redis_server")
        server.cli("FLUSHALL")
        return str(server.url)
    if request.param == "nats":
        return f"{request.getfixturevalue('nats_server').url}?prefix=threads{next(_numbers)}&storage=memory"
    return {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path}/freshet.db"}[request.param]


async def in_a_thread(function: Callable[[], Any]) -> Any:
    """In one of its own, so that another that never ends does not keep this one from running."""
    with ThreadPoolExecutor(1) as pool:
        return await asyncio.wrap_future(pool.submit(function))


def in_the_same_loop(live: Freshet) -> Call:
    return lambda name, *given, **named: getattr(live, name)(*given, **named)


def in_a_loop_of_a_thread(live: Freshet) -> Call:
    return lambda name, *given, **named: in_a_thread(lambda: asyncio.run(getattr(live, name)(*given, **named)))


def without_await(live: Freshet) -> Call:
    return lambda name, *given, **named: in_a_thread(lambda: getattr(live.sync, name)(*given, **named))


WAYS = [in_the_same_loop, in_a_loop_of_a_thread, without_await]
AWAY = WAYS[1:]


@pytest.fixture
async def live() -> AsyncIterator[Freshet]:
    live = Freshet(dev=True, environment={})
    async with live.lifespan():
        yield live


def with_runs(live: Freshet) -> None:
    @live.run("chat:{chat}")
    async def wait(run: Run, message: int) -> None:
        await run.steering(wait=True)
        await run.write("steered")
        await run.flush()
        await asyncio.Event().wait()


async def use_runs(call: Call) -> None:
    assert (await call("start", "chat:1", 1, id="r1")).state == "running"
    await call("steer", "chat:1", "more")
    with pytest.raises(Refusal, match="nothing waits"):
        await call("answer", "chat:1", "nothing")
    with pytest.raises(Refusal, match="could be resumed"):
        await call("resume", "chat:1", "r1")
    assert (await call("stop", "chat:1")).state == "stopped"
    question, answer = await call("messages", "chat:1")
    assert (question["id"], answer["id"]) == ("r1:ask", "r1")


async def use_state(call: Call) -> None:
    assert await call("set_entry", "state:a", "k", 1)
    assert await call("add_to_entry", "state:a", "k", 2) == 3
    assert await call("entries", "state:a") == {"k": 3}
    assert await call("remove_entry", "state:a", "k")


@pytest.mark.parametrize("way", WAYS)
async def test_every_method_does_the_same_wherever_it_is_called(
    way: Callable[[Freshet], Call], engine: str, tmp_path: Path
) -> None:
    store = f"sqlite:///{tmp_path}/rooms.db"
    live = Freshet(dev=True, environment={}, config=Config(engine=engine, rooms=Rooms(store=store)))
    live.channel("bare")
    live.state("state:{name}")
    with_runs(live)
    called, make = set(), way(live)

    def call(name: str, *given: Any, **named: Any) -> Awaitable[Any]:
        called.add(name)
        return make(name, *given, **named)

    async with live.lifespan(), live.test_client("bob") as bob, live.test_client("alice") as alice:
        await bob.subscribe("a")
        assert (await call("publish", "a", 1, tags={"n": "1"})).offset == 1
        assert (await bob.receive()).tags == {"n": "1"}
        await call("subscribe", "alice", "a")
        await alice.event("subscribe")
        assert [it.offset for it in await call("broadcast", (name for name in ["a"]), 2)] == [2]
        assert (await alice.receive()).data == 2
        assert (await call("emit", "price", 3, room="a")).offset == 3
        assert (await alice.receive()).tags["event"] == "price"
        assert [it.data for it in (await call("history", "a", limit=2)).publications] == [b"1", b"2"]
        assert set(await call("presence", "a")) == {alice.id, bob.id}
        assert await call("channels", "?") == {"a": 2}
        await use_state(call)
        await call("unsubscribe", "alice", "a")
        await alice.event("unsubscribe")
        await call("refresh", "alice")
        await call("remove_history", "a")
        assert (await call("history", "a")).publications == []
        with pytest.raises(Refusal, match="keeps no history") as refusal:
            await call("history", "bare")
        assert refusal.value.code == 108
        await use_runs(call)
        await call("disconnect", "alice")
        assert (await alice.closed()).code == 3503
        await call("revoke", "alice")
        with pytest.raises(Disconnect, match="revoked"):
            await alice.connect()
        assert [(await bob.receive()).data for _ in range(2)] == [2, 3]
        await live.publish("a", "in the loop")
        assert (await bob.receive()).data == "in the loop"
        await call("drain")
        assert (await bob.closed()).code == 3001
    assert sorted(called) == METHODS == sorted(ARGUMENTS)


@pytest.mark.parametrize("way", AWAY)
async def test_what_many_threads_publish_arrives_once_and_in_order(way: Callable[[Freshet], Call], engine: str) -> None:
    live = Freshet(dev=True, environment={}, config=Config(engine=engine))
    call = way(live)
    async with live.lifespan(), live.test_client("alice") as alice:
        await alice.subscribe("a")

        async def publish(thread: int) -> list[int]:
            return [(await call("publish", "a", [thread, number])).offset for number in range(10)]

        offsets = await asyncio.gather(*(publish(thread) for thread in range(4)))
        await live.publish("a", "the last")
        received = [await alice.receive(within=seconds(5)) for _ in range(41)]
    assert [it.offset for it in received] == list(range(1, 42))
    assert sorted(itertools.chain(*offsets)) == list(range(1, 41))
    assert received[-1].data == "the last"
    for thread in range(4):
        assert [it.data[1] for it in received[:-1] if it.data[0] == thread] == list(range(10))


@pytest.mark.parametrize("name", METHODS)
async def test_before_the_start_and_after_the_end_every_method_says_that_freshet_does_not_run(name: str) -> None:
    live = Freshet(dev=True, environment={})
    for _ in range(2):
        for way in WAYS:
            with pytest.raises(NotRunning, match="pass lifespan="):
                await way(live)(name, *ARGUMENTS[name])
        async with live.lifespan():
            pass


@pytest.mark.parametrize("name", METHODS)
async def test_in_the_event_loop_a_method_that_waits_raises_instead_of_waiting_for_itself(
    name: str, live: Freshet
) -> None:
    with pytest.raises(RuntimeError, match="await"):
        getattr(live.sync, name)(*ARGUMENTS[name])


async def test_calls_that_cannot_be_served_are_logged_at_a_bounded_rate(
    live: Freshet, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "freshet"):
        for _ in range(5):
            with pytest.raises(RuntimeError):
                live.sync.publish("a", 1)
    assert caplog.text.count("live.sync would block the event loop") == 1


# ---------------------------------------------------------------------------------------------------- while they wait


class Held:
    """A method of the engine that does not answer before it may."""

    def __init__(self) -> None:
        self.begun, self.cancelled = asyncio.Event(), asyncio.Event()

    async def __call__(self, *arguments: Any) -> Any:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


@pytest.fixture
def held(live: Freshet, monkeypatch: pytest.MonkeyPatch) -> Held:
    held = Held()
    monkeypatch.setattr(live._node.engine, "history", held)
    return held


async def test_a_caller_in_another_loop_that_is_cancelled_cancels_what_it_began(live: Freshet, held: Held) -> None:
    loop = asyncio.get_running_loop()

    async def elsewhere() -> None:
        call = asyncio.create_task(live.history("a"))
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(held.begun.wait(), loop))
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    await in_a_thread(lambda: asyncio.run(elsewhere()))
    await asyncio.wait_for(held.cancelled.wait(), seconds(5))


async def test_one_that_is_cancelled_at_once_begins_nothing(live: Freshet, held: Held) -> None:
    async def elsewhere() -> None:
        call = asyncio.create_task(live.history("a"))
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        call = asyncio.create_task(live.history("a"))
        await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    # The loop is kept from beginning it until it was cancelled.
    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: asyncio.run(elsewhere())).result()
    await asyncio.sleep(0)
    assert not held.begun.is_set()


@pytest.mark.parametrize("way", AWAY)
async def test_what_waits_when_freshet_stops_is_not_left_waiting(
    way: Callable[[Freshet], Call], monkeypatch: pytest.MonkeyPatch
) -> None:
    live = Freshet(dev=True, environment={}, config=Config(timing=Timing(close_timeout=0.01)))
    held = Held()
    async with live.lifespan():
        monkeypatch.setattr(live._node.engine, "history", held)
        call = asyncio.ensure_future(way(live)("history", "a"))
        await asyncio.wait_for(held.begun.wait(), seconds(5))
    with pytest.raises(NotRunning, match="nobody knows"):
        await call


@pytest.mark.parametrize("way", WAYS)
async def test_an_engine_that_is_away_is_the_same_error_everywhere(
    way: Callable[[Freshet], Call], live: Freshet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*arguments: Any) -> Any:
        raise EngineUnavailable("gone")

    monkeypatch.setattr(live._node.engine, "publish_now", away)
    with pytest.raises(EngineUnavailable, match="gone"):
        await way(live)("publish", "a", 1)


# ------------------------------------------------------------------------------------------------------------ listening


async def _three(live: Freshet, channel: str) -> list[bytes]:
    """What comes first, and then who listened is gone."""
    got: list[bytes] = []
    async with aclosing(live.listen(channel)) as publications:
        async for publication in publications:
            got.append(publication.data)
            if len(got) == 3:
                break
    return got


def _three_without_await(live: Freshet, channel: str) -> list[bytes]:
    with closing(live.sync.listen(channel)) as publications:
        return [publication.data for publication, _ in zip(publications, range(3), strict=False)]


def listens_here(live: Freshet, channel: str) -> Awaitable[list[bytes]]:
    return _three(live, channel)


def listens_in_a_loop_of_a_thread(live: Freshet, channel: str) -> Awaitable[list[bytes]]:
    return in_a_thread(lambda: asyncio.run(_three(live, channel)))


def listens_without_await(live: Freshet, channel: str) -> Awaitable[list[bytes]]:
    return in_a_thread(lambda: _three_without_await(live, channel))


LISTENS = [listens_here, listens_in_a_loop_of_a_thread, listens_without_await]
Listens = Callable[[Freshet, str], Awaitable[list[bytes]]]


async def test_an_application_listens_wherever_it_does(engine: str) -> None:
    live = Freshet(dev=True, environment={}, config=Config(engine=engine))
    async with live.lifespan():
        listening = [asyncio.ensure_future(listens(live, "a")) for listens in LISTENS]
        await eventually(lambda: live._node.hub.channels().get("a") == len(LISTENS))
        for number in range(4):
            await live.publish("a", number)
        assert await asyncio.gather(*listening) == [[b"0", b"1", b"2"]] * len(LISTENS)
        await eventually(lambda: "a" not in live._node.hub.channels(), 5, "who listened to be gone")


@pytest.mark.parametrize("listens", LISTENS)
async def test_who_listens_learns_that_the_node_ends_or_does_not_run(listens: Listens) -> None:
    live = Freshet(dev=True, environment={})
    async with live.lifespan():
        listening = asyncio.ensure_future(listens(live, "a"))
        await eventually(lambda: live._node.hub.channels().get("a"))
    with pytest.raises((Disconnect, NotRunning)):
        await listening
    with pytest.raises(NotRunning):
        await listens(live, "a")


async def test_who_listens_in_another_loop_and_is_cancelled_leaves_nothing_behind(live: Freshet) -> None:
    loop, hub = asyncio.get_running_loop(), live._node.hub

    async def elsewhere() -> None:
        listening = asyncio.create_task(_three(live, "a"))
        there = asyncio.run_coroutine_threadsafe(eventually(lambda: hub.channels().get("a")), loop)
        await asyncio.wrap_future(there)
        listening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await listening

    await in_a_thread(lambda: asyncio.run(elsewhere()))
    await eventually(lambda: "a" not in hub.channels(), 5, "who listened to be gone")


async def test_what_a_node_holds_is_counted_in_its_loop_whoever_asks(
    live: Freshet, monkeypatch: pytest.MonkeyPatch
) -> None:
    loops: list[bool] = []
    snapshot = live._node.snapshot
    monkeypatch.setattr(live._node, "snapshot", lambda: loops.append(live._node.portal.is_here()) or snapshot())
    async with live.test_client("alice"):
        assert (await in_a_thread(live.statistics)).clients == live.statistics().clients == 1
    assert loops == [True, True]


async def test_a_room_is_not_used_in_a_thread_of_its_hook_and_says_so() -> None:
    live, refused = Freshet(dev=True, environment={}), list[str]()

    @live.room("room:{name}")
    class Busy(Room):
        async def on_message(self, session: RoomSession, data: Any) -> None:
            uses: list[Callable[[], Any]] = [
                lambda: self.store.get("key"),
                lambda: self.store.put("key", 1),
                lambda: self.broadcast("from a thread"),
                lambda: session.send("from a thread"),
                self.sessions,
            ]
            for use in uses:
                try:
                    await in_a_thread(lambda use=use: asyncio.run(use()))
                except RuntimeError as why:
                    refused.append(str(why))
            await self.broadcast("from the hook")

    async with live.test_client("alice") as alice:
        await alice.subscribe("room:a")
        await alice.publish("room:a", "work")
        assert (await alice.receive()).data == "from the hook"
    assert len(refused) == 5
    assert all("event loop" in each for each in refused)


# ------------------------------------------------------------------------------------------------------------ sessions


async def test_a_session_may_be_used_from_another_loop(live: Freshet) -> None:
    sessions: list[Session] = []
    live.on_connect(sessions.append)

    def elsewhere(work: Callable[[], Any]) -> Awaitable[Any]:
        return in_a_thread(lambda: asyncio.run(work()))

    async with live.test_client("alice") as alice:
        [session] = sessions
        await elsewhere(lambda: session.join("a"))
        assert (await alice.event("subscribe")).channel == "a"
        await live.publish("a", 1)
        assert (await alice.receive()).data == 1
        await elsewhere(lambda: session.leave("a"))
        await alice.event("unsubscribe")
        await elsewhere(lambda: session.disconnect(Disconnect(4000, "as you wish")))
        assert (await alice.closed()).code == 4000


async def test_what_belongs_to_the_loop_alone_is_refused_elsewhere_and_changes_nothing(live: Freshet) -> None:
    sessions: list[Session] = []
    live.on_connect(sessions.append)
    async with live.test_client("alice") as alice:
        [session] = sessions
        await eventually(lambda: not live._node.turn.scheduled)
        with pytest.raises(RuntimeError, match="another event loop"):
            await in_a_thread(lambda: session.close(Disconnect.expired()))
        assert session.outbox.closed is None
        await alice.subscribe("a")
        await live.publish("a", 1)
        assert (await alice.receive()).data == 1


# ------------------------------------------------------------------------------------------------- one loop at a time


async def test_a_request_in_another_loop_is_refused_as_long_as_freshet_runs_in_one(live: Freshet) -> None:
    with pytest.raises(RuntimeError, match="another event loop"):
        await in_a_thread(lambda: asyncio.run(status(live)))


def test_when_its_loop_is_gone_without_an_end_it_starts_again_in_the_next() -> None:
    live = Freshet(dev=True, environment={})

    async def used() -> int:
        assert await status(live) == 404
        async with live.test_client("alice") as alice:
            await alice.subscribe("a")
            offset = (await live.publish("a", 1)).offset
            assert (await alice.receive()).offset == offset
        return offset

    assert [asyncio.run(used()) for _ in range(3)] == [1, 2, 3]
    with pytest.raises(NotRunning):
        live.sync.publish("a", 1)
