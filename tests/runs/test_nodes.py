"""Runs on two nodes, on every engine: reached from everywhere, stopped from everywhere, taken over, with one writer."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from freshet import Freshet, Refusal, Run
from freshet.testing import Client
from tests.runs.two import ENGINES, Nodes, nodes, texts
from tests.runs.viewer import Viewer
from tests.tools.patience import eventually, seconds

pytestmark = pytest.mark.parametrize("kind", ENGINES)


class Told:
    """What happened in the functions of runs."""

    def __init__(self) -> None:
        self.running: list[str] = []
        self.cancelled: list[str] = []
        self.go = asyncio.Event()


@pytest.fixture
def told() -> Told:
    return Told()


def counting(told: Told, *, resumes: bool = False) -> Any:
    def register(live: Freshet) -> None:
        @live.run("chat:{chat}")
        async def answer(run: Run, message: int, chat: str) -> None:
            told.running.append(run.id)
            try:
                for number in range(message):
                    await run.write(f"{number} ")
                    await asyncio.sleep(0.005)
                await told.go.wait()
                await run.write("end")
            except asyncio.CancelledError:
                told.cancelled.append(run.id)
                raise

        if resumes:

            @answer.resume
            async def go_on(run: Run, message: int, chat: str) -> None:
                await run.write(f"resumed after {len(run.text.split())}")

    return register


async def follow(client: Client, viewer: Viewer, run: str) -> None:
    """Until the run is over."""
    while not viewer.has_ended(run):
        viewer.take((await client.receive("chat:1", within=seconds(10))).data)


async def join(client: Client) -> Viewer:
    viewer = Viewer()
    for missed in (await client.subscribe("chat:1")).missed:
        viewer.take(missed.data)
    return viewer


async def written(here: Nodes, run: str) -> str:
    message = next((it for it in await here.b.messages("chat:1") if it["id"] == run), None)
    return texts(message) if message else ""


async def test_clients_of_all_nodes_see_one_run_whenever_they_join(kind: str, tmp_path: Path, told: Told) -> None:
    told.go.set()
    async with (
        nodes(kind, tmp_path, counting(told)) as here,
        here.a.test_client() as early,
        here.b.test_client() as late,
    ):
        viewers = [(early, await join(early))]
        assert (await here.a.start("chat:1", 60, id="r1")).state == "running"
        again = await here.b.start("chat:1", 60, id="r1")
        assert again.run == "r1"
        await eventually(lambda: "r1" in told.running)
        await asyncio.sleep(0.1)
        viewers.append((late, await join(late)))
        await asyncio.gather(*(follow(client, viewer, "r1") for client, viewer in viewers))
        expected = "".join(f"{number} " for number in range(60)) + "end"
        assert [viewer.text("r1") for _, viewer in viewers] == [expected, expected]
        assert viewers[0][1].summaries == 0
        assert await written(here, "r1") == expected
        assert told.running == ["r1"]


async def test_a_stop_on_another_node_reaches_the_function_and_keeps_what_it_wrote(
    kind: str, tmp_path: Path, told: Told
) -> None:
    async with nodes(kind, tmp_path, counting(told)) as here, here.b.test_client() as client:
        viewer = await join(client)
        await here.a.start("chat:1", 10, id="r1")
        await eventually(lambda: "r1" in told.running)
        while "5 " not in viewer.text("r1"):
            viewer.take((await client.receive("chat:1", within=seconds(5))).data)
        state = await here.b.stop("chat:1", reason="enough")
        assert state is not None
        assert (state.state, state.reason) == ("stopped", "enough")
        await eventually(lambda: told.cancelled == ["r1"])
        await follow(client, viewer, "r1")
        told.go.set()
        assert viewer.states["r1"] == "stopped"
        assert await written(here, "r1") == viewer.text("r1")
        assert viewer.messages["r1"].parts[0]["state"] == "done"
        assert await here.a.stop("chat:1") is None or (await here.a.stop("chat:1")).state == "stopped"


async def test_an_owner_that_was_paused_writes_nothing_and_its_run_has_failed(
    kind: str, tmp_path: Path, told: Told
) -> None:
    async with nodes(kind, tmp_path, counting(told), paused=True) as here, here.b.test_client() as client:
        viewer = await join(client)
        await here.a.start("chat:1", 3, id="r1")
        while "2 " not in viewer.text("r1"):
            viewer.take((await client.receive("chat:1", within=seconds(5))).data)
        here.b._runs._watching.suspect("chat:1")  # as it would if the clock of a, and so its messages, had gone on
        await follow(client, viewer, "r1")
        assert viewer.states["r1"] == "failed"
        told.go.set()  # now it goes on, and takes itself for the owner
        await eventually(lambda: here.a._runs.statistics() == (0, 0), 5)
        assert await written(here, "r1") == viewer.text("r1") == "0 1 2 "
        await client.expect_nothing()


async def test_a_run_whose_node_is_gone_goes_on_from_what_it_kept_where_there_is_a_hook(
    kind: str, tmp_path: Path, told: Told
) -> None:
    async with nodes(kind, tmp_path, counting(told, resumes=True), paused=True) as here, here.b.test_client() as client:
        viewer = await join(client)
        await here.a.start("chat:1", 3, id="r1")
        while "2 " not in viewer.text("r1"):
            viewer.take((await client.receive("chat:1", within=seconds(5))).data)
        here.b._runs._watching.suspect("chat:1")
        await follow(client, viewer, "r1")
        assert viewer.states["r1"] == "finished"
        assert viewer.text("r1") == "0 1 2 resumed after 3"


async def test_a_node_that_ends_leaves_its_runs_to_the_other(kind: str, tmp_path: Path, told: Told) -> None:
    async with nodes(kind, tmp_path, counting(told, resumes=True)) as here, here.b.test_client() as client:
        viewer = await join(client)
        await here.a.start("chat:1", 3, id="r1")
        while "2 " not in viewer.text("r1"):
            viewer.take((await client.receive("chat:1", within=seconds(5))).data)
        await here.a._node.stop()
        await follow(client, viewer, "r1")
        assert viewer.states["r1"] == "finished"
        assert viewer.text("r1") == "0 1 2 resumed after 3"


async def test_a_user_has_so_many_runs_at_a_time_on_all_nodes_together(kind: str, tmp_path: Path, told: Told) -> None:
    async with nodes(kind, tmp_path, counting(told), per_user=2) as here:
        await here.a.start("chat:1", 1, user="alice")
        await here.b.start("chat:2", 1, user="alice")
        for live in (here.a, here.b):
            with pytest.raises(Refusal) as refusal:
                await live.start("chat:3", 1, user="alice")
            assert refusal.value.code == 106
            assert (await live.start("chat:4", 1, user="bob")).state in ("running", "queued")
        await here.b.stop("chat:1")
        assert (await here.b.start("chat:3", 1, user="alice")).state == "running"
        told.go.set()


async def test_runs_that_were_taken_over_count_where_they_are_and_no_longer_where_they_were(
    kind: str, tmp_path: Path, told: Told
) -> None:
    async with nodes(kind, tmp_path, counting(told), paused=True, per_user=1) as here:
        await here.a.start("chat:1", 1, user="alice", id="r1")
        await eventually(lambda: "r1" in told.running)
        here.b._runs._watching.suspect("chat:1")
        # Until the log says so, too, what the first writes is still right.
        await eventually(lambda: (chat := here.b._runs._chats.get("chat:1")) and chat._opening.done(), 10)
        told.go.set()
        await eventually(lambda: here.a._runs.statistics() == (0, 0), 10)
        assert (await here.b.start("chat:2", 1, user="alice")).state == "running"
