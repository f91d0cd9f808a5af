"""A hook has so much time, and no more than its client is there; then all goes on without it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from freshet.commands.dispatch import Dispatcher
from freshet.config import Config, Timing, Tokens
from freshet.errors import Disconnect, Refusal
from freshet.node.node import Node
from freshet.rules.hooks import Hook, HookLimits
from freshet.rules.rules import ChannelRule
from freshet.session.session import Session
from freshet.testing import ManualClock
from tests.tools.patience import eventually
from tests.tools.sessions import came, code, opened, refused, running, say

TIMING = Timing(hook_timeout=10, ping_interval=3600, connect_timeout=5)


class Slow:
    """A hook that ends when it is let. ended: how it did."""

    def __init__(self) -> None:
        self.called = 0
        self.go = asyncio.Event()
        self.ended: list[str] = []

    async def __call__(self, session: Any, data: Any = None) -> Any:
        self.called += 1
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.ended.append("cancelled")
            raise
        self.ended.append("returned")
        return None

    def hook(self, **limits: float) -> Hook:
        return Hook(self, ("session",), ("data",), HookLimits(**limits))


@pytest.fixture
def slow() -> Slow:
    return Slow()


@pytest.fixture
async def dispatcher(freshet_clock: ManualClock, slow: Slow) -> AsyncIterator[Dispatcher]:
    config = Config(tokens=Tokens(anonymous=True), timing=TIMING)
    rules = (
        ChannelRule("slow:*", presence=True, on_subscribe=slow.hook()),
        ChannelRule("said:*", publish="client", on_publish=slow.hook()),
    )
    async with running(*rules, config=config, clock=freshet_clock) as dispatcher:
        yield dispatcher
        slow.go.set()


@pytest.fixture
def node(dispatcher: Dispatcher) -> Node:
    return dispatcher.node


async def nothing_waits(node: Node) -> None:
    await eventually(lambda: not len(node.tasks) and not len(node.invoking))
    assert not any(node.wheel._slots[slot] - set(node.registry) - {node.presence} for slot in range(64))


def waiting(session: Session, command: dict[str, Any]) -> asyncio.Task[list[Any]]:
    return asyncio.create_task(say(session, {"id": 9, **command}))


SUBSCRIBE = {"subscribe": {"channel": "slow:a"}}
PUBLISH = {"publish": {"channel": "said:a", "data": 1}}
CALL = {"rpc": {"method": "slow"}}


@pytest.mark.parametrize("command", [SUBSCRIBE, PUBLISH, CALL], ids=["on_subscribe", "on_publish", "rpc"])
async def test_a_hook_whose_time_is_over_is_cancelled_and_its_client_may_try_again(
    node: Node,
    dispatcher: Dispatcher,
    slow: Slow,
    freshet_clock: ManualClock,
    caplog: pytest.LogCaptureFixture,
    command: dict[str, Any],
) -> None:
    node.hooks.rpc["slow"] = slow.hook()
    alice = await came(dispatcher, "alice")
    asking = waiting(alice, command)
    await eventually(lambda: slow.called)
    await freshet_clock.advance(9)
    assert (asking.done(), len(node.invoking)) == (False, 1)
    await freshet_clock.advance(2)
    [reply] = await asking
    error = {"code": 100, "message": "the server did not answer in time", "temporary": True}
    assert (reply["error"], slow.ended) == (error, ["cancelled"])
    assert (code(alice), alice.subscriptions, alice.reservations, node.hub.channels()) == (None, {}, None, {})
    [record] = [record for record in caplog.records if record.name == "freshet.hooks"]
    assert record.levelno == logging.WARNING
    assert "timing.hook_timeout" in record.getMessage()
    await nothing_waits(node)
    slow.go.set()
    assert "error" not in (await say(alice, {"id": 10, **command}))[0]


async def test_a_client_whose_connect_waits_for_a_hook_is_not_taken_for_stale(
    node: Node, dispatcher: Dispatcher, slow: Slow, freshet_clock: ManualClock
) -> None:
    node.hooks.connect = slow.hook()
    session = opened(dispatcher)
    asking = waiting(session, {"connect": {}})
    await eventually(lambda: slow.called)
    await freshet_clock.advance(TIMING.connect_timeout + 2)
    assert (asking.done(), code(session)) == (False, None)
    await freshet_clock.advance(TIMING.hook_timeout)
    [reply] = await asking
    assert reply["error"]["temporary"]
    assert not session.connected
    await freshet_clock.advance(2 * TIMING.connect_timeout + 2)
    assert code(session) == 3502  # it did not try again


async def test_a_message_whose_hook_takes_too_long_is_dropped_and_the_next_ones_turn_comes(
    node: Node, dispatcher: Dispatcher, slow: Slow, freshet_clock: ManualClock
) -> None:
    node.hooks.message = slow.hook()
    alice = await came(dispatcher, "alice")
    saying = asyncio.create_task(say(alice, {"send": {"data": 1}}, {"id": 5, "ping": {}}))
    await eventually(lambda: slow.called)
    await freshet_clock.advance(11)
    assert [reply["id"] for reply in await saying] == [5]
    assert slow.ended == ["cancelled"]


@pytest.mark.parametrize("command", [SUBSCRIBE, PUBLISH, CALL], ids=["on_subscribe", "on_publish", "rpc"])
async def test_a_hook_ends_with_its_client(
    node: Node, dispatcher: Dispatcher, slow: Slow, command: dict[str, Any]
) -> None:
    node.hooks.rpc["slow"] = slow.hook()
    alice, bob = await came(dispatcher, "alice"), await came(dispatcher, "bob")
    asking = waiting(alice, command), waiting(bob, command)
    await eventually(lambda: slow.called == 2)
    alice.end(Disconnect.normal())
    assert await asking[0] == []
    assert (slow.ended, len(node.invoking)) == (["cancelled"], 1)  # bob's goes on
    slow.go.set()
    assert "error" not in (await asking[1])[0]
    assert slow.ended == ["cancelled", "returned"]
    await nothing_waits(node)


async def test_a_client_that_goes_while_it_connects_ends_the_hook_and_is_nobody_who_left(
    node: Node, dispatcher: Dispatcher, slow: Slow
) -> None:
    node.hooks.connect, left = slow.hook(), Slow()
    node.hooks.disconnect = left.hook()
    session = opened(dispatcher)
    asking = waiting(session, {"connect": {}})
    await eventually(lambda: slow.called)
    session.end(Disconnect.normal())
    assert await asking == []
    await nothing_waits(node)
    assert (slow.ended, left.called, session.connected, len(node.registry)) == (["cancelled"], 0, False, 0)


async def test_the_hook_for_a_clients_end_outlives_it_as_long_as_its_time_is_not_over(
    node: Node, dispatcher: Dispatcher, slow: Slow, freshet_clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    node.hooks.disconnect = slow.hook()
    alice = await came(dispatcher, "alice")
    alice.end(Disconnect.normal())
    await eventually(lambda: slow.called)
    await freshet_clock.advance(9)
    assert slow.ended == []
    await freshet_clock.advance(2)
    assert slow.ended == ["cancelled"]
    await nothing_waits(node)
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2  # that it was, and what with it


async def test_a_hook_with_a_grace_may_end_in_it_and_what_it_decided_happens(
    node: Node, dispatcher: Dispatcher, slow: Slow, freshet_clock: ManualClock
) -> None:
    node.rules.find("said:a")[0].on_publish = slow.hook(grace=3)
    listener, alice = await came(dispatcher, "bob", "said:a"), await came(dispatcher, "alice")
    for seconds, ended in ((2, "returned"), (4, "cancelled")):
        session = alice if ended == "returned" else await came(dispatcher, "carol")
        slow.go.clear()
        asking = waiting(session, PUBLISH)
        called = slow.called
        await eventually(lambda called=called: slow.called > called or len(node.invoking))  # type: ignore[misc]
        session.end(Disconnect.normal())
        await freshet_clock.advance(seconds)
        slow.go.set()
        await asking
        assert slow.ended[-1] == ended
        await nothing_waits(node)
    assert len(listener.outbox.take()) == 1  # what was said before the grace was over


async def test_a_grace_does_not_lengthen_the_time(
    node: Node, dispatcher: Dispatcher, slow: Slow, freshet_clock: ManualClock
) -> None:
    node.hooks.rpc["slow"] = slow.hook(timeout=4, grace=60)
    alice = await came(dispatcher, "alice")
    asking = waiting(alice, CALL)
    await eventually(lambda: slow.called)
    alice.end(Disconnect.normal())
    await freshet_clock.advance(3)
    assert slow.ended == []
    await freshet_clock.advance(3)
    assert slow.ended == ["cancelled"]
    await asking


async def test_a_hook_may_have_a_time_of_its_own(
    node: Node, dispatcher: Dispatcher, slow: Slow, freshet_clock: ManualClock
) -> None:
    node.hooks.rpc["slow"] = slow.hook(timeout=100)
    alice = await came(dispatcher, "alice")
    asking = waiting(alice, CALL)
    await eventually(lambda: slow.called)
    await freshet_clock.advance(90)  # longer than the wheel is
    assert not asking.done()
    await freshet_clock.advance(11)
    assert (await asking)[0]["error"]["code"] == 100


async def test_a_hook_for_callers_of_the_api_has_a_time_too(node: Node, slow: Slow, freshet_clock: ManualClock) -> None:
    calling = asyncio.create_task(node.invoking.invoke(slow.hook(), None, None))
    await eventually(lambda: slow.called)
    await freshet_clock.advance(11)
    with pytest.raises(Refusal, match="did not answer in time"):
        await calling
    await nothing_waits(node)


async def invoke(node: Node, function: Callable[..., Awaitable[Any]]) -> asyncio.Task[Any]:
    task = asyncio.create_task(node.invoking.invoke(Hook(function, ("session",)), None, None))
    await asyncio.sleep(0)
    return task


async def test_a_hook_that_tidies_up_when_it_is_cancelled_may_say_what_it_likes(
    node: Node, freshet_clock: ManualClock
) -> None:
    async def insists(session: Any) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "half of it"
        return "all"

    async def refuses(session: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise Refusal(1001, "not today")

    returning, refusing = await invoke(node, insists), await invoke(node, refuses)
    await freshet_clock.advance(11)
    assert await returning == "half of it"
    with pytest.raises(Refusal, match="not today"):
        await refusing
    assert (returning.cancelling(), refusing.cancelling()) == (0, 0)


async def test_who_is_cancelled_by_somebody_else_is(node: Node, slow: Slow, freshet_clock: ManualClock) -> None:
    calling = asyncio.create_task(node.invoking.invoke(slow.hook(), None, None))
    await eventually(lambda: slow.called)
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    both = asyncio.create_task(node.invoking.invoke(slow.hook(), None, None))
    await eventually(lambda: slow.called == 2)
    slow.ended.clear()
    both.cancel()
    await freshet_clock.advance(11)
    with pytest.raises(asyncio.CancelledError):
        await both
    await nothing_waits(node)


async def test_a_hook_that_ends_its_own_client_goes_on(node: Node, dispatcher: Dispatcher) -> None:
    ended: list[str] = []

    async def goodbye(session: Session, data: Any) -> None:
        session.end(Disconnect.force_no_reconnect())
        await asyncio.sleep(0)
        ended.append("returned")

    node.hooks.rpc["goodbye"] = Hook(goodbye, ("session", "data"))
    alice = await came(dispatcher, "alice")
    await say(alice, {"id": 1, "rpc": {"method": "goodbye"}})
    assert ended == ["returned"]
    await nothing_waits(node)


@pytest.mark.parametrize("limits", [{"timeout": 0}, {"timeout": float("inf")}, {"grace": -1}])
def test_limits_that_cannot_be_are_refused_when_the_hook_is_registered(slow: Slow, limits: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected seconds"):
        slow.hook(**limits)


async def test_a_client_that_is_refused_by_a_slow_hook_is_refused_in_no_other_way_than_all(
    node: Node, dispatcher: Dispatcher, slow: Slow, freshet_clock: ManualClock
) -> None:
    alice = await came(dispatcher, "alice")
    asking = asyncio.create_task(refused(alice, "subscribe", channel="slow:a"))
    await eventually(lambda: slow.called)
    await freshet_clock.advance(11)
    assert await asking == 100
    assert node.counts.refusals == {100: 1}


async def test_a_server_that_stops_lets_hooks_end(node: Node, dispatcher: Dispatcher, slow: Slow) -> None:
    node.hooks.rpc["slow"] = slow.hook()
    alice = await came(dispatcher, "alice")
    asking = waiting(alice, CALL)
    await eventually(lambda: slow.called)
    alice.end(Disconnect.shutdown())
    await asyncio.sleep(0)
    assert slow.ended == []
    slow.go.set()
    assert await asking == []  # nobody is there to be told
    assert slow.ended == ["returned"]
