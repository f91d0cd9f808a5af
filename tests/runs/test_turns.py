"""Whose turn it is in a channel, while the log is slow: what is begun is begun once, and what is stopped never."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from freshet import Config, Freshet, Run
from freshet.config import Runs, Tokens
from freshet.engines.memory import MemoryEngine
from freshet.model.log import Position, PublishOptions
from tests.tools.patience import eventually

CHANNEL = "chat:1"


class SlowLog:
    """Holds what is appended to the channel while it is shut."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.waiting = 0

    async def publish(self, engine: MemoryEngine, channel: str, data: bytes, options: PublishOptions) -> Position:
        if channel == CHANNEL:
            self.waiting += 1
            await self.open.wait()
            self.waiting -= 1
        return await MemoryEngine.publish(engine, channel, data, options)


@pytest.fixture
def slow() -> SlowLog:
    return SlowLog()


@pytest.fixture
def begun() -> Counter[str]:
    return Counter()


@pytest.fixture
async def live(slow: SlowLog, begun: Counter[str]) -> AsyncIterator[Freshet]:
    live = Freshet(secret="s" * 32, config=Config(runs=Runs(lease=30), tokens=Tokens(anonymous=True)))

    @live.run("chat:{chat}", parallel=2, stop_when_alone=3600)
    async def answer(run: Run, message: Any) -> None:
        begun[run.id] += 1
        await run.steering(wait=True)
        if message:
            await run.ask(await run.tool("t", 1, id="c"))

    engine: Any = live._node.engine
    engine.publish = lambda *given: slow.publish(engine, *given)
    async with live.lifespan():
        yield live


async def states(live: Freshet, *runs: str) -> list[str]:
    return [(await live._runs.look(CHANNEL, run)).state for run in runs]


async def test_runs_that_end_at_the_same_time_leave_their_turn_to_each_that_waits_once(
    live: Freshet, slow: SlowLog, begun: Counter[str]
) -> None:
    for run in ("a", "b", "c", "d"):
        await live.start(CHANNEL, 0, id=run)
    assert await states(live, "a", "b", "c", "d") == ["running", "running", "queued", "queued"]
    slow.open.clear()
    for run in ("a", "b"):
        steering = asyncio.create_task(live.steer(CHANNEL, "go on", run=run))
    await eventually(lambda: slow.waiting)
    slow.open.set()
    await steering
    await eventually(lambda: begun["c"] and begun["d"])
    assert set(begun.values()) == {1}
    await live.stop(CHANNEL)


async def test_a_run_that_is_stopped_as_its_turn_comes_runs_nowhere(
    live: Freshet, slow: SlowLog, begun: Counter[str]
) -> None:
    for run in ("a", "b", "c"):
        await live.start(CHANNEL, 0, id=run)
    await live.stop(CHANNEL, run="a")
    slow.open.clear()
    await eventually(lambda: slow.waiting)  # it is written that the turn of c has come
    stopping = asyncio.create_task(live.stop(CHANNEL, run="c"))
    await asyncio.sleep(0)
    slow.open.set()
    state = await stopping
    assert state is not None
    assert state.state == "stopped"
    await eventually(lambda: live._runs.statistics()[1] == 1)  # b
    await live.stop(CHANNEL)
    await eventually(lambda: live._runs.statistics()[1] == 0)


async def test_who_stops_a_run_that_is_being_stopped_learns_that_it_is(live: Freshet, slow: SlowLog) -> None:
    await live.start(CHANNEL, 0, id="a")
    slow.open.clear()
    stopping = [asyncio.create_task(live.stop(CHANNEL, run="a")) for _ in range(2)]
    await eventually(lambda: slow.waiting)
    slow.open.set()
    assert [state.state for state in await asyncio.gather(*stopping) if state is not None] == ["stopped", "stopped"]


async def test_nobody_there_stops_what_runs_and_not_what_waits_for_an_answer(live: Freshet) -> None:
    await live.start(CHANNEL, 1, id="asks")
    await live.start(CHANNEL, 0, id="runs")
    await live.steer(CHANNEL, "go on", run="asks")

    async def waits() -> bool:
        return await states(live, "asks") == ["waiting"]

    await eventually(waits)
    chat = live._runs._chats[CHANNEL]
    chat.rule.stop_when_alone = 0.0
    await live._runs._look_who_is_there(CHANNEL, chat)
    assert await states(live, "asks", "runs") == ["waiting", "stopped"]
