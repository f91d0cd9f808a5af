"""What a client sees of itself, on every engine: the reply, its own join, then what is published; never its leave.

A test module for an engine gives the fixture `engine`, not started, and if it is shared `another` as for `nodes.py`,
and imports all of this.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from freshet.commands.dispatch import Dispatcher
from freshet.engines.base import Engine
from freshet.errors import Disconnect
from freshet.model.log import History
from freshet.rules.rules import ChannelRule
from freshet.session.session import Session
from tests.tools.patience import eventually
from tests.tools.sessions import Wire, connected, running, say, taken

LOG = History(size=100, ttl=60)
RULES = (
    ChannelRule("logged:*", history=LOG, presence=True, join_leave=True),
    ChannelRule("delta:*", history=LOG, delta=True, presence=True, join_leave=True),
    ChannelRule("plain:*", presence=True, join_leave=True),
)


class Watched:
    """A client, and all that it was sent, in short: `subscribe`, `join X`, `publication`, ...

    names: of all clients, by their id.
    """

    def __init__(self, session: Session, names: dict[str, str], name: str) -> None:
        self.session = session
        self.name = names[session.id] = name
        self._names = names
        self._received: list[str] = []

    async def say(self, *commands: Wire) -> None:
        """All at once, as one frame."""
        self._note(await say(self.session, *commands))

    async def subscribe(self, channel: str) -> None:
        await self.say({"id": 1, "subscribe": {"channel": channel}})

    async def publish(self, channel: str) -> None:
        await self.say({"id": 2, "publish": {"channel": channel, "data": 1}})

    async def until(self, last: str) -> list[str]:
        """What it was sent since this was asked last, up to `last`."""
        await eventually(lambda: self._note(taken(self.session)) or last in self._received, 5, last)
        end = self._received.index(last) + 1
        received, self._received = self._received[:end], self._received[end:]
        return received

    def _note(self, wires: list[Wire]) -> None:
        for wire in wires:
            self._received += self._short(wire)

    def _short(self, wire: Wire) -> list[str]:
        push = wire.get("push", {})
        if "pub" in push:
            return ["publication"]
        for kind in {"join", "leave"} & push.keys():
            return [f"{kind} {self._names[push[kind]['info']['client']]}"]
        missed = len(wire.get("subscribe", {}).get("publications", []))
        # The answer to a publication may overtake the publication, or come behind it.
        return [key for key in wire if key not in ("id", "publish")] + ["missed"] * missed


@pytest.fixture
async def nodes(engine: Engine, request: pytest.FixtureRequest) -> AsyncIterator[list[Dispatcher]]:
    """Two where the engine is shared, or else one."""
    engines = [engine, request.getfixturevalue("another")()] if engine.shared else [engine]
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(running(*RULES, engine=each)) for each in engines]


class Crowd:
    """Clients who take turns at the nodes."""

    def __init__(self, nodes: list[Dispatcher]) -> None:
        self._nodes = nodes
        self._names: dict[str, str] = {}

    async def come(self, name: str) -> Watched:
        node = self._nodes[len(self._names) % len(self._nodes)]
        return Watched(await connected(node), self._names, name)


@pytest.fixture
def crowd(nodes: list[Dispatcher]) -> Crowd:
    return Crowd(nodes)


@pytest.fixture(params=["logged:a", "delta:a", "plain:a"])
def channel(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("others", [0, 2], ids=["alone", "beside others"])
async def test_a_client_sees_itself_join_and_then_what_it_publishes(crowd: Crowd, channel: str, others: int) -> None:
    for number in range(others):
        other = await crowd.come(f"other {number}")
        await other.subscribe(channel)
        await other.until(f"join {other.name}")
    for number in range(8):
        client = await crowd.come(f"{number}")
        subscribe = {"id": 1, "subscribe": {"channel": channel}}
        await client.say(subscribe, {"id": 2, "publish": {"channel": channel, "data": 1}})
        assert await client.until("publication") == ["subscribe", f"join {number}", "publication"]
        await client.say({"id": 3, "unsubscribe": {"channel": channel}})


async def test_a_client_that_recovers_sees_itself_join_behind_what_it_missed(crowd: Crowd) -> None:
    other = await crowd.come("other")
    await other.subscribe("logged:a")
    [reply] = [each for each in await say(other.session, {"id": 2, "history": {"channel": "logged:a"}}) if "id" in each]
    for _ in range(3):
        await other.publish("logged:a")
    for number in range(8):
        client = await crowd.come(f"{number}")
        recover = {"channel": "logged:a", "recover": True, "epoch": reply["history"]["epoch"], "offset": number}
        await client.say({"id": 1, "subscribe": recover}, {"id": 2, "publish": {"channel": "logged:a", "data": 1}})
        missed = ["missed"] * 3
        assert await client.until("publication") == ["subscribe", *missed, f"join {number}", "publication"]


async def test_a_client_that_goes_and_comes_back_at_once_sees_itself_join_and_not_leave(
    crowd: Crowd, channel: str
) -> None:
    """Its leave is on the way while it comes back."""
    other = await crowd.come("other")
    await other.subscribe(channel)
    for number in range(8):
        client = await crowd.come(f"{number}")
        await client.subscribe(channel)
        await client.until(f"join {number}")
        await client.say(
            {"id": 3, "unsubscribe": {"channel": channel}},
            {"id": 4, "subscribe": {"channel": channel}},
            {"id": 2, "publish": {"channel": channel, "data": 1}},
        )
        assert await client.until("publication") == ["unsubscribe", "subscribe", f"join {number}", "publication"]


@pytest.mark.parametrize("end", ["unsubscribes", "is gone"])
async def test_those_who_remain_see_who_came_and_who_left_and_who_left_hears_nothing(
    crowd: Crowd, channel: str, end: str
) -> None:
    stays, goes = await crowd.come("stays"), await crowd.come("goes")
    await stays.subscribe(channel)
    await stays.until("join stays")
    await goes.subscribe(channel)
    assert await goes.until("join goes") == ["subscribe", "join goes"]
    if end == "unsubscribes":
        await goes.say({"id": 3, "unsubscribe": {"channel": channel}})
        await goes.until("unsubscribe")
    else:
        goes.session.end(Disconnect.normal())
    assert await stays.until("leave goes") == ["join goes", "leave goes"]
    await stays.publish(channel)
    assert await stays.until("publication") == ["publication"]
    assert taken(goes.session) == []


async def test_many_who_come_at_once_each_see_themselves_and_everybody_behind_them(
    crowd: Crowd, channel: str, nodes: list[Dispatcher]
) -> None:
    before = [await crowd.come(f"before {number}") for number in range(len(nodes))]
    for each in before:
        await each.subscribe(channel)
        await each.until(f"join {each.name}")
    clients = [await crowd.come(f"{number}") for number in range(16)]
    await asyncio.gather(*(client.subscribe(channel) for client in clients))
    last = await crowd.come("last")
    await last.subscribe(channel)
    await last.until("join last")
    await last.publish(channel)
    seen = [await each.until("publication") for each in before]
    for number, client in enumerate(clients):
        received = await client.until("publication")
        assert received[0] == "subscribe"
        assert set(Counter(received).values()) == {1}  # nobody twice
        own = received.index(f"join {client.name}")
        by_others = seen[number % len(nodes)]  # at the same node
        assert received[own:] == by_others[by_others.index(f"join {client.name}") :]


async def test_a_client_that_leaves_before_it_was_told_of_its_join_is_not_told(crowd: Crowd, channel: str) -> None:
    client = await crowd.come("client")
    await client.say({"id": 1, "subscribe": {"channel": channel}}, {"id": 3, "unsubscribe": {"channel": channel}})
    await client.until("unsubscribe")
    other = await crowd.come("other")
    await other.subscribe(channel)
    await other.until("join other")
    assert taken(client.session) == []
