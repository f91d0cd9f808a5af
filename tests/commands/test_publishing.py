"""Publishing: what the rule's hook makes of it, where clients and the server meet, and what is counted."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, get_args

import pytest

from freshet import Freshet
from freshet.commands.dispatch import Dispatcher
from freshet.commands.publishing import publish, publish_of_client
from freshet.commands.server import ServerOperations
from freshet.config import Config, Limits, Tokens
from freshet.engines.memory import MemoryEngine
from freshet.errors import EngineUnavailable, Refusal
from freshet.model.commands import Publish
from freshet.model.log import NOWHERE, History, Kind, Position, Publication, PublishOptions
from freshet.policy.base import Context
from freshet.rules.hooks import Hook
from freshet.rules.rules import ChannelRule, Owner
from freshet.session.session import Session
from tests.tools.sessions import came, refused, running, taken

KEEP = History(size=10, ttl=60)


class Fragile(MemoryEngine):
    """away: nothing can be published."""

    away = False

    def publish_now(self, channel: str, data: bytes, options: PublishOptions) -> None:
        """It may be away, so that it has to be waited for."""

    async def publish(self, channel: str, data: bytes, options: PublishOptions) -> Position:
        if self.away:
            raise EngineUnavailable("the log is away")
        return await super().publish(channel, data, options)


@pytest.fixture
def engine() -> Fragile:
    return Fragile()


@pytest.fixture
def rule() -> ChannelRule:
    return ChannelRule("log:{name}", history=KEEP)


@pytest.fixture
async def dispatcher(engine: Fragile, rule: ChannelRule) -> AsyncIterator[Dispatcher]:
    config = Config(tokens=Tokens(anonymous=True), limits=Limits(message_size=1000))
    async with running(rule, ChannelRule("quiet"), config=config, engine=engine) as dispatcher:
        yield dispatcher


@pytest.fixture
async def alice(dispatcher: Dispatcher) -> Session:
    return await came(dispatcher, "alice")


async def from_client(dispatcher: Dispatcher, session: Session, data: bytes, kind: Kind = Kind.JSON) -> Position:
    context = Context(session, *dispatcher.node.rules.find("log:a"))
    return (await publish_of_client(dispatcher.node, context, Publish("log:a", data, 1, kind))).position


async def logged(engine: Fragile) -> list[Publication]:
    return (await engine.history("log:a", KEEP)).publications


def hooked(rule: ChannelRule, function: Any) -> None:
    rule.on_publish = Hook(function, ("session", "data"), rule.parameters)


# ----------------------------------------------------------------------------------------------------------- the hook


async def test_what_the_hook_returns_is_published_in_place_of_what_the_client_sent(
    dispatcher: Dispatcher, engine: Fragile, rule: ChannelRule, alice: Session
) -> None:
    async def sign(session: Session, data: dict[str, Any], name: str) -> dict[str, Any]:
        return {**data, "by": session.user, "in": name}

    hooked(rule, sign)
    await from_client(dispatcher, alice, b'{"n":1}')
    [publication] = await logged(engine)
    assert (publication.data, publication.kind) == (b'{"n":1,"by":"alice","in":"a"}', Kind.JSON)


async def test_a_hook_that_returns_nothing_leaves_it_as_it_is(
    dispatcher: Dispatcher, engine: Fragile, rule: ChannelRule, alice: Session
) -> None:
    hooked(rule, lambda session, data, name: None)
    await from_client(dispatcher, alice, b'{"n":  1}')
    assert [each.data for each in await logged(engine)] == [b'{"n":  1}']


async def test_a_hook_that_returns_bytes_publishes_bytes(
    dispatcher: Dispatcher, engine: Fragile, rule: ChannelRule, alice: Session
) -> None:
    hooked(rule, lambda session, data, name: b"\x00\xff")
    await from_client(dispatcher, alice, b"1")
    assert [(each.data, each.kind) for each in await logged(engine)] == [(b"\x00\xff", Kind.BYTES)]


@pytest.mark.parametrize(
    ("data", "kind", "given"),
    [(b"[1]", Kind.JSON, [1]), ("é".encode(), Kind.TEXT, "é"), (b"\xff", Kind.BYTES, memoryview(b"\xff"))],
)
async def test_the_hook_is_given_json_decoded_text_as_text_and_bytes_as_they_are(
    dispatcher: Dispatcher, engine: Fragile, rule: ChannelRule, alice: Session, data: bytes, kind: Kind, given: object
) -> None:
    seen: list[object] = []
    hooked(rule, lambda session, data, name: seen.append(data))
    await from_client(dispatcher, alice, data, kind)
    assert (seen, [type(each) for each in seen]) == ([given], [type(given)])
    assert [(each.data, each.kind) for each in await logged(engine)] == [(data, kind)]


async def test_what_the_hook_refuses_is_not_published(
    dispatcher: Dispatcher, engine: Fragile, rule: ChannelRule, alice: Session
) -> None:
    def refuse(session: Session, data: Any, name: str) -> None:
        raise Refusal(2000, "no swearing")

    hooked(rule, refuse)
    assert await refused(alice, "publish", channel="log:a", data="damn") == 2000
    assert await logged(engine) == []
    assert dispatcher.node.counts.published == dispatcher.node.counts.unpublished == 0


# ------------------------------------------------------------------------------------------------------ where they meet


async def test_clients_and_the_server_publish_in_one_log(
    dispatcher: Dispatcher, engine: Fragile, rule: ChannelRule, alice: Session
) -> None:
    hooked(rule, lambda session, data, name: {"checked": data})
    bob = await came(dispatcher, "bob", "log:a")
    server = ServerOperations(dispatcher.node, dispatcher.policies)
    first = await from_client(dispatcher, alice, b"1")
    second = await server.publish("log:a", (b"2", Kind.JSON), {"event": "price"})
    third = await from_client(dispatcher, alice, b"3")
    assert [first.offset, second.offset, third.offset] == [1, 2, 3]
    one, two, _ = await logged(engine)
    assert (one.info, one.tags) == (alice.client_info(), None)
    assert (two.info, two.tags) == (None, {"event": "price"})
    dispatcher.node.turn.end()
    received = [reply["push"]["pub"] for reply in taken(bob)]
    assert [each["data"] for each in received] == [{"checked": 1}, 2, {"checked": 3}]
    assert [each.get("info", {}).get("user") for each in received] == ["alice", None, "alice"]
    assert dispatcher.node.counts.published == 3


async def test_in_a_channel_without_a_log_a_publication_has_no_place(dispatcher: Dispatcher, alice: Session) -> None:
    await alice.join("quiet")
    taken(alice)
    rule, _ = dispatcher.node.rules.find("quiet")
    assert await publish(dispatcher.node, rule, "quiet", b"1", PublishOptions()) == NOWHERE
    dispatcher.node.turn.end()
    assert taken(alice) == [{"push": {"channel": "quiet", "pub": {"data": 1}}}]


async def test_what_an_engine_that_is_away_did_not_take_is_counted_and_refused(
    dispatcher: Dispatcher, engine: Fragile, alice: Session, caplog: pytest.LogCaptureFixture
) -> None:
    server = ServerOperations(dispatcher.node, dispatcher.policies)
    engine.away = True
    with pytest.raises(EngineUnavailable, match="the log is away"):
        await server.publish("log:a", (b"1", Kind.JSON))
    assert await refused(alice, "publish", channel="log:a", data=2) == 100  # temporary: it may try again
    assert (dispatcher.node.counts.published, dispatcher.node.counts.unpublished) == (0, 2)
    engine.away = False
    assert (await from_client(dispatcher, alice, b"3")).offset == 1
    assert (dispatcher.node.counts.published, dispatcher.node.counts.unpublished) == (1, 2)


async def test_of_what_is_published_at_once_each_is_counted_and_has_its_own_place_or_error(
    dispatcher: Dispatcher, engine: Fragile
) -> None:
    server, refusal = ServerOperations(dispatcher.node, dispatcher.policies), Refusal.bad_request("nothing to publish")
    prepared = [await server.prepare(f"log:{name}", (b"1", Kind.JSON), None, None, False) for name in "ab"]
    first, none, second = await server.publish_each([prepared[0], refusal, prepared[1]])
    assert none is refusal
    for outcome in (first, second):
        assert isinstance(outcome, Position)
        assert outcome.offset == 1
    assert (dispatcher.node.counts.published, dispatcher.node.counts.unpublished) == (2, 0)
    engine.away = True
    away = await server.publish_each(prepared)
    assert [type(outcome) for outcome in away] == [EngineUnavailable, EngineUnavailable]
    assert (dispatcher.node.counts.published, dispatcher.node.counts.unpublished) == (2, 2)


async def test_whoever_owns_a_channel_gets_what_is_published_at_once_too(dispatcher: Dispatcher) -> None:
    class OwnedRule(ChannelRule):
        owner = "room"

    taken_by_owner = []

    async def take(channel: str, data: bytes, options: PublishOptions) -> Position:
        taken_by_owner.append((channel, data))
        return NOWHERE

    dispatcher.node.rules.add_first(OwnedRule("owned"))
    dispatcher.node.owners["room"] = take
    server = ServerOperations(dispatcher.node, dispatcher.policies)
    prepared = [await server.prepare(channel, (b"1", Kind.JSON), None, None, False) for channel in ("owned", "log:a")]
    owned, logged_one = await server.publish_each(prepared)
    assert (owned, taken_by_owner) == (NOWHERE, [("owned", b"1")])
    assert isinstance(logged_one, Position)
    assert logged_one.offset == 1


def test_every_owner_of_a_channel_takes_publications() -> None:
    assert set(Freshet(dev=True)._node.owners) == set(get_args(Owner))


async def test_who_is_unsubscribed_while_the_hook_waits_publishes_no_longer_where_only_subscribers_may() -> None:
    asked, go = asyncio.Event(), asyncio.Event()

    async def check(session: Session, data: Any) -> None:
        asked.set()
        await go.wait()

    rule = ChannelRule("*", publish="subscriber", on_publish=Hook(check, ("session", "data")))
    async with running(rule) as dispatcher:
        alice, bob = await came(dispatcher, "alice", "a"), await came(dispatcher, "bob", "a")
        publishing = asyncio.create_task(refused(alice, "publish", channel="a", data=1))
        await asked.wait()
        await dispatcher.node.leaving.unsubscribe(alice, "a", None)
        go.set()
        assert await publishing == 103
        dispatcher.node.turn.end()
        assert taken(bob) == []
