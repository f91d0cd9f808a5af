"""Fair queueing: a portion in each turn, address by address, and nobody twice before the others."""

import asyncio
import logging
from collections.abc import Callable
from typing import cast

import pytest

from freshet.runtime.fair_queue import LEAST, MOST, FairQueue


class Line:
    """A transport of a client at an address."""

    def __init__(self, address: str) -> None:
        self._address = address
        self.aborted = False

    def get_extra_info(self, name: str) -> object:
        return (self._address, 1) if name == "peername" else None

    def abort(self) -> None:
        self.aborted = True


class Scene:
    """done: by whom, in each turn. now: seconds, which pass as the work says."""

    def __init__(self) -> None:
        self.now = 0.0
        self.queue = FairQueue(now=lambda: self.now)
        self.done: list[list[str]] = [[]]

    def work(self, name: str, cost: float) -> Callable[[], None]:
        def work() -> None:
            self.now += cost
            self.done[-1].append(name)

        return work

    def do(self, address: str, *names: str, cost: float = LEAST) -> None:
        for name in names:
            self.queue.do(self.work(name, cost), cast(asyncio.Transport, Line(address)))

    async def turns(self, count: int, *, others: float = 0.0) -> list[list[str]]:
        """What is done in each of the next turns, which take others so long besides."""
        self.done = []
        for _ in range(count):
            self.done.append([])
            self.now += others
            await asyncio.sleep(0)
        return self.done


async def test_what_there_is_time_for_is_done_at_once_and_the_rest_a_portion_a_turn() -> None:
    scene = Scene()
    scene.do("a", "1", "2", "3", "4", "5", cost=LEAST / 2)
    assert scene.done == [["1", "2"]]
    assert await scene.turns(3) == [["3", "4"], ["5"], []]
    scene.do("a", "6")
    assert scene.done[-1] == ["6"]


async def test_each_address_has_its_turn_however_much_another_one_asks_for() -> None:
    scene = Scene()
    scene.do("flood", *map(str, range(100)))
    scene.do("a", "honest")
    assert await scene.turns(4) == [["1"], ["honest"], ["2"], ["3"]]


async def test_behind_a_proxy_one_connection_that_floods_does_not_keep_the_others_waiting() -> None:
    scene, flood = Scene(), cast(asyncio.Transport, Line("proxy"))
    for number in range(100):
        scene.queue.do(scene.work(str(number), LEAST), flood)
    scene.do("proxy", "honest", "another")
    assert await scene.turns(5) == [["1"], ["honest"], ["another"], ["2"], ["3"]]
    scene.do("elsewhere", "honest")
    assert await scene.turns(3) == [["4"], ["honest"], ["5"]]


async def test_who_has_more_to_do_waits_for_the_next_turn_though_there_is_time_in_this_one() -> None:
    scene, line = Scene(), cast(asyncio.Transport, Line("a"))

    def again() -> None:
        scene.done[-1].append("again")
        scene.queue.defer(again, line)

    scene.queue.defer(again, line)
    assert await scene.turns(3) == [["again"], ["again"], ["again"]]


async def test_where_the_rest_of_a_turn_takes_longer_there_is_as_much_time_up_to_a_bound() -> None:
    scene = Scene()
    scene.do("a", *map(str, range(100)))
    assert list(map(len, await scene.turns(3, others=4 * LEAST))) == [4, 4, 4]
    assert len((await scene.turns(1, others=100 * MOST))[0]) <= MOST / LEAST + 1


async def test_what_is_charged_leaves_less_time_for_what_comes() -> None:
    scene = Scene()
    scene.queue.charge(LEAST)
    assert not scene.queue.has_time
    scene.do("a", "1")
    assert scene.done == [[]]
    assert await scene.turns(1) == [["1"]]


async def test_the_work_of_a_client_that_fails_ends_that_client_alone(caplog: pytest.LogCaptureFixture) -> None:
    scene, line = Scene(), Line("a")

    def fails() -> None:
        raise RuntimeError("in its work")

    with caplog.at_level(logging.ERROR):
        scene.queue.defer(fails, cast(asyncio.Transport, line))
        scene.do("a", "1")
        assert await scene.turns(1) == [["1"]]
    assert (line.aborted, len(caplog.records)) == (True, 1)


async def test_a_peer_without_an_address_has_its_turn() -> None:
    scene = Scene()
    line = Line("")
    line.get_extra_info = lambda name: "/run/a.sock"  # type: ignore[method-assign]
    scene.queue.defer(scene.work("1", 0), cast(asyncio.Transport, line))
    assert await scene.turns(1) == [["1"]]
