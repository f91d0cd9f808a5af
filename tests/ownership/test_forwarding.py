"""The way of a request to the owner of a name, over a bus that loses messages and nodes that die."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from freshet.config import Config
from freshet.engines.base import Receiver
from freshet.engines.local.engine import LocalEngine
from freshet.engines.local.host_hub import HostHub
from freshet.engines.local.messages import EngineSettings
from freshet.engines.memory import MemoryEngine
from freshet.errors import EngineUnavailable, StoreUnavailable
from freshet.node.node import Node
from freshet.ownership.forwarding import Forwarding
from freshet.ownership.leases import Leases, NotOwner
from freshet.stores.memory import MemoryStore
from tests.tools.patience import eventually

TTL = 0.8


class Server:
    """A node that serves requests: it says who it is, and what was asked. served: ids, and whether they came again."""

    def __init__(self, path: str, store: MemoryStore) -> None:
        self.node = Node(Config(), LocalEngine([path], EngineSettings("memory://")))
        self.leases = Leases(self.node, store, TTL, lambda name: None)
        self.forwarding = Forwarding(self.node, self.leases, "test", self._serve, TTL)
        self.served: list[tuple[str, bool]] = []
        self.go = asyncio.Event()
        self.go.set()
        self.error: Exception | None = None

    async def start(self) -> None:
        await self.node.engine.start(self.node.id, Receiver(lambda it: None, lambda it: None, self.node.bus.receive))
        self.leases.start()

    async def stop(self) -> None:
        await self.leases.stop()
        await self.node.tasks.stop()
        await self.node.bus.stop()
        await self.node.engine.stop()

    async def _serve(self, name: str, id: str, body: bytes, again: bool) -> bytes:
        self.leases.fence(name)
        self.served.append((id, again))
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        await self.go.wait()
        return b"%b of %b" % (body, self.node.id.encode())


@pytest.fixture
async def servers(tmp_path: Path) -> AsyncIterator[list[Server]]:
    hub = HostHub(str(tmp_path / "hub"), lambda wanted: MemoryEngine())
    await hub.start()
    store = MemoryStore()
    servers = [Server(str(tmp_path / "hub"), store) for _ in range(2)]
    for server in servers:
        await server.start()
    yield servers
    for server in servers:
        await server.stop()
    await hub.stop()


async def test_whoever_is_asked_first_owns_it_and_answers_all(servers: list[Server]) -> None:
    one, two = servers
    expected = b"x of " + one.node.id.encode()
    assert await one.forwarding.call("a", b"x", 5) == expected
    assert await two.forwarding.call("a", b"x", 5) == expected
    assert [again for _, again in one.served] == [False, False]
    assert two.served == []


async def test_when_the_owner_lets_it_go_the_next_who_is_asked_has_it(servers: list[Server]) -> None:
    one, two = servers
    await one.forwarding.call("a", b"x", 5)
    await two.forwarding.call("a", b"x", 5)
    await one.leases.release("a")
    assert await two.forwarding.call("a", b"x", 5) == b"x of " + two.node.id.encode()
    assert await one.forwarding.call("a", b"x", 5) == b"x of " + two.node.id.encode()


async def test_a_request_whose_owner_is_gone_goes_with_the_same_id_to_the_next(servers: list[Server]) -> None:
    one, two = servers
    await one.forwarding.call("a", b"x", 5)
    one.go.clear()
    asking = asyncio.create_task(two.forwarding.call("a", b"y", 20, id="the request"))
    await eventually(lambda: ("the request", False) in one.served)
    one.leases._timer.cancel()  # type: ignore[union-attr]  # it renews nothing any more
    assert await asking == b"y of " + two.node.id.encode()
    assert two.served == [("the request", True)]


async def test_a_request_that_comes_again_to_the_same_owner_is_served_once(servers: list[Server]) -> None:
    one, two = servers
    await one.forwarding.call("a", b"x", 5)
    one.go.clear()
    asking = [asyncio.create_task(two.forwarding.call("a", b"y", 5, id="same")) for _ in range(3)]
    await eventually(lambda: len(one.served) == 2)
    one.go.set()
    assert set(await asyncio.gather(*asking)) == {b"y of " + one.node.id.encode()}
    assert [id for id, _ in one.served].count("same") == 1


async def test_what_an_owner_cannot_do_is_said_and_not_tried_elsewhere(servers: list[Server]) -> None:
    one, two = servers
    await one.forwarding.call("a", b"x", 5)
    one.error = StoreUnavailable("the disk is full")
    with pytest.raises(EngineUnavailable, match="the disk is full"):
        await two.forwarding.call("a", b"x", 5)
    assert two.served == []


async def test_who_is_no_longer_the_owner_when_it_comes_to_that_is_asked_no_more(servers: list[Server]) -> None:
    one, two = servers
    await one.forwarding.call("a", b"x", 5)
    one.error = NotOwner("lost meanwhile")
    assert await two.forwarding.call("a", b"x", 5, id="it") == b"x of " + one.node.id.encode()
    assert one.served[-2:] == [("it", False), ("it", True)]


async def test_nobody_waits_for_ever(servers: list[Server]) -> None:
    one, two = servers
    await one.forwarding.call("a", b"x", 5)
    one.go.clear()
    with pytest.raises(EngineUnavailable):
        await two.forwarding.call("a", b"x", 0.3)
    one.go.set()
