"""What is left of a run that is over, and that whoever comes or returns to it still gets all of it."""

import gc
import tracemalloc
from pathlib import Path

import pytest

import freshet
from freshet import Freshet, Run
from freshet.config import Config, Runs, Tokens
from freshet.ownership.leases import NotOwner
from tests.runs.test_runs import follow
from tests.runs.two import ENGINES, nodes
from tests.runs.viewer import Viewer
from tests.tools.patience import eventually, seconds

CHANNEL = "chat:1"
EVENTS = 210  # more than there are between two snapshots
PACKAGE = Path(freshet.__file__).parent
TEXT = "".join(f"{number:04} " for number in range(EVENTS))


def writing(live: Freshet) -> None:
    @live.run("chat:{chat}")
    async def answer(run: Run, message: int) -> None:
        for number in range(message):
            await run.write(f"{number:04} ")
            await run.flush()


@pytest.mark.parametrize("idle", [30.0, 0.1])
@pytest.mark.parametrize("kind", ENGINES)
async def test_who_returns_to_the_middle_of_a_run_that_is_over_gets_its_rest_or_the_whole(
    kind: str, idle: float, tmp_path: Path
) -> None:
    async with nodes(kind, tmp_path, writing, idle=idle) as here, here.b.test_client() as client:
        viewer = Viewer()
        await client.subscribe(CHANNEL)
        await here.a.start(CHANNEL, EVENTS, id="r1")
        while "0020" not in viewer.text("r1"):
            viewer.take((await client.receive(CHANNEL, within=seconds(10))).data)
        await client.disconnect()
        await eventually(lambda: here.a._runs.statistics()[1] + here.b._runs.statistics()[1] == 0, 20)
        if idle < 1:
            await eventually(lambda: here.a._runs.statistics()[0] + here.b._runs.statistics()[0] == 0, 20)
            assert (await here.b.history(CHANNEL)).publications == []
        await client.reconnect()
        await follow(client, "r1", viewer)
        assert viewer.text("r1") == TEXT
        assert viewer.summaries <= (1 if idle < 1 else 0)
        await here.b.start(CHANNEL, 3, id="r2")
        await follow(client, "r2", viewer)
        assert (viewer.text("r1"), viewer.text("r2")) == (TEXT, TEXT[:15])


def ours() -> int:
    """Bytes that the package has allocated: what else the process does in the meantime is not the run's."""
    snapshot = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, f"{PACKAGE}/*")])
    return sum(trace.size for trace in snapshot.traces)


async def test_a_run_that_is_over_holds_what_it_adds_up_to_and_little_more() -> None:
    """Also one that was summed up while it ran, and that somebody has looked at."""
    options = Runs(lease=seconds(3), interval=0, idle=0.2)  # which a machine that is busy keeps
    live = Freshet(secret="s" * 32, config=Config(runs=options, tokens=Tokens(anonymous=True)))
    writing(live)

    async def run_in(channels: range) -> None:
        for number in channels:
            await live.start(f"chat:{number}", EVENTS)
            await live.messages(f"chat:{number}")
        await eventually(lambda: live._runs.statistics()[0] == 0, 30)
        await eventually(lambda: not live._runs._viewing._views)
        gc.collect()

    async with live.lifespan():
        tracemalloc.start()
        try:
            await run_in(range(20))
            before = ours()
            await run_in(range(20, 100))  # so many that what the rest of the process takes and gives is little of it

            def held() -> float:
                gc.collect()
                return (ours() - before) / 80

            await eventually(lambda: held() < len(TEXT) + 3500, 10, "what a run leaves behind to be given back")
        finally:
            tracemalloc.stop()
        said = [part["text"] for part in (await live.messages("chat:7"))[-1]["parts"]]
        assert said == [TEXT]


async def test_an_owner_whose_channel_another_may_have_trims_nothing_there(tmp_path: Path) -> None:
    async with nodes("memory", tmp_path, writing, paused=True) as here, here.b.test_client() as client:
        await client.subscribe(CHANNEL)
        await here.a.start(CHANNEL, 3, id="r1")
        await follow(client, "r1")
        chat = here.a._runs._chats[CHANNEL]
        here.clock.now += 100  # it stood still for so long
        with pytest.raises(NotOwner):
            await chat.close()
        assert (await here.b.history(CHANNEL)).publications


async def test_a_run_is_not_stopped_for_the_time_that_the_one_before_was_alone() -> None:
    live = Freshet(secret="s" * 32, config=Config(runs=Runs(lease=seconds(2))))

    @live.run("chat:{chat}", stop_when_alone=3600)
    async def answer(run: Run, message: int) -> None:
        await run.steering(wait=True)

    async with live.lifespan():
        await live.start(CHANNEL, 1)
        await eventually(lambda: CHANNEL in live._runs._alone)
        await live.steer(CHANNEL, "enough")
        await eventually(lambda: CHANNEL not in live._runs._alone)
