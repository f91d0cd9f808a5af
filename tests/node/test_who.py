"""Lists of presence: read single-flight where that is a request, and made once for as long as nobody comes or goes."""

import asyncio

from freshet.engines.memory import MemoryEngine
from freshet.errors import EngineUnavailable
from freshet.model.log import ClientInfo
from freshet.node.who import KEPT, Who

ALICE, BOB = ClientInfo("alice", "a1"), ClientInfo("bob", "b1")


class Slow(MemoryEngine):
    """As one over a broker. reads: how many have begun. away: none is answered."""

    shared = True

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0
        self.away = False
        self.may_answer = asyncio.Event()

    async def presence(self, channel: str) -> dict[str, ClientInfo]:
        self.reads += 1
        here = await super().presence(channel)
        await self.may_answer.wait()
        if self.away:
            raise EngineUnavailable("away")
        return here


async def test_a_list_is_made_once_for_as_long_as_nobody_comes_or_goes() -> None:
    engine = MemoryEngine()
    who = Who(engine)
    await engine.set_presence("a", "a1", ALICE)
    first = await who.read("a")
    assert await who.read("a") is first
    await engine.set_presence("a", "b1", BOB)
    second = await who.read("a")
    assert (second is first, second.clients, second.users) == (False, {"a1": ALICE, "b1": BOB}, 2)
    await engine.set_presence("a", "a1", None)
    assert (await who.read("a")).clients == {"b1": BOB}


async def test_those_who_ask_at_once_share_a_read_that_is_not_older_than_their_question() -> None:
    engine = Slow()
    who = Who(engine)
    await engine.set_presence("a", "a1", ALICE)
    first = asyncio.create_task(who.read("a"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert engine.reads == 1
    await engine.set_presence("a", "b1", BOB)
    others = [asyncio.create_task(who.read("a")) for _ in range(50)]
    await asyncio.sleep(0)
    engine.may_answer.set()
    assert (await first).clients == {"a1": ALICE}
    for each in others:
        assert (await each).clients == {"a1": ALICE, "b1": BOB}
    assert engine.reads == 2
    await who.stop()


async def test_a_read_that_fails_fails_for_those_who_asked_and_not_for_the_next() -> None:
    engine = Slow()
    who = Who(engine)
    engine.may_answer.set()
    engine.away = True
    for answer in await asyncio.gather(*(who.read("a") for _ in range(3)), return_exceptions=True):
        assert isinstance(answer, EngineUnavailable)
    engine.away = False
    assert (await who.read("a")).clients == {}
    await who.stop()


async def test_few_lists_are_kept() -> None:
    who = Who(MemoryEngine())
    for number in range(10 * KEPT):
        await who.read(str(number))
    assert len(who._kept) == KEPT
