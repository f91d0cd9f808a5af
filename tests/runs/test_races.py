"""Each call of the engine, and each wait of a run's function, is held while each other thing happens to its channel.

Afterwards what runs is what its log says: nothing runs that was stopped or has ended, nothing is left in the queue
while nothing runs, and whoever asks gets the same from this node as from the log.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress

import pytest

from freshet import Freshet, Run
from freshet.errors import FreshetError
from freshet.model.run_messages import ENDED
from freshet.runtime.clock import Clock
from tests.races.gates import Gates
from tests.races.test_races import each_operation
from tests.races.world import Step, World, nobody, race_within, running

CHANNEL = "chat:a"
functions: Counter[str] = Counter()
"""How many run, by run."""


def prepare(live: Freshet, gates: Gates, clock: Clock) -> None:
    functions.clear()

    @live.run("chat:{name}")
    async def answer(run: Run, message: str) -> None:
        functions[run.id] += 1
        try:
            await gates.come("function")
            await run.write("so far")
            if message == "ask":
                await run.ask(await run.tool("delete", {}, id=f"{run.id}:tool"))
            else:
                await run.steering(wait=True)
            await gates.come("function again")
        finally:
            functions[run.id] -= 1

    @answer.on_approval
    async def go_on(run: Run, message: str) -> None:
        await run.write("and so on")


@asynccontextmanager
async def runs() -> AsyncIterator[World]:
    async with running("centrifuge", prepare) as world:
        yield world
        await settle(world)
        await agree_on_runs(world)
        await world.live.stop(CHANNEL)
        await settle(world)
        await agree_on_runs(world)
        assert world.live._runs.statistics()[1] == 0
        assert +functions == Counter()


async def settle(world: World) -> None:
    """Until nothing happens any more by itself."""
    its = world.live._runs
    for _ in range(200):
        await world.turns()
        chat = its._chats.get(CHANNEL)
        ending = chat is not None and (chat._ending or chat._lock.locked())
        if not ending and not [task for task in its._tasks._running if not task.done()]:
            return
        await asyncio.sleep(0.002)
    raise AssertionError("there is no end")


async def agree_on_runs(world: World) -> None:
    its = world.live._runs
    chat = its._chats.get(CHANNEL)
    if chat is None:
        return
    states = {record.id: record.state for record in chat.records}
    assert not [id for id, state in states.items() if state in ENDED], f"ended, and not filed: {states}"
    by_state = {state: {id for id, it in states.items() if it == state} for state in ("running", "queued", "waiting")}
    assert by_state["running"] == set(chat.producers), f"{states}, and {set(chat.producers)} run"
    assert set(+functions) == by_state["running"], f"{states}, and the functions of {set(+functions)} run"
    assert not by_state["queued"] or by_state["running"], f"nothing runs, and somebody waits for it: {states}"
    rule = its._rule(CHANNEL)
    kept = await its._log(CHANNEL, rule).read()
    assert {record.id: record.state for record in kept.runs.values() if record.state not in ENDED} == states
    filed = {record.id: record.state for record in await its._log(CHANNEL, rule).filed()}
    assert filed == {id: record.state for id, record in chat.records.filed.items()}
    assert not set(filed) & set(states)


# ------------------------------------------------------------------------------------------------------- what happens


def starts(id: str, message: str = "") -> Step:
    async def start(world: World) -> None:
        with suppress(FreshetError):
            await world.live.start(CHANNEL, message, id=id)

    return start


def stops(id: str = "") -> Step:
    async def stop(world: World) -> None:
        with suppress(FreshetError):
            state = await world.live.stop(CHANNEL, run=id)
            assert state is None or state.state in ENDED or not id, f"said to be stopped, and is {state}"

    return stop


async def steers(world: World) -> None:
    """And so its function ends."""
    with suppress(FreshetError):
        await world.live.steer(CHANNEL, "end")


async def answers(world: World) -> None:
    with suppress(FreshetError):
        await world.live.answer(CHANNEL, "")  # there is none of that name
        return
    for message in await world.live.messages(CHANNEL):
        for part in message["parts"]:
            if approval := part.get("approval"):
                with suppress(FreshetError):
                    await world.live.answer(CHANNEL, approval["id"])


async def reads(world: World) -> None:
    await world.live.messages(CHANNEL)


async def one_runs(world: World) -> None:
    await starts("r1")(world)
    await settle(world)


async def one_waits_for_another(world: World) -> None:
    await one_runs(world)
    await starts("r2")(world)
    await settle(world)


async def one_has_asked(world: World) -> None:
    await starts("r1", "ask")(world)
    await settle(world)


HELD: dict[str, tuple[Step, Step]] = {
    "start": (nobody, starts("r1")),
    "start behind another": (one_runs, starts("r2")),
    "stop": (one_runs, stops("r1")),
    "stop of all": (one_waits_for_another, stops()),
    "stop of one that waits": (one_waits_for_another, stops("r2")),
    "end": (one_runs, steers),
    "end, and the next begins": (one_waits_for_another, steers),
    "answer": (one_has_asked, answers),
}
OPERATIONS: dict[str, Step] = {
    "start": starts("r3"),
    "the same start": starts("r1"),
    "stop": stops("r1"),
    "stop of another": stops("r2"),
    "stop of all": stops(),
    "steer": steers,
    "answer": answers,
    "read": reads,
}


@pytest.mark.parametrize("held", HELD)
async def test_what_runs_is_what_the_log_says_whatever_happens_meanwhile(held: str) -> None:
    def race(operation: str, at: int) -> Awaitable[str]:
        return race_within(runs(), *HELD[held], OPERATIONS[operation], at)

    assert await each_operation(OPERATIONS, race) == {}
