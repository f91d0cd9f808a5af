"""Presence of a node's clients: renewed for many by one call of the engine, and gone with those who leave."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence

import pytest

from freshet.commands.dispatch import Dispatcher
from freshet.config import Config, Timing, Tokens
from freshet.engines.base import Present
from freshet.engines.memory import MemoryEngine
from freshet.errors import Disconnect, EngineUnavailable
from freshet.model.log import ClientInfo
from freshet.node import presence as module
from freshet.node.node import Node
from freshet.rules.rules import ChannelRule
from freshet.session.session import Session
from freshet.testing import ManualClock
from tests.tools.patience import eventually
from tests.tools.sessions import came, running

TTL = 60.0
QUIET = Timing(presence_ttl=TTL, ping_interval=3600)  # so that nothing but presence happens as time goes


class CountingEngine(MemoryEngine):
    """renewals: how many clients each call renewed; sets: the calls for one. away: none of them succeeds.

    hold: renewals wait until `go`, and are carried out then.
    """

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(TTL, clock)
        self.renewals: list[int] = []
        self.sets = 0
        self.away = self.hold = False
        self.go = asyncio.Event()

    async def renew_presence(self, present: Sequence[Present]) -> None:
        self.renewals.append(len(present))
        if self.hold:
            await self.go.wait()
        if self.away:
            raise EngineUnavailable("away")
        for channel, client, info in present:
            await super().set_presence(channel, client, info)

    async def set_presence(self, channel: str, client: str, info: ClientInfo | None) -> None:
        self.sets += 1
        if self.away:
            raise EngineUnavailable("away")
        await super().set_presence(channel, client, info)


@pytest.fixture
def engine(freshet_clock: ManualClock) -> CountingEngine:
    return CountingEngine(freshet_clock)


@pytest.fixture
async def dispatcher(freshet_clock: ManualClock, engine: CountingEngine) -> AsyncIterator[Dispatcher]:
    config = Config(tokens=Tokens(anonymous=True), timing=QUIET)
    rules = ChannelRule("seen:*", presence=True), ChannelRule("*")
    async with running(*rules, config=config, engine=engine, clock=freshet_clock) as dispatcher:
        yield dispatcher


@pytest.fixture
def node(dispatcher: Dispatcher) -> Node:
    return dispatcher.node


async def present(engine: CountingEngine, channel: str = "seen:a") -> set[str]:
    return set(await engine.presence(channel))


async def crowd(dispatcher: Dispatcher, number: int) -> list[Session]:
    """So many clients in `seen:a`, who came at the same time."""
    return [await came(dispatcher, f"user {index}", "seen:a") for index in range(number)]


async def test_many_clients_are_renewed_by_one_call(
    dispatcher: Dispatcher, engine: CountingEngine, freshet_clock: ManualClock
) -> None:
    sessions = await crowd(dispatcher, 30)
    engine.sets = 0
    await freshet_clock.advance(TTL * 0.6)
    assert (engine.renewals, engine.sets) == ([30], 0)
    await freshet_clock.advance(TTL * 10)
    assert set(engine.renewals) == {30}
    assert 18 <= len(engine.renewals) <= 22  # each half of the time
    assert await present(engine) == {session.id for session in sessions}
    assert len(dispatcher.node.presence) == 30


async def test_more_than_one_call_may_take_are_renewed_by_several(
    dispatcher: Dispatcher, engine: CountingEngine, freshet_clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 8)
    sessions = await crowd(dispatcher, 20)
    await freshet_clock.advance(TTL * 0.6)
    assert engine.renewals == [8, 8, 4]
    await freshet_clock.advance(TTL)
    assert await present(engine) == {session.id for session in sessions}


async def test_only_those_who_are_due_are_renewed(
    dispatcher: Dispatcher, engine: CountingEngine, freshet_clock: ManualClock
) -> None:
    early = await came(dispatcher, "early", "seen:a", "seen:b")
    await freshet_clock.advance(TTL / 4)
    late = await came(dispatcher, "late", "seen:a")
    await freshet_clock.advance(TTL / 4 + 2)
    assert engine.renewals == [2]
    await freshet_clock.advance(TTL / 4)
    assert engine.renewals == [2, 1]
    assert await present(engine) == {early.id, late.id}
    assert await present(engine, "seen:b") == {early.id}


async def test_those_without_presence_are_not_there(dispatcher: Dispatcher, engine: CountingEngine, node: Node) -> None:
    await came(dispatcher, "alice", "quiet")
    assert (await present(engine, "quiet"), len(node.presence), engine.sets) == (set(), 0, 0)


async def test_when_all_have_left_nothing_is_renewed_and_the_next_is_again(
    dispatcher: Dispatcher, engine: CountingEngine, node: Node, freshet_clock: ManualClock
) -> None:
    alice, bob = await crowd(dispatcher, 2)
    await alice.leave("seen:a")
    bob.end(Disconnect.normal())
    assert (len(node.presence), node.presence.slot) == (0, -1)  # it is not visited any more
    await freshet_clock.advance(TTL * 3)
    assert (engine.renewals, await present(engine)) == ([], set())
    again = await came(dispatcher, "alice", "seen:a")
    await freshet_clock.advance(TTL * 3)
    assert await present(engine) == {again.id}


@pytest.mark.parametrize("how", ["leaves", "ends"])
async def test_one_that_leaves_while_its_renewal_is_under_way_does_not_come_back(
    dispatcher: Dispatcher, engine: CountingEngine, node: Node, freshet_clock: ManualClock, how: str
) -> None:
    """Its removal may reach the engine before the renewal does."""
    stays, goes = await crowd(dispatcher, 2)
    engine.hold = True
    await freshet_clock.advance(TTL * 0.6)
    assert engine.renewals == [2]
    if how == "leaves":
        await goes.leave("seen:a")
    else:
        goes.end(Disconnect.normal())
    await eventually(lambda: goes.id not in engine._presence["seen:a"])
    engine.go.set()
    await eventually(lambda: not len(node.tasks))
    assert await present(engine) == {stays.id}
    await freshet_clock.advance(TTL * 3)
    assert await present(engine) == {stays.id}


async def test_a_renewal_that_takes_long_is_not_begun_twice(
    dispatcher: Dispatcher, engine: CountingEngine, freshet_clock: ManualClock
) -> None:
    [alice] = await crowd(dispatcher, 1)
    engine.hold = True
    await freshet_clock.advance(TTL * 0.6)
    bob = await came(dispatcher, "bob", "seen:a")
    await freshet_clock.advance(TTL * 0.6)
    assert engine.renewals == [1]
    engine.hold = False
    engine.go.set()
    await freshet_clock.advance(2)
    assert engine.renewals[1:]
    assert await present(engine) == {alice.id, bob.id}


async def test_an_engine_that_is_away_when_they_are_due_has_them_as_soon_as_it_is_back(
    dispatcher: Dispatcher,
    engine: CountingEngine,
    freshet_clock: ManualClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    sessions = await crowd(dispatcher, 3)
    engine.away = True
    await freshet_clock.advance(TTL * 0.6)
    assert caplog.records
    assert {(record.levelno, record.getMessage()) for record in caplog.records} == {
        (logging.WARNING, "presence: renewal did not succeed: away")
    }
    engine.away = False
    for _ in range(round(TTL * 2)):
        await freshet_clock.advance(1)
        assert await present(engine) == {session.id for session in sessions}  # they are never taken for gone


async def test_an_engine_that_fails_late_has_them_as_soon_as_it_is_back(
    dispatcher: Dispatcher, engine: CountingEngine, node: Node, freshet_clock: ManualClock
) -> None:
    sessions = await crowd(dispatcher, 3)
    engine.hold = engine.away = True
    await freshet_clock.advance(TTL * 0.6)
    engine.go.set()
    await eventually(lambda: not len(node.tasks))
    engine.away = False
    for _ in range(round(TTL * 2)):
        await freshet_clock.advance(1)
        assert await present(engine) == {session.id for session in sessions}


async def test_who_enters_while_the_engine_is_away_is_told_and_not_renewed(
    dispatcher: Dispatcher, engine: CountingEngine, node: Node, freshet_clock: ManualClock
) -> None:
    alice = await came(dispatcher, "alice")
    engine.away = True
    with pytest.raises(EngineUnavailable):
        await alice.join("seen:a")
    engine.away = False
    await freshet_clock.advance(TTL * 2)
    assert (len(node.presence), engine.renewals, await present(engine)) == (0, [], set())


async def test_who_left_while_the_engine_was_away_is_gone_when_the_presence_time_is_over(
    dispatcher: Dispatcher, engine: CountingEngine, freshet_clock: ManualClock
) -> None:
    stays, goes = await crowd(dispatcher, 2)
    engine.away = True
    goes.end(Disconnect.normal())
    await freshet_clock.advance(1)
    engine.away = False
    assert await present(engine) == {stays.id, goes.id}
    await freshet_clock.advance(TTL)
    assert await present(engine) == {stays.id}


# ------------------------------------------------------------------------------------------------ leaves and comes back


class GateEngine(CountingEngine):
    """waits: calls that let a client leave, or renew it, wait until `go`."""

    waits = False

    async def set_presence(self, channel: str, client: str, info: ClientInfo | None) -> None:
        if self.waits and info is None:
            await self.go.wait()
        await super().set_presence(channel, client, info)


async def test_who_comes_back_while_the_engine_has_not_let_it_leave_yet_is_there(freshet_clock: ManualClock) -> None:
    engine = GateEngine(freshet_clock)
    async with running(ChannelRule("seen:*", presence=True), engine=engine, clock=freshet_clock) as dispatcher:
        [alice] = await crowd(dispatcher, 1)
        engine.waits = True
        leaving = asyncio.create_task(alice.leave("seen:a"))
        await asyncio.sleep(0)
        coming = asyncio.create_task(alice.join("seen:a"))
        await asyncio.sleep(0)
        engine.go.set()
        await asyncio.gather(leaving, coming)
        assert (list(alice.subscriptions), await present(engine)) == (["seen:a"], {alice.id})


async def test_who_leaves_and_comes_back_while_its_renewal_is_under_way_is_there(
    dispatcher: Dispatcher, engine: CountingEngine, freshet_clock: ManualClock
) -> None:
    [alice] = await crowd(dispatcher, 1)
    engine.hold = True
    await freshet_clock.advance(TTL * 0.6)
    await alice.leave("seen:a")
    await alice.join("seen:a")
    engine.hold = False
    engine.go.set()
    await eventually(lambda: not len(dispatcher.node.tasks))
    assert await present(engine) == {alice.id}


async def test_a_session_that_has_the_id_of_one_that_ends_stays_there(
    dispatcher: Dispatcher, engine: CountingEngine, node: Node
) -> None:
    [before] = await crowd(dispatcher, 1)
    after = await came(dispatcher, "user 0")
    after.id = before.id  # as one that resumes
    await after.join("seen:a")
    before.end(Disconnect.normal())
    await eventually(lambda: not len(node.tasks))
    assert (await present(engine), len(node.presence)) == ({after.id}, 1)
