"""What has a time limit ends after a grace, and a visit says when the next one is worth while."""

from collections.abc import AsyncIterator

import pytest

from freshet.commands.dispatch import Dispatcher
from freshet.config import Config, Timing, Tokens
from freshet.rules.rules import ChannelRule
from freshet.session.session import Session
from freshet.session.subscription import Subscription
from freshet.testing import ManualClock
from tests.tools.patience import eventually
from tests.tools.sessions import came, code, running, taken

PING, GRACE = 25.0, 10.0


@pytest.fixture
async def dispatcher(freshet_clock: ManualClock) -> AsyncIterator[Dispatcher]:
    timing = Timing(ping_interval=PING, expiry_grace=GRACE)
    config = Config(tokens=Tokens(anonymous=True), timing=timing)
    async with running(ChannelRule("*", presence=True), config=config, clock=freshet_clock) as dispatcher:
        dispatcher.node.wheel.stop()  # the test visits
        yield dispatcher


@pytest.fixture
async def alice(dispatcher: Dispatcher) -> Session:
    return await came(dispatcher, "alice", "a", "b")


async def test_what_has_no_end_is_looked_at_with_the_heartbeats(dispatcher: Dispatcher, alice: Session) -> None:
    assert dispatcher.node.expiry.check(alice) == PING
    assert (code(alice), taken(alice)) == (None, [])


async def test_a_client_has_a_grace_and_is_disconnected_after_it(
    dispatcher: Dispatcher, alice: Session, freshet_clock: ManualClock
) -> None:
    expiry = dispatcher.node.expiry
    alice.expires = freshet_clock.now + 5
    assert expiry.check(alice) == 5 + GRACE
    freshet_clock.now += 5 + GRACE - 1
    assert (expiry.check(alice), code(alice)) == (1, None)
    freshet_clock.now += 1
    expiry.check(alice)
    assert code(alice) == 3005


async def test_a_client_that_refreshes_within_the_grace_stays(
    dispatcher: Dispatcher, alice: Session, freshet_clock: ManualClock
) -> None:
    alice.expires = freshet_clock.now
    freshet_clock.now += GRACE - 1
    alice.expires = freshet_clock.now + 600
    freshet_clock.now += 10
    assert (dispatcher.node.expiry.check(alice), code(alice)) == (PING, None)


async def test_a_subscription_has_a_grace_and_ends_alone(
    dispatcher: Dispatcher, alice: Session, freshet_clock: ManualClock
) -> None:
    node = dispatcher.node
    alice.subscriptions["a"].expires = freshet_clock.now
    assert node.expiry.check(alice) == GRACE
    freshet_clock.now += GRACE - 0.5
    assert (node.expiry.check(alice), len(alice.subscriptions)) == (0.5, 2)
    freshet_clock.now += 0.5
    node.expiry.check(alice)
    await eventually(lambda: not len(node.tasks))
    assert (list(alice.subscriptions), node.hub.channels(), code(alice)) == (["b"], {"b": 1}, None)
    assert (await node.engine.presence("a"), len(await node.engine.presence("b"))) == ({}, 1)
    [event] = taken(alice)
    assert event == {"push": {"channel": "a", "unsubscribe": {"code": 2501, "reason": "subscription expired"}}}


async def test_the_next_visit_is_due_when_the_first_of_all_ends(
    dispatcher: Dispatcher, alice: Session, freshet_clock: ManualClock
) -> None:
    expiry = dispatcher.node.expiry
    alice.expires = freshet_clock.now + 9
    alice.subscriptions["a"].expires = freshet_clock.now + 7
    alice.subscriptions["b"].expires = freshet_clock.now + 8
    assert expiry.check(alice) == 7 + GRACE
    alice.expires = freshet_clock.now + 1
    assert expiry.check(alice) == 1 + GRACE


async def test_a_visit_just_before_the_end_does_not_ask_for_one_at_once(
    dispatcher: Dispatcher, alice: Session, freshet_clock: ManualClock
) -> None:
    alice.expires = freshet_clock.now - GRACE + 0.001
    assert dispatcher.node.expiry.check(alice) == 0.1


async def test_several_subscriptions_may_end_in_one_visit(
    dispatcher: Dispatcher, alice: Session, freshet_clock: ManualClock
) -> None:
    node = dispatcher.node
    for subscription in alice.subscriptions.values():
        subscription.expires = freshet_clock.now - GRACE
    node.expiry.check(alice)
    await eventually(lambda: not alice.subscriptions)
    assert [event["push"]["channel"] for event in taken(alice)] == ["a", "b"]
    assert node.hub.channels() == {}


@pytest.mark.parametrize("how", ["refreshed", "replaced"])
async def test_a_subscription_that_is_refreshed_or_replaced_in_the_same_moment_stays(
    dispatcher: Dispatcher, alice: Session, freshet_clock: ManualClock, how: str
) -> None:
    alice.subscriptions["a"].expires = freshet_clock.now
    freshet_clock.now += GRACE + 1
    dispatcher.node.expiry.check(alice)
    if how == "refreshed":
        alice.subscriptions["a"].expires += 60
    else:
        before = alice.subscriptions["a"]
        alice.subscriptions["a"] = Subscription(before.rule, before.info, 0, present=True)
    await eventually(lambda: not len(dispatcher.node.tasks))
    assert sorted(alice.subscriptions) == ["a", "b"]
