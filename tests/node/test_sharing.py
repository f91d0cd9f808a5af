"""Rates of all nodes together: what the nodes tell one another. `tests/contracts` tries it over every engine."""

import asyncio
import logging

import msgspec
import pytest

from freshet import Freshet
from freshet.config import Config, Rates
from freshet.engines.memory import MemoryEngine
from freshet.errors import EngineUnavailable
from freshet.node.bus import Bus, BusMessage
from freshet.node.sharing import INTERVAL, MOST, PORTION, USED, Sharing
from freshet.runtime.rates import Rate
from freshet.testing import ManualClock
from tests.policy.test_limits import refused

ALL = Rate(1, 100)


class Wire(MemoryEngine):
    """An engine whose messages between nodes go to `sent`, or nowhere while it is `away`."""

    shared = True

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[bytes] = []
        self.away = False

    async def tell(self, node: str | None, message: bytes) -> None:
        if self.away:
            raise EngineUnavailable("away")
        self.sent.append(message)


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def sharing(wire: Wire, clock: ManualClock) -> Sharing:
    return Sharing(Bus("one", wire), clock, "cluster")


async def test_what_was_used_meanwhile_goes_in_one_message(sharing: Sharing, wire: Wire, clock: ManualClock) -> None:
    users, channels = sharing.buckets("user", ALL), sharing.buckets("channel", ALL)
    for _ in range(10):
        users.take("alice", clock.now)
        channels.take("news", clock.now, 2)
    assert wire.sent == []
    await clock.advance(INTERVAL)
    bodies = [msgspec.msgpack.decode(msgspec.msgpack.decode(message, type=BusMessage).body) for message in wire.sent]
    assert bodies == [{"user": {"alice": 10}}, {"channel": {"news": 20}}]
    await clock.advance(10 * INTERVAL)
    assert len(wire.sent) == 2, "who is quiet sends nothing"


async def test_many_go_in_portions(sharing: Sharing, wire: Wire, clock: ManualClock) -> None:
    users = sharing.buckets("user", ALL)
    for number in range(2 * PORTION + 1):
        users.take(f"user {number}", clock.now, 2)
    await clock.advance(INTERVAL)
    assert len(wire.sent) == 3


async def test_with_the_engine_away_each_node_limits_by_itself_and_says_so(
    sharing: Sharing, wire: Wire, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    users = sharing.buckets("user", ALL)
    wire.away = True
    with caplog.at_level(logging.WARNING, "freshet.limits"):
        assert sum(not users.take("alice", clock.now) for _ in range(500)) == 100
        await clock.advance(INTERVAL)
        assert sum(not users.take("alice", clock.now) for _ in range(500)) == 0
    assert "each limits by itself" in caplog.text
    wire.away = False
    await clock.advance(50)
    assert wire.sent == [], "what is no longer true is not told"
    assert sum(not users.take("alice", clock.now) for _ in range(500)) == 50


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        msgspec.msgpack.encode([1]),
        msgspec.msgpack.encode({"user": {"alice": -100}}),
        msgspec.msgpack.encode({"user": {"alice": float("inf")}}),
        msgspec.msgpack.encode({"user": {"alice": float("nan")}}),
        msgspec.msgpack.encode({"user": {"alice": 2 * MOST}}),
        msgspec.msgpack.encode({"another": {"alice": 100}}),
    ],
)
async def test_what_no_node_would_say_changes_nothing(sharing: Sharing, clock: ManualClock, body: bytes) -> None:
    users = sharing.buckets("user", ALL)
    sharing._bus.receive(msgspec.msgpack.encode(BusMessage(USED, body)))
    await asyncio.gather(*sharing._bus._tasks._running)
    assert len(users) == 0
    assert users.take("alice", clock.now, 100) == 0


async def test_the_clients_of_a_user_are_refused_for_what_its_clients_elsewhere_did() -> None:
    clock = ManualClock()
    config = Config(rates=Rates(scope="cluster", user=Rate(1, 10)))
    live = Freshet(dev=True, environment={}, config=config, clock=clock)
    live.rpc("echo")(lambda session, data: data)
    async with live.lifespan(), live.test_client(user="alice") as client, live.test_client(user="bob") as other:
        assert await client.rpc("echo", 1) == 1
        body = msgspec.msgpack.encode({"user": {"alice": 100.0}})
        live._node.bus.receive(msgspec.msgpack.encode(BusMessage(USED, body)))
        await asyncio.gather(*live._node.bus._tasks._running)
        await refused(111, client.rpc("echo", 1))
        assert await other.rpc("echo", 1) == 1
        await clock.advance(105)
        assert await client.rpc("echo", 1) == 1


async def test_by_default_nothing_is_told(wire: Wire, clock: ManualClock) -> None:
    users = Sharing(Bus("one", wire), clock, "process").buckets("user", ALL)
    users.take("alice", clock.now, 100)
    await clock.advance(INTERVAL)
    assert wire.sent == []
