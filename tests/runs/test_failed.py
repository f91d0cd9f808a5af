"""Runs that failed: whether they can go on is told, and they do, from what they kept, for all who see them."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from freshet import Config, Freshet, Refusal, Run
from freshet.config import Runs, Tokens
from freshet.observe.counts import RunCounts
from freshet.testing import Client
from tests.runs.viewer import Viewer
from tests.tools.patience import seconds

CHANNEL = "chat:1"


class Model:
    """broken: it raises in the middle. go: it waits for that before it ends."""

    def __init__(self) -> None:
        self.broken = True
        self.go = asyncio.Event()
        self.go.set()


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
async def live(model: Model) -> AsyncIterator[Freshet]:
    live = Freshet(config=Config(runs=Runs(lease=seconds(2), per_user=1), tokens=Tokens(anonymous=True)))

    @live.run("chat:{chat}", keep=60)
    async def answer(run: Run, message: str, chat: str) -> None:
        await run.write("one two ")
        await run.usage(output_tokens=2)
        if model.broken:
            raise RuntimeError("the model broke")
        await run.write("three")

    @answer.resume
    async def go_on(run: Run, message: str, chat: str) -> None:
        await model.go.wait()
        if model.broken:
            raise RuntimeError("it broke again")
        await run.write(f"three, of {len(run.text.split())} that were there")

    @live.run("short:{chat}")
    async def short(run: Run, message: str, chat: str) -> None:
        raise RuntimeError("the model broke")

    async with live.lifespan():
        yield live


async def follow(client: Client, viewer: Viewer, state: str) -> None:
    while viewer.states.get("r1") != state:
        viewer.take((await client.receive(CHANNEL, within=seconds(5))).data)


async def test_a_run_that_failed_says_whether_it_can_be_resumed(live: Freshet) -> None:
    for channel, resumable in ((CHANNEL, True), ("short:1", False)):
        async with live.test_client() as client:
            await client.subscribe(channel)
            await live.start(channel, "go", id="r1")
            while (event := (await client.receive(channel)).data).get("state") != "failed":
                pass
            assert event.get("resumable", False) is resumable
        message = (await live.messages(channel))[-1]
        assert message["metadata"]["run"].get("resumable", False) is resumable


async def test_a_failed_run_goes_on_from_what_it_kept_for_all_who_see_it(live: Freshet, model: Model) -> None:
    async with live.test_client() as early, live.test_client() as late:
        viewer = Viewer()
        await early.subscribe(CHANNEL)
        await early.publish(CHANNEL, {"$start": "go", "run": "r1"})
        await follow(early, viewer, "failed")
        assert viewer.text("r1") == "one two "
        model.broken = False
        model.go.clear()
        await early.publish(CHANNEL, {"$resume": "r1"})
        await follow(early, viewer, "running")
        other = Viewer()
        for missed in (await late.subscribe(CHANNEL)).missed:
            other.take(missed.data)
        assert (other.states["r1"], other.text("r1")) == ("running", "one two ")
        model.go.set()
        await follow(early, viewer, "finished")
        await follow(late, other, "finished")
        assert viewer.text("r1") == other.text("r1") == "one two three, of 2 that were there"
        messages = await live.messages(CHANNEL)
        assert [message["id"] for message in messages] == ["r1:ask", "r1"]
        assert messages[-1]["metadata"]["run"]["state"] == "finished"


async def test_a_run_can_be_resumed_once_more_after_it_failed_again_and_stays_where_it_was(
    live: Freshet, model: Model
) -> None:
    async with live.test_client() as client:
        await client.subscribe(CHANNEL)
        await live.start(CHANNEL, "go", id="r1", user="alice")
        viewer = Viewer()
        await follow(client, viewer, "failed")
        assert (await live.resume(CHANNEL, "r1")).run == "r1"
        await follow(client, viewer, "running")
        await follow(client, viewer, "failed")
        model.broken = False
        await live.start(CHANNEL, "again", id="r2", user="alice")
        while viewer.states.get("r2") != "finished":
            viewer.take((await client.receive(CHANNEL)).data)
        await live.resume(CHANNEL, "r1")
        await follow(client, viewer, "running")
        await follow(client, viewer, "finished")
    async with live.test_client() as late:
        (summary,) = (await late.subscribe(CHANNEL)).missed
        assert [message["id"] for message in summary.data["messages"]] == ["r1:ask", "r1", "r2:ask", "r2"]
        assert summary.data["messages"][1]["metadata"]["run"]["state"] == "finished"


async def test_what_did_not_fail_or_has_no_hook_or_is_unknown_is_not_resumed(live: Freshet, model: Model) -> None:
    model.broken = False
    await live.start(CHANNEL, "go", id="fine")
    await live.start("short:1", "go", id="hookless")
    for channel, run in ((CHANNEL, "fine"), ("short:1", "hookless"), (CHANNEL, "nobody knows it")):
        with pytest.raises(Refusal) as refusal:
            await live.resume(channel, run)
        assert refusal.value.code == 108


async def test_a_resumed_run_counts_among_those_of_its_user(live: Freshet, model: Model) -> None:
    async with live.test_client() as client:
        await client.subscribe(CHANNEL)
        await live.start(CHANNEL, "go", id="r1", user="alice")
        await follow(client, Viewer(), "failed")
        model.go.clear()
        await live.resume(CHANNEL, "r1")
        with pytest.raises(Refusal) as refusal:
            await live.start("chat:2", "go", user="alice")
        assert refusal.value.code == 106
        model.go.set()


async def test_what_runs_do_is_counted(live: Freshet, model: Model) -> None:
    counts = live._node.counts.runs
    async with live.test_client() as client:
        await client.subscribe(CHANNEL)
        viewer = Viewer()
        await live.start(CHANNEL, "go", id="r1")
        await follow(client, viewer, "failed")
        model.broken = False
        model.go.clear()
        await live.resume(CHANNEL, "r1")
        await follow(client, viewer, "running")
        assert counts.begun - counts.left == 1
        model.go.set()
        await follow(client, viewer, "finished")
    assert (counts.started, counts.begun, counts.left) == (1, 2, 2)
    assert counts.ended == {"failed": 1, "finished": 1}
    assert (counts.parts, counts.characters) == (3, len("one two three, of 2 that were there"))
    assert counts.usage == {"output_tokens": 2}
    assert sum(counts.first.counts) == 2


def test_usage_that_is_none_and_kinds_beyond_the_bound_are_left_out() -> None:
    counts = RunCounts()
    counts.cost({"input_tokens": 3, "model": "m", "flag": True, "less": -1})
    counts.cost("nothing")
    assert counts.usage == {"input_tokens": 3}
    counts.cost({f"kind {number}": 1 for number in range(100)})
    counts.cost({"input_tokens": 4})
    assert len(counts.usage) == 20
    assert counts.usage["input_tokens"] == 7
