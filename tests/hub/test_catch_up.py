"""One read serves all who come back at once, and none that began too early."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from freshet.engines.memory import MemoryEngine
from freshet.errors import EngineUnavailable
from freshet.hub.catch_up import CatchUp
from freshet.model.log import OLDEST, History, Position, PublishOptions, Stream
from tests.contracts.engine import Delivered

KEEP = History(size=10, ttl=60)
LOGGED = PublishOptions(history=KEEP)


class Slow(MemoryEngine):
    """Reads when it is let. reads: from where, of each. away: every read fails."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[Position | None] = []
        self.let = asyncio.Event()
        self.let.set()
        self.away = False

    async def history(
        self, channel: str, keep: History, since: Position | None = None, limit: int = -1, reverse: bool = False
    ) -> Stream:
        self.reads.append(since)
        stream = await super().history(channel, keep, since, limit, reverse)
        await self.let.wait()
        if self.away:
            raise EngineUnavailable("away")
        return stream


@pytest.fixture
async def engine() -> AsyncIterator[Slow]:
    it = Slow()
    await it.start("node", Delivered().receiver)
    yield it
    await it.stop()


def offsets(stream: Stream) -> list[int]:
    return [publication.offset for publication in stream.publications]


async def test_each_gets_what_it_missed_from_one_read(engine: Slow) -> None:
    for index in range(8):
        last = await engine.publish("a", b"%d" % index, LOGGED)
    places = [Position(last.epoch, 5), Position(last.epoch, 3), Position(last.epoch, 8), Position(last.epoch, 99)]
    reading = CatchUp(engine)
    answers = await asyncio.gather(*(reading.read("a", KEEP, since) for since in places))
    assert engine.reads == [Position(last.epoch, 3)]
    assert [offsets(answer) for answer in answers] == [[6, 7, 8], [4, 5, 6, 7, 8], [], []]
    assert {answer.position for answer in answers} == {last}
    everything, _ = await asyncio.gather(reading.read("a", KEEP, OLDEST), reading.read("a", KEEP, places[0]))
    assert offsets(everything) == list(range(1, 9))
    assert engine.reads[1:] == [None]


async def test_who_asks_while_a_read_is_under_way_waits_for_the_next(engine: Slow) -> None:
    """The first read does not know what was published since it began."""
    first = await engine.publish("a", b"1", LOGGED)
    engine.let.clear()
    reading = CatchUp(engine)
    early = asyncio.create_task(reading.read("a", KEEP, OLDEST))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    last = await engine.publish("a", b"2", LOGGED)
    late = [asyncio.create_task(reading.read("a", KEEP, first)) for _ in range(1000)]
    await asyncio.sleep(0)
    engine.let.set()
    assert (await early).position == first
    for answer in await asyncio.gather(*late):
        assert (offsets(answer), answer.position) == ([2], last)
    assert len(engine.reads) == 2


async def test_a_read_that_fails_fails_for_those_who_share_it_and_the_next_is_tried(engine: Slow) -> None:
    reading = CatchUp(engine)
    engine.away = True
    answers = await asyncio.gather(*(reading.read("a", KEEP, OLDEST) for _ in range(3)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [EngineUnavailable] * 3
    engine.away = False
    assert (await reading.read("a", KEEP, OLDEST)).position.offset == 0


async def test_one_that_gives_up_does_not_take_the_read_from_the_others(engine: Slow) -> None:
    engine.let.clear()
    reading = CatchUp(engine)
    gone, stays = (asyncio.create_task(reading.read("a", KEEP, OLDEST)) for _ in range(2))
    await asyncio.sleep(0)
    gone.cancel()
    engine.let.set()
    assert (await stays).position.offset == 0


async def test_channels_do_not_wait_for_each_other(engine: Slow) -> None:
    reading = CatchUp(engine)
    engine.let.clear()
    a, b = (asyncio.create_task(reading.read(channel, KEEP, OLDEST)) for channel in "ab")
    for _ in range(3):
        await asyncio.sleep(0)
    assert len(engine.reads) == 2
    engine.let.set()
    await asyncio.gather(a, b)
