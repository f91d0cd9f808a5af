"""Runs that wait: for an answer, for their turn, for another node. On two nodes, on every engine."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from freshet import Freshet, Refusal, Run
from freshet.testing import Client
from tests.runs.two import ENGINES, Engines, nodes, nodes_of, texts
from tests.runs.viewer import Viewer
from tests.tools.patience import eventually, seconds

pytestmark = pytest.mark.parametrize("kind", ENGINES)
CHANNEL = "chat:1"


def asking(live: Freshet) -> None:
    """A run that asks for as many tools as its message says, and says what it was told."""

    @live.run("chat:{chat}", presence=True)
    async def answer(run: Run, message: int) -> None:
        if not message:
            await run.steering(wait=True)
        for number in range(message):
            await run.ask(await run.tool("delete", {"file": number}, id=f"call-{number}"))

    @answer.on_approval
    async def go_on(run: Run, message: int) -> None:
        assert run.approval is not None
        await run.write(f"{run.approval.user}: {run.approval.approved}. ")


async def state_of(live: Freshet, run: str) -> str:
    state = await live._runs.look(CHANNEL, run)
    return state.state if state is not None else ""


async def waits(live: Freshet, run: str, state: str = "waiting") -> list[str]:
    """Until it does. The ids of what it asks."""

    async def is_so() -> bool:
        return await state_of(live, run) == state

    await eventually(is_so, 10)
    message = next(it for it in await live.messages(CHANNEL, run=run) if it["id"] == run)
    return [part["approval"]["id"] for part in message["parts"] if "approval" in part]


async def said(live: Freshet, run: str) -> str:
    return texts(next(it for it in await live.messages(CHANNEL, run=run) if it["id"] == run))


async def test_a_run_waits_for_its_answer_without_a_task_while_all_its_nodes_are_replaced(
    kind: str, tmp_path: Path
) -> None:
    async with Engines(kind, tmp_path) as make:
        async with nodes_of(make, asking, idle=0.1) as first:
            await first.a.start(CHANNEL, 1, id="r1")
            (approval,) = await waits(first.b, "r1")
            for live in (first.a, first.b):
                await eventually(lambda live=live: live._runs.statistics() == (0, 0), 10)
        async with nodes_of(make, asking) as second:
            assert await state_of(second.b, "r1") == "waiting"
            await second.a.answer(CHANNEL, approval, user="alice")
            await waits(second.b, "r1", "finished")
            assert await said(second.b, "r1") == "alice: True. "


async def test_of_two_who_answer_at_once_the_first_counts_and_the_run_goes_on_once(kind: str, tmp_path: Path) -> None:
    async with nodes(kind, tmp_path, asking) as here:
        await here.a.start(CHANNEL, 1, id="r1")
        (approval,) = await waits(here.b, "r1")
        answers = await asyncio.gather(
            *(live.answer(CHANNEL, approval, approved=live is here.a, user="x") for live in (here.b, here.a) * 2),
            return_exceptions=True,
        )
        late = [each for each in answers if isinstance(each, BaseException)]
        assert len(late) < len(answers)
        assert {str(each) for each in late} <= {"nothing waits for that answer"}
        await waits(here.b, "r1", "finished")
        assert await said(here.b, "r1") in ("x: True. ", "x: False. ")
        assert here.a._node.counts.runs.begun + here.b._node.counts.runs.begun == 2


async def test_a_run_that_asked_twice_goes_on_when_it_has_both_answers_in_one_command_or_two(
    kind: str, tmp_path: Path
) -> None:
    async with nodes(kind, tmp_path, asking) as here, here.b.test_client("bob") as bob:
        await bob.subscribe(CHANNEL)
        await here.a.start(CHANNEL, 2, id="r1")
        first, second = await waits(here.a, "r1")
        await here.b.answer(CHANNEL, first, user="alice")
        assert await state_of(here.a, "r1") == "waiting"
        await here.b.answer(CHANNEL, second, approved=False, user="bob")
        await waits(here.a, "r1", "finished")
        await here.a.start(CHANNEL, 2, id="r2")
        answers = [{"approval": id, "approved": False} for id in await waits(here.a, "r2")]
        await bob.publish(CHANNEL, {"$answers": answers})
        await waits(here.a, "r2", "finished")
        assert (await said(here.a, "r1"), await said(here.a, "r2")) == ("bob: False. ", "bob: False. ")


async def test_a_run_that_is_answered_while_another_runs_waits_for_its_turn_also_on_another_node(
    kind: str, tmp_path: Path
) -> None:
    async with nodes(kind, tmp_path, asking) as here:
        await here.a.start(CHANNEL, 1, id="r1")
        (approval,) = await waits(here.b, "r1")
        assert (await here.a.start(CHANNEL, 0, id="r2")).state == "running"
        assert (await here.b.answer(CHANNEL, approval, user="alice")).state == "queued"
        await here.a._node.stop()  # r2 has failed, as its function has no way to go on
        await waits(here.b, "r1", "finished")
        assert (await said(here.b, "r1"), await state_of(here.b, "r2")) == ("alice: True. ", "failed")


async def test_runs_that_wait_for_their_turn_get_it_after_all_nodes_were_replaced(kind: str, tmp_path: Path) -> None:
    async with Engines(kind, tmp_path) as make:
        async with nodes_of(make, asking) as first:
            await first.a.start(CHANNEL, 0, id="r1")
            assert (await first.b.start(CHANNEL, 1, id="r2")).state == "queued"
        async with nodes_of(make, asking) as second:
            await second.b.messages(CHANNEL)  # somebody comes
            assert len(await waits(second.a, "r2")) == 1


def counting(live: Freshet) -> None:
    @live.run("chat:{chat}")
    async def answer(run: Run, message: int) -> None:
        await write_on(run, 0)

    @answer.resume
    async def go_on(run: Run, message: int) -> None:
        await write_on(run, run.kept["next"])
        await run.write("end")

    async def write_on(run: Run, first: int) -> None:
        for number in range(first, first + 3):
            await run.write(f"{number} ")
            await run.checkpoint({"next": number + 1})
        if not first:
            while True:
                await run.checkpoint({"next": first + 3})
                await asyncio.sleep(0.01)


async def test_a_node_that_ends_hands_its_run_over_at_a_checkpoint_with_what_it_keeps(
    kind: str, tmp_path: Path
) -> None:
    async with nodes(kind, tmp_path, counting) as here, here.b.test_client() as client:
        viewer = Viewer()
        await client.subscribe(CHANNEL)
        await here.a.start(CHANNEL, 1, id="r1")
        while "2 " not in viewer.text("r1"):
            viewer.take((await client.receive(CHANNEL, within=seconds(5))).data)
        await here.a._node.stop()
        while not viewer.has_ended("r1"):
            viewer.take((await client.receive(CHANNEL, within=seconds(10))).data)
        assert (viewer.states["r1"], viewer.text("r1")) == ("finished", "0 1 2 3 4 5 end")


def agents(live: Freshet) -> None:
    @live.run("chat:{chat}", parallel=2, presence=True)
    async def answer(run: Run, message: str) -> None:
        await run.enter(message, {"model": "m"})
        await run.write(" ".join(await run.steering(wait=True)))

    @live.run("quiet:{chat}")
    async def unseen(run: Run, message: str) -> None:
        with pytest.raises(Refusal) as refusal:
            await run.enter(message)
        await run.write(str(refusal.value.code))


async def seen(live: Freshet) -> dict[str, Any]:
    """Agents by their runs."""
    return {each.client: each.user for each in (await live.presence(CHANNEL)).values() if each.user != "alice"}


async def all_seen(live: Freshet, expected: dict[str, str]) -> None:
    async def is_so() -> bool:
        return await seen(live) == expected

    await eventually(is_so, 10)


async def test_agents_that_write_at_a_time_are_seen_among_those_in_the_channel_while_they_write(
    kind: str, tmp_path: Path
) -> None:
    async with nodes(kind, tmp_path, agents, paused=True) as here, here.b.test_client("alice") as alice:
        viewer = await joined(alice)
        await here.a.start(CHANNEL, "writer", id="r1")
        await here.b.start(CHANNEL, "critic", id="r2")
        await all_seen(here.b, {"r1": "writer", "r2": "critic"})
        await here.b.steer(CHANNEL, "I write", run="r1")
        while viewer.states.get("r1") != "finished":
            viewer.take((await alice.receive(CHANNEL, within=seconds(5))).data)
        assert (viewer.text("r1"), viewer.states["r2"]) == ("I write", "running")
        assert (await here.b.messages(CHANNEL, run="r1"))[-1]["metadata"]["agent"] == "writer"
        await all_seen(here.b, {"r2": "critic"})
        here.b._runs._watching.suspect(CHANNEL)  # the node that has it stands still
        await all_seen(here.b, {})
        await here.b.start("quiet:1", "writer", id="r3")
        await eventually(lambda: here.b._runs.statistics()[1] == 0, 10)
        assert texts((await here.b.messages("quiet:1"))[-1]) == "108"


async def joined(client: Client) -> Viewer:
    viewer = Viewer()
    for missed in (await client.subscribe(CHANNEL)).missed:
        viewer.take(missed.data)
    return viewer
