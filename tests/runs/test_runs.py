"""Runs on one node: what their functions may do, and what clients see of it."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from freshet import Config, ConfigError, Freshet, Refusal, Run
from freshet.config import Runs, Tokens
from freshet.model.run_aggregate import Aggregate
from freshet.testing import Client
from tests.runs.viewer import Viewer
from tests.tools.patience import eventually, seconds

CHANNEL = "chat:1"


def made(**options: Any) -> Freshet:
    runs = Runs(**{"lease": seconds(2), **options})
    return Freshet(secret="s" * 32, config=Config(runs=runs, tokens=Tokens(anonymous=True)))


async def follow(client: Client, run: str, viewer: Viewer | None = None) -> Viewer:
    viewer = viewer or Viewer()
    while not viewer.has_ended(run) and viewer.states.get(run) != "waiting":
        viewer.take((await client.receive(CHANNEL, within=seconds(5))).data)
    return viewer


@pytest.fixture
def live() -> Freshet:
    return talking()


def talking(**options: Any) -> Freshet:
    """One whose runs say what they hear, until that is `end`."""
    live = made(**options)

    @live.run("chat:{chat}")
    async def answer(run: Run, message: Any, chat: str) -> None:
        await run.write("heard: ")
        while said := await run.steering(wait=True):
            await run.write(" ".join(said))
            if "end" in said:
                return

    return live


async def test_what_a_client_publishes_begins_a_run_and_who_may_not_publish_begins_none(live: Freshet) -> None:
    async with live.test_client("alice") as alice, live.test_client("bob") as bob:
        await alice.subscribe(CHANNEL)
        await alice.publish(CHANNEL, {"$start": "hello", "run": "r1"})
        await alice.publish(CHANNEL, {"$steer": "end"})
        viewer = await follow(alice, "r1")
        assert (viewer.states["r1"], viewer.text("r1")) == ("finished", "heard: end")
        question, answered = await live.messages(CHANNEL)
        assert question["parts"] == [{"type": "text", "text": "hello"}]
        assert answered["metadata"]["run"]["state"] == "finished"
        with pytest.raises(Refusal, match="subscribers"):
            await bob.publish(CHANNEL, "hello")


async def test_a_client_cannot_pass_for_a_run(live: Freshet) -> None:
    async with live.test_client("alice") as alice:
        await alice.subscribe(CHANNEL)
        await alice.publish(CHANNEL, {"run": "r1", "seq": 0, "parts": [], "state": "running"})
        begun = (await alice.receive(CHANNEL)).data
        assert begun["run"].startswith("run_")  # a message like any other
        assert begun["input"]["run"] == "r1"
        await live.stop(CHANNEL)


@pytest.mark.parametrize("data", [{"$stop": 1}, {"$more": 1}, {"$start": 1, "run": "x" * 200}])
async def test_a_command_that_is_none_is_refused(live: Freshet, data: Any) -> None:
    async with live.test_client("alice") as alice:
        await alice.subscribe(CHANNEL)
        with pytest.raises(Refusal) as refusal:
            await alice.publish(CHANNEL, data)
        assert refusal.value.code == 107


async def test_runs_of_a_channel_come_one_after_the_other_and_too_many_are_refused(live: Freshet) -> None:
    async with live.test_client() as client:
        await client.subscribe(CHANNEL)
        states = [(await live.start(CHANNEL, 1, id=f"r{number}")).state for number in range(17)]
        assert states == ["running", *["queued"] * 16]
        with pytest.raises(Refusal) as refusal:
            await live.start(CHANNEL, 1)
        assert refusal.value.code == 106
        assert (await live.stop(CHANNEL, run="r1")).state == "stopped"
        await live.steer(CHANNEL, "end")
        viewer = await follow(client, "r0")
        while viewer.states.get("r2") != "running":
            viewer.take((await client.receive(CHANNEL)).data)
        assert viewer.states["r1"] == "stopped"
        await live.stop(CHANNEL)
        assert live._runs.statistics() == (1, 0), "one of them began though it was stopped while it waited"


async def test_an_exception_ends_a_run_as_failed_and_says_nothing_of_itself() -> None:
    live = made()

    @live.run("chat:{chat}")
    async def answer(run: Run, message: int) -> None:
        await run.write("so far")
        raise RuntimeError("the password is 1234")

    async with live.test_client() as client:
        await client.subscribe(CHANNEL)
        await live.start(CHANNEL, 1, id="r1")
        viewer = await follow(client, "r1")
        assert (viewer.states["r1"], viewer.text("r1")) == ("failed", "so far")
        assert "1234" not in str(await live.messages(CHANNEL))
        await live.start(CHANNEL, "no number", id="r2")
        assert (await follow(client, "r2", viewer)).states["r2"] == "failed"


async def test_a_run_waits_for_an_answer_without_a_task_and_goes_on_with_it() -> None:
    live = made()

    @live.run("chat:{chat}")
    async def answer(run: Run, message: str) -> None:
        await run.ask(await run.tool("delete", {"file": "a"}, id="c1"), reason="sure?")

    @answer.on_approval
    async def go_on(run: Run, message: str) -> None:
        assert run.approval is not None
        await run.write(f"{run.approval.approved} {run.approval.user} {message}")

    async with live.test_client("alice") as alice:
        await alice.subscribe(CHANNEL)
        await live.start(CHANNEL, "please", id="r1")
        viewer = await follow(alice, "r1")
        assert viewer.states["r1"] == "waiting"
        await eventually(lambda: live._runs.statistics()[1] == 0)
        approval = viewer.messages["r1"].tool("c1")["approval"]["id"]
        viewer.states["r1"] = "running"
        await alice.publish(CHANNEL, {"$answer": approval})
        assert (await follow(alice, "r1", viewer)).text("r1") == "True alice please"
        with pytest.raises(Refusal):
            await live.answer(CHANNEL, "another")


async def test_a_run_that_writes_too_much_ends_with_what_fits() -> None:
    live = made(size=2048)
    went_on = []

    @live.run("chat:{chat}")
    async def answer(run: Run, message: int) -> None:
        try:
            while True:
                await run.write("x" * 100)
        except Exception:
            went_on.append(run.id)

    async with live.test_client() as client:
        await client.subscribe(CHANNEL)
        await live.start(CHANNEL, 1, id="r1")
        viewer = await follow(client, "r1")
        assert viewer.states["r1"] == "finished"
        assert 1000 < len(viewer.text("r1")) < 2200
        assert (await live.messages(CHANNEL))[-1]["metadata"]["run"]["reason"] == "length"
        assert not went_on


async def test_a_user_has_so_many_runs_at_a_time() -> None:
    live = made(per_user=1)

    @live.run("chat:{chat}")
    async def answer(run: Run, message: int) -> None:
        await asyncio.Event().wait()

    async with live.lifespan():
        await live.start("chat:1", 1, user="alice")
        await live.start("chat:2", 1, user="bob")
        with pytest.raises(Refusal) as refusal:
            await live.start("chat:3", 1, user="alice")
        assert refusal.value.code == 106
        await live.stop("chat:1")
        assert (await live.start("chat:3", 1, user="alice")).state == "running"
        await live.stop("chat:2")
        await live.stop("chat:3")


async def test_a_run_that_nobody_watches_is_stopped_where_that_is_asked_for() -> None:
    live = made(lease=seconds(1))  # it is looked four times in that time

    @live.run("chat:{chat}", stop_when_alone=0.5)
    async def answer(run: Run, message: int) -> None:
        await asyncio.Event().wait()

    async with live.test_client() as client:
        await client.subscribe(CHANNEL)
        await live.start(CHANNEL, 1, id="r1")
        await asyncio.sleep(seconds(1))  # somebody is there: it goes on
        assert (await live._runs.look(CHANNEL, "r1")).state == "running"
        await client.unsubscribe(CHANNEL)

        async def state() -> tuple[str, str]:
            run = await live._runs.look(CHANNEL, "r1")
            return run.state, run.reason

        async def is_stopped() -> bool:
            return (await state())[0] == "stopped"

        await eventually(is_stopped, 10)
        assert await state() == ("stopped", "nobody was there")


async def test_a_function_that_ignores_its_end_writes_nothing_any_more(live: Freshet) -> None:
    stubborn = made()
    tried = asyncio.Event()

    @stubborn.run("chat:{chat}")
    async def answer(run: Run, message: int) -> None:
        await run.write("a")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            try:
                await run.write("b")
            finally:
                tried.set()

    async with stubborn.test_client() as client:
        await client.subscribe(CHANNEL)
        await stubborn.start(CHANNEL, 1, id="r1")
        viewer = Viewer()
        while viewer.text("r1") != "a":
            viewer.take((await client.receive(CHANNEL)).data)
        await stubborn.stop(CHANNEL)
        await asyncio.wait_for(tried.wait(), seconds(2))
        assert (await follow(client, "r1", viewer)).text("r1") == "a"
        await client.expect_nothing()


async def test_a_run_that_is_stopped_in_the_middle_of_a_write_is_stopped_all_the_same(tmp_path: Path) -> None:
    """Cancelled while its event was on the way to the disk, the next one was taken for it: the end was lost."""
    config = Config(engine=f"sqlite:///{tmp_path}/runs.db", tokens=Tokens(anonymous=True))
    live = Freshet(secret="s" * 32, config=config)
    writing = asyncio.Event()

    @live.run("chat:{chat}")
    async def answer(run: Run, message: int) -> None:
        await run.write("a")
        writing.set()
        await run.flush()
        await asyncio.Event().wait()

    async with live.lifespan():
        for number in range(20):
            writing.clear()
            await live.start(CHANNEL, 1, id=f"r{number}")
            await writing.wait()
            assert (await live.stop(CHANNEL)).state == "stopped"


async def test_a_long_run_is_summed_up_for_who_comes_late_and_its_log_does_not_grow_with_it() -> None:
    live = made(interval=0.0)
    done = asyncio.Event()

    @live.run("chat:{chat}")
    async def answer(run: Run, message: int) -> None:
        for number in range(message):
            await run.write(f"{number} ")
            await run.flush()
        await done.wait()

    expected = "".join(f"{number} " for number in range(1500))
    async with live.test_client() as client:
        await live.start(CHANNEL, 1500, id="r1")
        text = ""
        while text != expected:
            async with live.test_client() as late:
                joined = await late.subscribe(CHANNEL)
                text = "".join(part["text"] for part in joined.missed[0].data["messages"][-1]["parts"])
        viewer = Viewer()
        viewer.take((await client.subscribe(CHANNEL)).missed[0].data)
        assert len((await live.history(CHANNEL)).publications) <= 600
        done.set()
        assert (await follow(client, "r1", viewer)).text("r1") == expected


async def test_a_quiet_channel_leaves_only_its_messages_in_memory() -> None:
    live = talking(idle=0.1)
    async with live.test_client() as client:
        await client.subscribe(CHANNEL)
        await live.start(CHANNEL, "x", id="r1")
        await live.steer(CHANNEL, "end")
        await follow(client, "r1")
        await eventually(lambda: live._runs.statistics() == (0, 0), 5)
        assert (await live.history(CHANNEL)).publications == []
        await client.unsubscribe(CHANNEL)
        joined = await client.subscribe(CHANNEL)
        viewer = Viewer()
        viewer.take(joined.missed[0].data)
        assert viewer.text("r1") == "heard: end"
        await live.start(CHANNEL, "again", id="r2")
        await live.steer(CHANNEL, "end")
        assert (await follow(client, "r2", viewer)).states["r2"] == "finished"


def test_what_cannot_be_a_rule_of_runs_is_refused() -> None:
    async def answer(run: Run, message: int) -> None: ...

    async def wants_more(run: Run, message: int, what: str) -> None: ...

    live = made()
    with pytest.raises(ConfigError, match="parallel"):
        live.run("a:{b}", parallel=0)(answer)
    with pytest.raises(ConfigError, match=r"history\.size"):
        live.run("a:{b}", history={"size": 5, "ttl": 5})(answer)
    with pytest.raises(TypeError, match="what"):
        live.run("a:{b}")(wants_more)


async def test_parts_that_cannot_be_are_refused_where_they_are_written() -> None:
    aggregate = Aggregate()
    for part in (
        {"type": "text-delta", "id": "x", "delta": "a"},
        {"type": "made-up"},
        {"type": "tool-output-available"},
    ):
        with pytest.raises(Refusal):
            aggregate.apply(part)
