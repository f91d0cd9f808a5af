"""A client leaves a channel, or for good: no trace stays, and the hook runs when all have let go of it."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from freshet.commands.dispatch import Dispatcher
from freshet.dialects.centrifuge.json import Centrifuge
from freshet.engines.memory import MemoryEngine
from freshet.errors import Disconnect, EngineUnavailable
from freshet.model.events import Unsubscribed
from freshet.model.frame import Frame
from freshet.model.log import ClientInfo
from freshet.node.node import Node
from freshet.rules.hooks import Hook
from freshet.rules.rules import ChannelRule
from freshet.session.session import Session
from tests.tools.patience import eventually
from tests.tools.sessions import HERE, ask, came, opened, running, taken


class Fragile(MemoryEngine):
    """away: nobody's presence can be set or removed."""

    away = False

    async def set_presence(self, channel: str, client: str, info: ClientInfo | None) -> None:
        if self.away:
            raise EngineUnavailable("away")
        await super().set_presence(channel, client, info)


@pytest.fixture
def engine() -> Fragile:
    return Fragile()


@pytest.fixture
async def dispatcher(engine: Fragile) -> AsyncIterator[Dispatcher]:
    rules = ChannelRule("seen:*", presence=True, join_leave=True), ChannelRule("*")
    async with running(*rules, engine=engine) as dispatcher:
        yield dispatcher


@pytest.fixture
def node(dispatcher: Dispatcher) -> Node:
    return dispatcher.node


def on_disconnect(node: Node) -> list[tuple[str, int]]:
    """Who has left, and why, as the hook is given it."""
    left: list[tuple[str, int]] = []

    async def note(session: Session, why: Disconnect) -> None:
        left.append((session.user, why.code))

    node.hooks.disconnect = Hook(note, ("session",), ("why",))
    return left


async def test_who_leaves_a_channel_is_forgotten_there_alone(dispatcher: Dispatcher, node: Node) -> None:
    alice, bob = await came(dispatcher, "alice", "seen:a", "b"), await came(dispatcher, "bob", "seen:a")
    node.turn.end()
    for session in (alice, bob):
        taken(session)
    subscription = alice.subscriptions["seen:a"]
    assert await node.leaving.unsubscribe(alice, "seen:a", None) is subscription
    assert (list(alice.subscriptions), node.hub.channels()) == (["b"], {"b": 1, "seen:a": 1})
    assert list(await node.engine.presence("seen:a")) == [bob.id]
    node.turn.end()
    assert taken(alice) == []  # it asked for that, and gets its reply from the command
    assert [event["push"]["leave"]["info"]["user"] for event in taken(bob)] == ["alice"]


async def test_who_is_not_there_cannot_leave(dispatcher: Dispatcher, node: Node) -> None:
    alice = await came(dispatcher, "alice")
    assert await node.leaving.unsubscribe(alice, "seen:a", Unsubscribed("seen:a")) is None
    assert taken(alice) == []


async def test_who_did_not_ask_to_leave_is_notified(dispatcher: Dispatcher, node: Node) -> None:
    alice = await came(dispatcher, "alice", "b")
    await node.leaving.unsubscribe(alice, "b", Unsubscribed("b", 2500, "moved"))
    assert taken(alice) == [{"push": {"channel": "b", "unsubscribe": {"code": 2500, "reason": "moved"}}}]


async def test_a_client_that_is_gone_leaves_no_trace(dispatcher: Dispatcher, node: Node) -> None:
    left = on_disconnect(node)
    alice, bob = await came(dispatcher, "alice", "seen:a", "b"), await came(dispatcher, "bob", "seen:a")
    node.turn.end()
    taken(bob)
    alice.end(Disconnect.no_pong())
    assert (node.hub.channels(), node.registry.of("alice"), len(node.presence)) == ({"seen:a": 1}, [], 1)
    await eventually(lambda: left)
    assert left == [("alice", 3012)]
    assert list(await node.engine.presence("seen:a")) == [bob.id]
    assert node.counts.ended == {3012: 1}
    node.turn.end()
    assert [event["push"]["leave"]["info"]["user"] for event in taken(bob)] == ["alice"]
    alice.end(Disconnect.normal())
    await eventually(lambda: not len(node.tasks))
    assert (len(left), node.counts.ended) == (1, {3012: 1})  # it ends once


async def test_a_client_that_never_connected_is_nobody_who_left(dispatcher: Dispatcher, node: Node) -> None:
    left = on_disconnect(node)
    session = opened(dispatcher)
    session.end(Disconnect.stale())
    await eventually(lambda: not len(node.tasks))
    assert (left, node.counts.ended, len(node.registry)) == ([], {}, 0)


async def test_a_client_with_neither_presence_nor_a_hook_costs_no_task(dispatcher: Dispatcher, node: Node) -> None:
    alice = await came(dispatcher, "alice", "b")
    await eventually(lambda: not len(node.tasks))
    alice.end(Disconnect.normal())
    assert (len(node.tasks), node.hub.channels()) == (0, {})


async def test_the_hook_runs_also_while_the_engine_is_away(
    dispatcher: Dispatcher, node: Node, engine: Fragile, caplog: pytest.LogCaptureFixture
) -> None:
    left = on_disconnect(node)
    alice = await came(dispatcher, "alice", "seen:a")
    engine.away = True
    alice.end(Disconnect.normal())
    await eventually(lambda: not len(node.tasks))
    assert left == [("alice", 3000)]
    [record] = caplog.records
    assert (record.levelno, record.getMessage()) == (logging.WARNING, "session: end did not succeed: away")


async def test_a_hook_that_fails_is_logged_and_nobody_else_notices(
    dispatcher: Dispatcher, node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(session: Session) -> None:
        raise ValueError(session.user)

    node.hooks.disconnect = Hook(fail, ("session",))
    alice, bob = await came(dispatcher, "alice", "seen:a"), await came(dispatcher, "bob", "seen:a")
    alice.end(Disconnect.normal())
    await eventually(lambda: caplog.records)
    [record] = caplog.records
    assert (record.getMessage(), record.exc_info is not None) == ("session: end failed", True)
    assert list(await node.engine.presence("seen:a")) == [bob.id]
    assert "error" not in await ask(bob, "ping")


class Own(Session):
    """A session whose endpoint has a hook of its own."""

    __slots__ = ()

    @property
    def on_disconnect(self) -> Hook | None:
        hook: Hook = self.record
        return hook


async def test_the_hook_of_an_endpoint_comes_before_the_one_of_all(dispatcher: Dispatcher, node: Node) -> None:
    left, own = on_disconnect(node), list[Any]()

    def note(session: Session) -> None:
        own.append(session)

    session = dispatcher.open(Centrifuge(), HERE, kind=Own, record=Hook(note, ("session",)))
    await ask(session, "connect")
    session.end(Disconnect.normal())
    await eventually(lambda: own)
    await eventually(lambda: not len(node.tasks))
    assert (own, left) == ([session], [])


async def test_a_client_that_its_hook_subscribed_and_that_goes_before_it_is_connected_leaves_no_trace(
    dispatcher: Dispatcher, node: Node
) -> None:
    left = on_disconnect(node)
    joined = asyncio.Event()

    async def connect(session: Session) -> None:
        await session.join("seen:a")
        joined.set()
        await asyncio.Event().wait()

    node.hooks.connect = Hook(connect, ("session",))
    session = opened(dispatcher)
    session.receive(Frame(b'{"id": 1, "connect": {}}'))
    await joined.wait()
    assert node.hub.channels() == {"seen:a": 1}
    session.end(Disconnect.normal())
    await eventually(lambda: not len(node.tasks))
    assert (node.hub.channels(), await node.engine.presence("seen:a"), left) == ({}, {}, [])


async def test_who_leaves_a_channel_while_the_engine_is_away_has_left_it(
    dispatcher: Dispatcher, node: Node, engine: Fragile, caplog: pytest.LogCaptureFixture
) -> None:
    alice = await came(dispatcher, "alice", "seen:a")
    engine.away = True
    assert "error" not in await ask(alice, "unsubscribe", channel="seen:a")
    assert (alice.subscriptions, node.hub.channels(), len(node.presence)) == ({}, {}, 0)
    assert "others see it there until timing.presence_ttl is over" in caplog.text
