"""A node: it starts, drains and stops, leaves nothing running, and says what it holds."""

import asyncio
import logging
from collections.abc import AsyncIterator

import msgspec
import pytest

from freshet.commands.dispatch import Dispatcher
from freshet.config import Config, Timing, Tokens
from freshet.engines.base import Receiver
from freshet.engines.memory import MemoryEngine
from freshet.errors import Disconnect, EngineUnavailable
from freshet.model.commands import Subscribe
from freshet.model.events import Delivery, Message
from freshet.model.log import OLDEST, History, Position, PublishOptions, Stream
from freshet.node.bus import BusMessage
from freshet.node.holding import statistics_of
from freshet.node.node import Node
from freshet.rules.hooks import Hook
from freshet.rules.rules import ChannelRule
from freshet.session.session import Session
from freshet.testing import ManualClock
from tests.tools.clients import soon
from tests.tools.patience import eventually
from tests.tools.sessions import came, code, opened, running, taken

KEEP = History(size=100, ttl=60)
RULES = ChannelRule("log:*", history=KEEP, presence=True), ChannelRule("*")
QUICK = Config(tokens=Tokens(anonymous=True), timing=Timing(close_timeout=0.05, position_check=0.02))


class SharedEngine(MemoryEngine):
    """As one that several nodes share: what is published may be lost on the way. loses: all of it is.

    messages: what was sent to the other nodes. hangs: what reads a log never ends. away: it cannot be reached.
    """

    shared = True

    def __init__(self) -> None:
        super().__init__()
        self.loses = self.away = self.hangs = False
        self.messages: list[bytes] = []

    async def start(self, node: str, receiver: Receiver) -> None:
        if self.away:
            raise EngineUnavailable("away")

        def deliver(event: Delivery) -> None:
            if not self.loses:
                receiver.deliver(event)

        await super().start(node, receiver._replace(deliver=deliver))

    async def history(
        self, channel: str, keep: History, since: Position | None = None, limit: int = -1, reverse: bool = False
    ) -> Stream:
        if self.hangs:
            await asyncio.Event().wait()
        return await super().history(channel, keep, since, limit, reverse)

    async def tell(self, node: str | None, message: bytes) -> None:
        if self.away:
            raise EngineUnavailable("away")
        self.messages.append(message)


@pytest.fixture
def engine() -> SharedEngine:
    return SharedEngine()


@pytest.fixture
async def dispatcher(engine: SharedEngine) -> AsyncIterator[Dispatcher]:
    async with running(*RULES, config=QUICK, engine=engine) as dispatcher:
        yield dispatcher


@pytest.fixture
def node(dispatcher: Dispatcher) -> Node:
    return dispatcher.node


def leftovers(before: set[asyncio.Task[object]]) -> list[str]:
    """The names of the tasks that run now and did not before."""
    return [task.get_name() for task in asyncio.all_tasks() - before]


# ------------------------------------------------------------------------------------------------------------- starting


async def test_a_node_is_ready_when_it_has_started() -> None:
    node = Node(Config(), MemoryEngine())
    states = [node.state]
    await node.start()
    states.append(node.state)
    await node.stop()
    assert [*states, node.state] == ["starting", "ready", "draining"]


async def test_a_node_whose_engine_is_away_does_not_start_and_may_try_again(engine: SharedEngine) -> None:
    node = Node(Config(), engine)
    engine.away = True
    with pytest.raises(EngineUnavailable):
        await node.start()
    states = [node.state]
    engine.away = False
    await node.start()
    assert [*states, node.state] == ["starting", "ready"]
    await node.stop()


async def test_a_node_says_that_it_comes_and_that_it_goes(engine: SharedEngine) -> None:
    async with running(engine=engine) as dispatcher:
        assert [b"join" in message for message in engine.messages] == [True]
        assert dispatcher.node.id.encode() in engine.messages[0]
    assert b"leave" in engine.messages[-1]


@pytest.mark.parametrize("how", ["the node stops", "the node drains", "it is disconnected"])
async def test_what_was_published_before_a_client_is_disconnected_reaches_it_first(node: Node, how: str) -> None:
    """Also without a history, from which it could be read again: nothing is left behind in the turn's fan-out."""
    dispatcher = Dispatcher(node, ())
    alice = await came(dispatcher, "alice", "plain")
    await node.engine.publish("plain", b'"last"', PublishOptions())
    if how == "it is disconnected":
        await alice.disconnect()
    else:
        await (node.stop() if how == "the node stops" else node.drain())
    assert [wire["push"]["pub"]["data"] for wire in taken(alice)] == ["last"]
    assert code(alice) == (3503 if how == "it is disconnected" else 3001)


async def test_nodes_have_names_of_their_own() -> None:
    assert len({Node(Config(), MemoryEngine()).id for _ in range(10)}) == 10


# ------------------------------------------------------------------------------------------------------------- stopping


async def never(*arguments: object) -> bytes:
    await asyncio.Event().wait()
    return b""


async def busy(dispatcher: Dispatcher, engine: SharedEngine) -> list[Session]:
    """Clients of every sort, and work everywhere that does not end by itself."""
    node = dispatcher.node
    sessions = [await came(dispatcher, f"user {number}", "log:a", "quiet") for number in range(5)]
    sessions.append(opened(dispatcher))  # it has not connected
    node.rules.add_first(ChannelRule("slow", on_subscribe=Hook(never, ("session",))))
    sessions[0].do([Subscribe("slow", 9)])
    engine.hangs = True
    node.hub.suspect("")
    sessions[1].do([Subscribe("log:b", 9, recover=OLDEST)])
    node.bus.handlers["never"] = never
    node.bus.receive(msgspec.msgpack.encode(BusMessage("never")))
    await eventually(lambda: all(owner._tasks for owner in (node.hub, node.catch_up._reads, node.bus)))
    return sessions


async def test_after_the_stop_nothing_runs(engine: SharedEngine) -> None:
    before = asyncio.all_tasks()
    async with running(*RULES, config=QUICK, engine=engine) as dispatcher:
        node = dispatcher.node
        await busy(dispatcher, engine)
        assert leftovers(before)
    await asyncio.sleep(0)
    assert leftovers(before) == []
    assert [len(owner._tasks) for owner in (node.hub, node.catch_up._reads, node.bus)] == [0, 0, 0]
    assert len(node.tasks) == 0
    assert node.wheel._timer is None
    assert (node.hub._channels, engine._subscribed, len(node.presence)) == ({}, set(), 0)


async def test_the_stop_ends_every_session_for_now(dispatcher: Dispatcher, node: Node, engine: SharedEngine) -> None:
    sessions = await busy(dispatcher, engine)
    await node.stop()
    assert {code(session) for session in sessions} == {3001}
    assert {session.ended.code for session in sessions if session.ended} == {3001}
    assert all(session.ended for session in sessions)
    assert (list(node.registry), node.registry.users, node.counts.ended) == ([], 0, {3001: 5})


async def test_a_client_gets_what_waits_before_the_server_ends() -> None:
    written: list[object] = []
    async with running(*RULES, config=QUICK) as dispatcher:
        alice = await came(dispatcher, "alice", "log:a")
        alice.outbox.attach(lambda: written.append([*taken(alice), code(alice), alice.ended]))
        alice.push(Message(b"1"))
    assert written[0] == [{"push": {"message": {"data": 1}}}, 3001, None]


async def test_hooks_of_clients_that_leave_at_the_end_have_a_grace(engine: SharedEngine) -> None:
    left: list[str] = []

    async def slowly(session: Session) -> None:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        left.append(session.user)

    async with running(*RULES, config=QUICK, engine=engine) as dispatcher:
        dispatcher.node.hooks.disconnect = Hook(slowly, ("session",))
        for user in ("alice", "bob"):
            await came(dispatcher, user)
    assert sorted(left) == ["alice", "bob"]


async def test_a_hook_that_does_not_end_does_not_keep_the_node(
    engine: SharedEngine, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(*RULES, config=QUICK, engine=engine) as dispatcher:
        dispatcher.node.hooks.disconnect = Hook(never, ("session",))
        await came(dispatcher, "alice", "log:a")
    assert len(dispatcher.node.tasks) == 0
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_nothing_of_the_node_itself_uses_up_the_time_that_hooks_and_clients_have(engine: SharedEngine) -> None:
    patient = Config(tokens=Tokens(anonymous=True), timing=Timing(close_timeout=30))
    async with running(*RULES, config=patient, engine=engine) as dispatcher:
        await came(dispatcher, "alice", "log:a")
        await soon(dispatcher.node.stop())


async def test_a_node_that_has_stopped_may_start_again(dispatcher: Dispatcher, node: Node) -> None:
    await came(dispatcher, "alice", "log:a")
    await node.stop()
    await node.start()
    bob = await came(dispatcher, "bob", "log:a")
    await node.engine.publish("log:a", b"1", PublishOptions(history=KEEP))
    node.turn.end()
    assert [each["push"]["pub"]["offset"] for each in taken(bob)] == [1]


async def test_a_node_whose_engine_has_gone_stops_all_the_same(engine: SharedEngine) -> None:
    before = asyncio.all_tasks()
    async with running(*RULES, config=QUICK, engine=engine) as dispatcher:
        await came(dispatcher, "alice", "log:a")
        engine.away = True
    assert leftovers(before) == []


# ------------------------------------------------------------------------------------------------------------- draining


async def test_a_node_that_drains_disconnects_all_for_now(dispatcher: Dispatcher, node: Node) -> None:
    sessions = [await came(dispatcher, "alice", "log:a"), opened(dispatcher)]
    assert {code(session) for session in sessions} == {None}
    await node.drain()
    assert (node.state, {code(session) for session in sessions}) == ("draining", {3001})
    assert all(Disconnect(code(session) or 0, "").reconnect for session in sessions)


# ------------------------------------------------------------------------------------------------ the position check


async def test_what_was_lost_on_the_way_is_found_in_the_log(
    dispatcher: Dispatcher, node: Node, engine: SharedEngine
) -> None:
    alice = await came(dispatcher, "alice", "log:a")
    engine.loses = True
    for number in (b"1", b"2"):
        await engine.publish("log:a", number, PublishOptions(history=KEEP))
    received: list[int] = []

    def take() -> bool:
        received.extend(each["push"]["pub"]["offset"] for each in taken(alice))
        return len(received) >= 2

    await eventually(take)
    assert (received, node.counts.gaps, code(alice)) == ([1, 2], 1, None)


async def test_what_the_log_has_lost_ends_the_connections(
    dispatcher: Dispatcher, node: Node, engine: SharedEngine
) -> None:
    alice, bob = await came(dispatcher, "alice", "log:a"), await came(dispatcher, "bob", "quiet")
    engine._logs.clear()
    await eventually(lambda: code(alice))
    assert (code(alice), code(bob), node.counts.losses) == (3010, None, 1)


async def test_a_node_announces_itself_now_and_then(dispatcher: Dispatcher, engine: SharedEngine) -> None:
    """Another may have missed that it came."""
    await eventually(lambda: sum(b"join" in message for message in engine.messages) >= 3)


# ------------------------------------------------------------------------------------------------------ what it holds


async def test_a_node_says_what_it_holds(dispatcher: Dispatcher, node: Node) -> None:
    def held() -> tuple[int, int, int, int]:
        it = statistics_of(node.snapshot())
        return it.clients, it.users, it.channels, it.subscriptions

    assert held() == (0, 0, 0, 0)
    one, _ = await came(dispatcher, "alice", "log:a", "quiet"), await came(dispatcher, "alice", "log:a")
    await came(dispatcher, "", "log:a")
    opened(dispatcher)  # no client yet
    assert held() == (3, 1, 2, 4)
    one.end(Disconnect.normal())
    assert held() == (2, 1, 1, 2)
    assert (statistics_of(node.snapshot()).connected, statistics_of(node.snapshot()).slow) == (3, 0)


async def test_a_snapshot_has_all_that_is_counted(freshet_clock: ManualClock) -> None:
    async with running(*RULES, config=QUICK, clock=freshet_clock) as dispatcher:
        node = dispatcher.node
        alice = await came(dispatcher, "alice", "log:a")
        (await came(dispatcher, "bob")).end(Disconnect.no_pong())
        freshet_clock.now += 60
        while node.admission.refused < 3:
            node.admission.wait()
        snapshot = node.snapshot()
        assert (snapshot.state, snapshot.clients, snapshot.users) == ("ready", {("centrifuge", ""): 1}, 1)
        assert (snapshot.channels, snapshot.subscriptions, snapshot.turned_away) == (1, 1, 3)
        assert snapshot.uptime == node.uptime() == 60
        assert snapshot.counts is node.counts
        assert (snapshot.counts.connected, snapshot.counts.ended) == ({("centrifuge", ""): 2}, {3012: 1})
        assert code(alice) is None
