"""Questions that nodes ask each other, when the one that is asked is there, busy, or gone."""

import asyncio
import time
from collections.abc import Callable
from typing import Any, cast

import pytest

from freshet.engines.base import Engine
from freshet.errors import EngineUnavailable
from freshet.node import bus as peers
from freshet.node.bus import Peers
from tests.tools.patience import eventually


class Bus:
    """What `Peers` needs of an engine. away: it tells nobody anything."""

    shared = True

    def __init__(self) -> None:
        self.nodes: dict[str, Callable[[bytes], None]] = {}
        self.told: list[str | None] = []
        self.away = False

    async def tell(self, node: str | None, message: bytes) -> None:
        if self.away:
            raise EngineUnavailable("the bus is away")
        self.told.append(node)
        for name, hear in self.nodes.items():
            if node in (name, None):  # who tells all hears itself here: it has to bear that
                asyncio.get_running_loop().call_soon(hear, message)

    def node(self, name: str) -> Peers:
        it = Peers(name, cast(Engine, self))
        self.nodes[name] = it.hear
        return it


async def slowly(body: bytes, gone: asyncio.Event) -> bytes:
    await asyncio.sleep(0.5)
    return body.upper()


@pytest.fixture
def bus(monkeypatch: pytest.MonkeyPatch) -> Bus:
    monkeypatch.setattr(peers, "LOOK", 0.05)
    monkeypatch.setattr(peers, "LIFE", 0.1)
    return Bus()


async def test_who_is_there_may_take_long_and_is_not_looked_at_when_nothing_waits(bus: Bus) -> None:
    one, two = bus.node("one"), bus.node("two")
    two.verbs["slowly"] = slowly
    assert await asyncio.gather(*(one.ask("two", "slowly", b"a", 5) for _ in range(20))) == [b"A"] * 20
    await eventually(lambda: not one._watched)
    looks = bus.told.count("two") - 20
    assert 3 <= looks <= 12  # one for all that wait, not one for each
    await asyncio.sleep(0.2)
    assert bus.told.count("two") == looks + 20


async def test_a_node_that_answers_at_once_is_not_looked_at(bus: Bus) -> None:
    async def quickly(body: bytes, gone: asyncio.Event) -> bytes:
        return body

    one, two = bus.node("one"), bus.node("two")
    two.verbs["quickly"] = quickly
    assert await one.ask("two", "quickly", b"a", 5) == b"a"
    await eventually(lambda: not one._watched)
    assert bus.told.count("two") == 1


async def test_a_question_to_a_node_that_dies_fails_soon(bus: Bus) -> None:
    one, two = bus.node("one"), bus.node("two")
    two.verbs["slowly"] = slowly
    asking = [asyncio.create_task(one.ask("two", "slowly", b"a", 30)) for _ in range(3)]
    await asyncio.sleep(0.1)
    del bus.nodes["two"]
    began = time.monotonic()
    for each in asking:
        with pytest.raises(EngineUnavailable, match="node two does not answer"):
            await each
    assert time.monotonic() - began < 2
    await eventually(lambda: not one._watched and not one._asked)


async def test_an_engine_that_is_away_for_a_while_says_nothing_about_a_node(bus: Bus) -> None:
    one, two = bus.node("one"), bus.node("two")
    two.verbs["slowly"] = slowly
    asking = asyncio.create_task(one.ask("two", "slowly", b"a", 30))
    await asyncio.sleep(0.01)
    bus.away = True
    await asyncio.sleep(0.3)
    bus.away = False
    assert await asking == b"A"


async def test_a_question_that_nobody_waits_for_any_more_is_called_off(bus: Bus) -> None:
    one, two = bus.node("one"), bus.node("two")
    called_off: list[Any] = []

    async def wait(body: bytes, gone: asyncio.Event) -> bytes:
        await gone.wait()
        called_off.append(body)
        return b""

    two.verbs["wait"] = wait
    asking = asyncio.create_task(one.ask("two", "wait", b"a", 30))
    await asyncio.sleep(0.05)
    asking.cancel()
    await eventually(lambda: called_off == [b"a"])


async def test_all_that_have_come_are_asked_and_who_left_or_died_is_not(bus: Bus) -> None:
    async def name(node: str) -> bytes:
        return node.encode()

    made = {each: bus.node(each) for each in ("one", "two", "three")}
    for each, node in made.items():
        node.verbs["name"] = lambda body, gone, each=each: name(each)
    for node in made.values():
        await node.announce()
    await eventually(lambda: all(len(node.others) == 2 for node in made.values()))
    assert await made["two"].ask_all("name", b"", 1) == [b"two", b"one", b"three"]
    await made["three"].announce(end=True)
    await eventually(lambda: made["two"].others == {"one"})
    del bus.nodes["one"]
    assert await made["two"].ask_all("name", b"", 0.2) == [b"two"]
    assert made["two"].others == set()


async def test_garbage_for_a_name_is_no_node_for_long_and_there_are_not_many(bus: Bus) -> None:
    one = bus.node("one")
    for number in range(peers.MOST + 10):
        await one._came(b"\xff" * 100 + b"%d" % number, asyncio.Event())
        await one._came(b"stranger %d" % number, asyncio.Event())
    assert len(one.others) <= peers.MOST
    assert all(len(node) <= peers.LONGEST for node in one.others)
    await one._left(b"\xff", asyncio.Event())
