"""A session's way into a channel: what is queued for it meanwhile, who comes first, and what ends it on the way."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from freshet.commands.dispatch import Dispatcher
from freshet.commands.subscribing import BY_SERVER, Asked, Entry, abandon, enter, enter_all, let_in, settle, settle_all
from freshet.config import Config, Limits, Tokens
from freshet.engines.memory import MemoryEngine
from freshet.errors import Disconnect, EngineUnavailable, Refusal
from freshet.model.log import ClientInfo, History, Position, PublishOptions, Stream
from freshet.node.node import Node
from freshet.policy.base import Grant
from freshet.rules.hooks import Hook
from freshet.rules.rules import ChannelRule
from freshet.session.session import Session
from tests.tools.patience import eventually
from tests.tools.sessions import came, opened, running, taken

KEEP = History(size=10, ttl=60)
RULE = ChannelRule("log:*", history=KEEP, presence=True)
LOGGED = PublishOptions(history=KEEP)


class HeldEngine(MemoryEngine):
    """held: the method that waits until `go` is set. away: the method that finds the engine unavailable."""

    def __init__(self) -> None:
        super().__init__()
        self.held = self.away = ""
        self.go = asyncio.Event()
        self.reached = asyncio.Event()

    async def _pass(self, name: str) -> None:
        if name == self.away:
            raise EngineUnavailable("away")
        if name == self.held:
            self.held = ""
            self.reached.set()
            await self.go.wait()

    async def subscribe(self, channel: str, keep: History | None) -> Position:
        await self._pass("subscribe")
        return await super().subscribe(channel, keep)

    async def history(
        self, channel: str, keep: History, since: Position | None = None, limit: int = -1, reverse: bool = False
    ) -> Stream:
        await self._pass("history")
        return await super().history(channel, keep, since, limit, reverse)

    async def set_presence(self, channel: str, client: str, info: ClientInfo | None) -> None:
        if info is not None:
            await self._pass("set_presence")
        await super().set_presence(channel, client, info)


@pytest.fixture
def engine() -> HeldEngine:
    return HeldEngine()


@pytest.fixture
async def dispatcher(engine: HeldEngine) -> AsyncIterator[Dispatcher]:
    config = Config(tokens=Tokens(anonymous=True), limits=Limits(channels_per_client=2))
    async with running(RULE, ChannelRule("quiet:*"), config=config, engine=engine) as dispatcher:
        yield dispatcher


@pytest.fixture
def node(dispatcher: Dispatcher) -> Node:
    return dispatcher.node


@pytest.fixture
async def alice(dispatcher: Dispatcher) -> Session:
    return await came(dispatcher, "alice")


async def nothing_left(node: Node, engine: HeldEngine, channel: str = "log:a") -> None:
    """Neither in the hub, nor in the node's presence or the engine's."""
    await eventually(lambda: not len(node.presence) and not node.hub._channels and channel not in engine._subscribed)
    await eventually(lambda: not engine._presence.get(channel))
    await eventually(lambda: not len(node.tasks))


class Door:
    """A hook `on_subscribe` that waits until it is opened. asked: how many times it was called."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.asked = 0
        self.rule = ChannelRule("log:*", history=KEEP, presence=True, on_subscribe=Hook(self.pass_, ("session",)))

    async def pass_(self, session: Session) -> None:
        self.asked += 1
        await self.open.wait()


# ---------------------------------------------------------------------------------------------------------- both phases


async def test_what_is_published_between_the_phases_comes_with_the_reply_and_what_follows_live(
    node: Node, engine: HeldEngine, alice: Session
) -> None:
    first = await engine.publish("log:a", b"1", LOGGED)
    await engine.publish("log:a", b"2", LOGGED)
    entry = await enter(node, alice, "log:a", RULE, first)
    assert entry.is_complete
    await engine.publish("log:a", b"3", LOGGED)
    subscribed = settle(node, entry, 7, b'"data"')
    await engine.publish("log:a", b"4", LOGGED)
    assert [each.offset for each in subscribed.publications] == [2, 3]
    assert (subscribed.id, subscribed.recovered, subscribed.recoverable, subscribed.data) == (7, True, True, b'"data"')
    assert subscribed.position == first._replace(offset=3)
    assert alice.subscriptions["log:a"].position == first
    node.turn.end()
    assert [reply["push"]["pub"]["offset"] for reply in taken(alice) if "pub" in reply["push"]] == [4]


async def test_who_cannot_get_all_that_it_missed_enters_where_the_log_stands(
    node: Node, engine: HeldEngine, alice: Session
) -> None:
    place = await engine.publish("log:a", b"1", LOGGED)
    entry = await enter(node, alice, "log:a", RULE, Position("another", 1))
    assert not entry.is_complete
    subscribed = settle(node, entry)
    assert (subscribed.recovered, subscribed.publications, subscribed.position) == (False, [], place)
    assert alice.subscriptions["log:a"].position == place


async def test_a_channel_without_a_log_has_nothing_to_recover(node: Node, alice: Session) -> None:
    rule, _ = node.rules.find("quiet:a")
    subscribed = settle(node, await enter(node, alice, "quiet:a", rule))
    assert (subscribed.recovered, subscribed.recoverable, subscribed.position) == (None, False, Position("", 0))


async def test_what_its_token_grants_is_the_subscriptions(node: Node, engine: HeldEngine, alice: Session) -> None:
    grant = Grant(msgspec.Raw(b'{"seat":5}'), node.clock.wall() + 60.5)
    subscribed = settle(node, await enter(node, alice, "log:a", RULE, grant=grant))
    assert subscribed.ttl == 60
    assert alice.subscriptions["log:a"].expires == grant.expires
    assert bytes((await engine.presence("log:a"))[alice.id].chan_info) == b'{"seat":5}'


# -------------------------------------------------------------------------------------------------- two ways in at once


async def asks(node: Node, session: Session, rule: ChannelRule) -> Entry:
    """As a client that is let in, or not."""
    entry = await enter(node, session, "log:a", rule, asked=Asked({}))
    settle(node, entry)
    return entry


async def test_the_server_subscribes_a_client_that_asks_already_and_the_clients_own_subscription_is_the_one(
    node: Node, engine: HeldEngine, alice: Session
) -> None:
    door = Door()
    own = asyncio.create_task(asks(node, alice, door.rule))
    await eventually(lambda: door.asked)
    by_server = asyncio.create_task(alice.join("log:a"))
    await asyncio.sleep(0)
    assert (by_server.done(), alice.subscriptions, node.hub.channels()) == (False, {}, {})
    door.open.set()
    entry = await own
    await by_server
    assert alice.subscriptions == {"log:a": entry.subscription}
    assert (node.hub.channels(), len(await engine.presence("log:a"))) == ({"log:a": 1}, 1)
    await engine.publish("log:a", b"1", LOGGED)
    await asyncio.sleep(0)
    assert [reply["push"]["pub"]["offset"] for reply in taken(alice)] == [1]  # and no notification that it was let in


async def test_the_server_subscribes_a_client_that_its_hook_has_not_let_in(node: Node, alice: Session) -> None:
    asked, go = asyncio.Event(), asyncio.Event()

    async def refuse(session: Session) -> None:
        asked.set()
        await go.wait()
        raise Refusal.permission_denied()

    rule = ChannelRule("log:*", history=KEEP, presence=True, on_subscribe=Hook(refuse, ("session",)))
    own = asyncio.create_task(asks(node, alice, rule))
    await asked.wait()
    by_server = asyncio.create_task(let_in(node, alice, "log:a"))
    await asyncio.sleep(0)
    go.set()
    with pytest.raises(Refusal, match="permission denied"):
        await own
    await by_server
    assert [reply["push"]["channel"] for reply in taken(alice)] == ["log:a"]
    assert node.hub.channels() == {"log:a": 1}


async def test_a_client_that_asks_while_the_server_subscribes_it_waits_and_is_told_that_it_is(
    node: Node, engine: HeldEngine, alice: Session
) -> None:
    engine.held = "history"
    by_server = asyncio.create_task(alice.join("log:a"))
    await engine.reached.wait()
    own = asyncio.create_task(asks(node, alice, RULE))
    await asyncio.sleep(0)
    assert not own.done()
    engine.go.set()
    await by_server
    with pytest.raises(Refusal) as refusal:
        await own
    assert refusal.value.code == 105
    assert node.hub.channels() == {"log:a": 1}


async def test_a_client_that_asks_while_the_server_fails_to_subscribe_it_gets_in_by_itself(
    node: Node, engine: HeldEngine, alice: Session
) -> None:
    engine.held, engine.away = "history", "set_presence"
    by_server = asyncio.create_task(alice.join("log:a"))
    await engine.reached.wait()
    own = asyncio.create_task(asks(node, alice, ChannelRule("log:*", history=KEEP)))
    await asyncio.sleep(0)
    engine.go.set()
    with pytest.raises(EngineUnavailable):
        await by_server
    entry = await own
    assert alice.subscriptions == {"log:a": entry.subscription}
    assert node.hub.channels() == {"log:a": 1}


async def test_a_hook_may_subscribe_the_client_that_it_lets_in(node: Node, engine: HeldEngine, alice: Session) -> None:
    async def join(session: Session) -> None:
        await session.join("log:a")  # which is under way: it does not wait for itself

    rule = ChannelRule("log:*", history=KEEP, on_subscribe=Hook(join, ("session",)))
    entry = await asks(node, alice, rule)
    assert alice.subscriptions == {"log:a": entry.subscription}
    assert node.hub.channels() == {"log:a": 1}


@pytest.mark.parametrize("asked", [Asked(), BY_SERVER], ids=["by the client", "by the server"])
async def test_a_subscription_that_is_ended_while_it_is_asked_for_never_begins(
    node: Node, engine: HeldEngine, alice: Session, asked: Asked
) -> None:
    door = Door()
    engine.held = "subscribe" if asked is BY_SERVER else ""
    entering = asyncio.create_task(enter(node, alice, "log:a", door.rule, asked=asked))
    await eventually(lambda: door.asked or engine.reached.is_set())
    await alice.leave("log:a")
    door.open.set()
    engine.go.set()
    with pytest.raises(Refusal, match="the server ended the subscription"):
        await entering
    await nothing_left(node, engine)
    assert (alice.subscriptions, alice.reservations, taken(alice)) == ({}, None, [])


async def test_the_hook_is_given_what_the_client_asked_with_and_may_refuse(
    node: Node, engine: HeldEngine, alice: Session
) -> None:
    async def may_join(session: Session, room: str, data: Any) -> None:
        raise Refusal(2000, f"{session.user} may not be in {room} with {data}")

    rule = ChannelRule("log:{room}", on_subscribe=Hook(may_join, ("session",), ("room", "data")))
    with pytest.raises(Refusal, match="alice may not be in a with 5"):
        await enter(node, alice, "log:a", rule, asked=Asked({"room": "a"}, b"5"))
    assert alice.subscriptions == {}
    await nothing_left(node, engine)
    settle(node, await enter(node, alice, "log:a", rule))  # the server itself does not ask the hook


# ------------------------------------------------------------------------------------------------------ what goes wrong


@pytest.mark.parametrize("where", ["subscribe", "history", "set_presence"])
@pytest.mark.parametrize("connects", [True, False], ids=["connected", "connecting"])
async def test_a_session_that_ends_while_it_enters_leaves_nothing(
    dispatcher: Dispatcher, engine: HeldEngine, where: str, connects: bool
) -> None:
    node = dispatcher.node
    session = await came(dispatcher, "alice") if connects else opened(dispatcher)
    engine.held = where
    entering = asyncio.create_task(enter(node, session, "log:a", RULE))
    await engine.reached.wait()
    session.end(Disconnect.normal())
    await asyncio.sleep(0)
    engine.go.set()
    with pytest.raises(Disconnect):
        await entering
    await nothing_left(node, engine)
    assert (len(node.registry), node.registry.users, session.subscriptions.keys() & {"log:a"}) == (0, 0, set())


async def test_a_session_that_ends_while_the_hook_waits_does_not_enter(
    node: Node, engine: HeldEngine, alice: Session
) -> None:
    door = Door()
    entering = asyncio.create_task(enter(node, alice, "log:a", door.rule, asked=Asked({})))
    await eventually(lambda: door.asked)
    alice.end(Disconnect.normal())
    engine.held = "subscribe"
    engine.go.set()
    door.open.set()
    with pytest.raises(Disconnect):
        await entering
    assert not engine.reached.is_set()  # the engine was not asked
    await nothing_left(node, engine)


@pytest.mark.parametrize("where", ["history", "set_presence"])
async def test_a_subscription_that_the_server_ends_on_the_way_is_refused_and_leaves_nothing(
    node: Node, engine: HeldEngine, alice: Session, where: str
) -> None:
    engine.held = where
    entering = asyncio.create_task(enter(node, alice, "log:a", RULE))
    await engine.reached.wait()
    await alice.leave("log:a")
    engine.go.set()
    with pytest.raises(Refusal, match="the server ended the subscription"):
        await entering
    await nothing_left(node, engine)
    await alice.join("log:a")
    assert node.hub.channels() == {"log:a": 1}


@pytest.mark.parametrize("where", ["subscribe", "history", "set_presence"])
async def test_an_engine_that_is_away_lets_nobody_in_and_the_next_try_succeeds(
    node: Node, engine: HeldEngine, alice: Session, where: str
) -> None:
    engine.away = where
    with pytest.raises(EngineUnavailable):
        await enter(node, alice, "log:a", RULE)
    assert alice.subscriptions == {}
    await nothing_left(node, engine)
    engine.away = ""
    settle(node, await enter(node, alice, "log:a", RULE))
    assert node.hub.channels() == {"log:a": 1}


async def test_a_way_in_that_is_cancelled_leaves_nothing(node: Node, engine: HeldEngine, alice: Session) -> None:
    engine.held = "history"
    entering = asyncio.create_task(enter(node, alice, "log:a", RULE))
    await engine.reached.wait()
    entering.cancel()
    engine.go.set()
    with pytest.raises(asyncio.CancelledError):
        await entering
    assert alice.subscriptions == {}
    await nothing_left(node, engine)


# ------------------------------------------------------------------------------------------------------------ the limit


async def full(node: Node, session: Session) -> None:
    """As many channels as one client may have."""
    rule, _ = node.rules.find("quiet:a")
    for channel in ("quiet:a", "quiet:b"):
        settle(node, await enter(node, session, channel, rule))


async def test_a_client_has_so_many_channels_and_no_more(node: Node, alice: Session) -> None:
    await full(node, alice)
    with pytest.raises(Refusal, match="at most 2 channels") as refusal:
        await enter(node, alice, "log:a", RULE)
    assert refusal.value.code == 106
    await alice.leave("quiet:a")
    settle(node, await enter(node, alice, "log:a", RULE))


async def test_the_limit_holds_for_those_who_pass_the_hook_at_once(
    node: Node, engine: HeldEngine, alice: Session
) -> None:
    door = Door()
    asking = [
        asyncio.create_task(enter(node, alice, f"log:{number}", door.rule, asked=Asked({}))) for number in range(4)
    ]
    await eventually(lambda: door.asked == 2)
    door.open.set()
    results = await asyncio.gather(*asking, return_exceptions=True)
    assert [getattr(each, "code", None) for each in results] == [None, None, 106, 106]
    assert door.asked == 2
    assert len(settle_all(node, results[:2])) == len(alice.subscriptions) == 2  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------------- all or nothing


async def test_all_channels_of_the_server_are_entered_each_once(node: Node, alice: Session) -> None:
    entries = await enter_all(node, alice, ["log:a", "quiet:a", "log:a"], {})
    assert [settle(node, entry).channel for entry in entries] == ["log:a", "quiet:a"]
    assert node.hub.channels() == {"log:a": 1, "quiet:a": 1}


@pytest.mark.parametrize(
    ("channels", "away", "error"),
    [
        (["log:a", "none"], "", Refusal),
        (["log:a", "quiet:a", "quiet:b"], "", Refusal),
        (["quiet:a", "log:a"], "history", EngineUnavailable),
    ],
    ids=["no rule", "too many", "engine away"],
)
async def test_if_one_of_the_servers_channels_cannot_be_entered_none_is(
    node: Node, engine: HeldEngine, alice: Session, channels: list[str], away: str, error: type[Exception]
) -> None:
    engine.away = away
    with pytest.raises(error):
        await enter_all(node, alice, channels, {})
    assert alice.subscriptions == {}
    await nothing_left(node, engine)


async def test_those_that_are_ended_while_others_are_entered_are_left_out(
    node: Node, engine: HeldEngine, alice: Session
) -> None:
    engine.held = "history"
    entering = asyncio.create_task(enter_all(node, alice, ["quiet:a", "log:a"], {}))
    await engine.reached.wait()
    await alice.leave("quiet:a")  # which is entered, and not settled yet
    engine.go.set()
    assert [each.channel for each in settle_all(node, await entering)] == ["log:a"]
    assert (list(alice.subscriptions), node.hub.channels()) == (["log:a"], {"log:a": 1})
    await alice.leave("log:a")
    engine.held = "history"
    engine.reached.clear()
    engine.go.clear()
    entering = asyncio.create_task(enter_all(node, alice, ["quiet:a", "log:a"], {}))
    await engine.reached.wait()
    await alice.leave("log:a")  # which is on its way
    engine.go.set()
    assert [each.channel for each in settle_all(node, await entering)] == ["quiet:a"]
    assert (list(alice.subscriptions), node.hub.channels()) == (["quiet:a"], {"quiet:a": 1})


async def test_what_is_abandoned_leaves_nothing(node: Node, engine: HeldEngine, alice: Session) -> None:
    entries = await enter_all(node, alice, ["log:a", "quiet:a"], {})
    assert len(await engine.presence("log:a")) == 1
    for entry in entries:
        abandon(node, entry)
    assert alice.subscriptions == {}
    await nothing_left(node, engine)
    await engine.publish("log:a", b"1", LOGGED)
    await asyncio.sleep(0)
    assert taken(alice) == []
