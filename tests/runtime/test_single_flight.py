"""Whoever asks gets an answer that began after the question, and as few as can be are made."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from freshet.errors import EngineUnavailable
from freshet.runtime.single_flight import SingleFlight
from tests.tools.patience import eventually


class Source:
    """Answers with how many questions came before, once it is let. away: it cannot."""

    def __init__(self) -> None:
        self.reads = 0
        self.let = asyncio.Event()
        self.away = False

    async def read(self) -> int:
        self.reads += 1
        number = self.reads
        await self.let.wait()
        if self.away:
            raise EngineUnavailable("away")
        return number


@pytest.fixture
async def flights() -> AsyncIterator[SingleFlight[int]]:
    it = SingleFlight[int]("a test")
    yield it
    await it.stop()


async def under_way(source: Source, flights: SingleFlight[int]) -> "asyncio.Future[int]":
    """A question whose answer has begun."""
    reads = source.reads
    asking = asyncio.ensure_future(flights.share("a", source.read))
    await eventually(lambda: source.reads > reads)
    return asking


async def test_those_who_ask_at_once_share_one_answer(flights: SingleFlight[int]) -> None:
    source = Source()
    source.let.set()
    assert await asyncio.gather(*(flights.share("a", source.read) for _ in range(100))) == [1] * 100
    assert await flights.share("a", source.read) == 2
    assert not len(flights)


async def test_who_asks_while_an_answer_is_on_its_way_shares_the_next(flights: SingleFlight[int]) -> None:
    source = Source()
    early = await under_way(source, flights)
    late = [asyncio.ensure_future(flights.share("a", source.read)) for _ in range(100)]
    await asyncio.sleep(0)
    source.let.set()
    assert await early == 1
    assert await asyncio.gather(*late) == [2] * 100
    assert not len(flights)


async def test_what_is_about_something_else_does_not_wait(flights: SingleFlight[int]) -> None:
    slow, quick = Source(), Source()
    quick.let.set()
    early = await under_way(slow, flights)
    assert await flights.share("b", quick.read) == 1
    slow.let.set()
    assert await early == 1


async def test_one_that_gives_up_takes_the_answer_from_nobody(flights: SingleFlight[int]) -> None:
    source = Source()
    first = await under_way(source, flights)
    others = [asyncio.ensure_future(flights.share("a", source.read)) for _ in range(2)]
    await asyncio.sleep(0)
    first.cancel()
    others[0].cancel()
    source.let.set()
    assert await others[1] == 2
    assert not len(flights)


async def test_a_failure_is_that_of_all_who_share_it_and_the_next_is_tried(flights: SingleFlight[int]) -> None:
    source = Source()
    source.away = True
    source.let.set()
    answers = await asyncio.gather(*(flights.share("a", source.read) for _ in range(3)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [EngineUnavailable] * 3
    source.away = False
    assert await flights.share("a", source.read) == 2


async def test_nothing_is_left_of_what_was_stopped() -> None:
    source, flights = Source(), SingleFlight[int]("a test")
    asking = [await under_way(source, flights), asyncio.ensure_future(flights.share("a", source.read))]
    await asyncio.sleep(0)
    await flights.stop()
    assert not len(flights)
    for answer in await asyncio.gather(*asking, return_exceptions=True):
        assert isinstance(answer, asyncio.CancelledError)
