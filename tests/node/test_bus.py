"""Requests between nodes, when the one that is asked is there, busy, or gone."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from freshet.engines.base import Engine
from freshet.errors import EngineUnavailable
from freshet.node import bus as module
from freshet.node.bus import Bus
from tests.tools.patience import eventually


class Wire:
    """What `Bus` needs of an engine. away: nothing can be sent. refused: how much was to be sent meanwhile."""

    shared = True

    def __init__(self) -> None:
        self.nodes: dict[str, Callable[[bytes], None]] = {}
        self.sent: list[str | None] = []
        self.away = False
        self.refused = 0
        self.go = asyncio.Event()

    async def tell(self, node: str | None, message: bytes) -> None:
        if self.away:
            self.refused += 1
            raise EngineUnavailable("the engine is away")
        self.sent.append(node)
        for name, receive in self.nodes.items():
            if node in (name, None):  # who tells all hears itself here: it has to bear that
                asyncio.get_running_loop().call_soon(receive, message)

    def node(self, name: str) -> Bus:
        it = Bus(name, cast(Engine, self))
        self.nodes[name] = it.receive
        return it

    async def slowly(self, body: bytes) -> bytes:
        """What answers when it is told to."""
        await self.go.wait()
        return body.upper()


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    monkeypatch.setattr(module, "PROBE_INTERVAL", 0.02)
    monkeypatch.setattr(module, "PROBE_TIMEOUT", 30)
    return Wire()


async def test_a_node_may_take_long_and_is_not_probed_when_nothing_waits(wire: Wire) -> None:
    one, two = wire.node("one"), wire.node("two")
    two.handlers["slowly"] = wire.slowly
    asking = [asyncio.create_task(one.request("two", "slowly", b"a", 30)) for _ in range(20)]
    await eventually(lambda: wire.sent.count("two") >= 20 + 3)
    assert wire.sent.count("two") < 20 + 20  # one probe for all that wait, not one for each
    wire.go.set()
    assert await asyncio.gather(*asking) == [b"A"] * 20
    await eventually(lambda: not one._probing)
    sent = len(wire.sent)
    await asyncio.sleep(0.2)
    assert len(wire.sent) == sent


async def test_a_node_that_replies_at_once_is_not_probed(wire: Wire) -> None:
    async def quickly(body: bytes) -> bytes:
        return body

    one, two = wire.node("one"), wire.node("two")
    two.handlers["quickly"] = quickly
    assert await one.request("two", "quickly", b"a", 5) == b"a"
    await eventually(lambda: not one._probing)
    assert wire.sent.count("two") == 1


async def test_a_request_to_a_node_that_dies_fails_long_before_its_deadline(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = wire.node("one"), wire.node("two")
    two.handlers["slowly"] = wire.slowly
    asking = [asyncio.create_task(one.request("two", "slowly", b"a", 3600)) for _ in range(3)]
    await eventually(lambda: wire.sent.count("two") >= 3)
    del wire.nodes["two"]
    monkeypatch.setattr(module, "PROBE_TIMEOUT", 0.1)
    for each in asking:  # each would wait for an hour, by which the test would not end
        with pytest.raises(EngineUnavailable, match="node two does not reply"):
            await each
    await eventually(lambda: not one._probing and not one._requests)


async def test_an_engine_that_is_away_for_a_while_says_nothing_about_a_node(wire: Wire) -> None:
    one, two = wire.node("one"), wire.node("two")
    two.handlers["slowly"] = wire.slowly
    asking = asyncio.create_task(one.request("two", "slowly", b"a", 30))
    await eventually(lambda: wire.sent)
    wire.away = True
    await eventually(lambda: wire.refused >= 3, what="probes that cannot be sent")
    wire.away = False
    wire.go.set()
    assert await asking == b"A"


async def test_a_request_that_nobody_waits_for_any_more_is_cancelled(wire: Wire) -> None:
    one, two = wire.node("one"), wire.node("two")
    cancellations: list[Any] = []

    async def wait(body: bytes, cancelled: asyncio.Event) -> bytes:
        await cancelled.wait()
        cancellations.append(body)
        return b""

    two.waiting_handlers["wait"] = wait
    asking = asyncio.create_task(one.request("two", "wait", b"a", 30))
    await eventually(lambda: wire.sent)
    asking.cancel()
    await eventually(lambda: cancellations == [b"a"])


async def test_all_that_have_come_are_asked_and_who_left_or_died_is_not(wire: Wire) -> None:
    async def name(node: str) -> bytes:
        return node.encode()

    made = {each: wire.node(each) for each in ("one", "two", "three")}
    for each, node in made.items():
        node.handlers["name"] = lambda body, each=each: name(each)
    for node in made.values():
        await node.announce()
    await eventually(lambda: all(len(node.peers) == 2 for node in made.values()))
    assert await made["two"].request_all("name", b"", 1) == [b"two", b"one", b"three"]
    await made["three"].announce(leaving=True)
    await eventually(lambda: made["two"].peers == {"one"})
    del wire.nodes["one"]
    assert await made["two"].request_all("name", b"", 0.2) == [b"two"]
    assert made["two"].peers == set()


async def test_garbage_for_a_name_is_no_node_for_long_and_there_are_not_many(wire: Wire) -> None:
    one = wire.node("one")
    for number in range(module.KNOWN_NODES + 10):
        await one._joined(b"\xff" * 100 + b"%d" % number)
        await one._joined(b"stranger %d" % number)
    assert len(one.peers) <= module.KNOWN_NODES
    assert all(len(node) <= module.NODE_NAME for node in one.peers)
    await one._left(b"\xff")


async def test_requests_to_nodes_that_a_client_invented_are_few_at_a_time_and_those_to_real_ones_are_not(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PROBE_TIMEOUT", 0.1)
    one, two = wire.node("one"), wire.node("two")
    two.handlers["slowly"] = wire.slowly
    wire.go.set()
    await two.announce()
    await eventually(lambda: "two" in one.peers)
    asking = []
    for number in range(1000):
        if one.may_reach(f"invented-{number}"):
            asking.append(asyncio.create_task(one.request(f"invented-{number}", "slowly", b"", 30)))
            await asyncio.sleep(0)
    assert len(asking) == module.STRANGERS
    assert one.may_reach("two")
    assert await one.request("two", "slowly", b"a", 5) == b"A"
    for failed in await asyncio.gather(*asking, return_exceptions=True):
        assert isinstance(failed, EngineUnavailable)
    assert one.may_reach("invented-1")  # it may have come meanwhile
    assert not one.may_reach("x" * (module.NODE_NAME + 1))
    assert not one.may_reach("")
