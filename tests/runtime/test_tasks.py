"""Tasks: each has a name and an owner, which logs its failure and ends it."""

import asyncio
import logging
from typing import Any

import pytest

from freshet.errors import EngineUnavailable
from freshet.runtime.tasks import Tasks
from tests.tools.patience import eventually


@pytest.fixture
def tasks() -> Tasks:
    return Tasks()


async def fail(why: Exception) -> None:
    raise why


async def test_a_task_has_its_name_and_gives_its_result(tasks: Tasks) -> None:
    async def answer() -> int:
        return 42

    task = tasks.start(answer(), "hub: gap check")
    assert (task.get_name(), len(tasks)) == ("hub: gap check", 1)
    assert await task == 42
    await eventually(lambda: not len(tasks))


async def test_a_failure_is_logged_with_the_name_and_the_traceback(
    tasks: Tasks, caplog: pytest.LogCaptureFixture
) -> None:
    error = ValueError("broken")
    task = tasks.start(fail(error), "hub: gap check")
    await asyncio.wait([task])
    await eventually(lambda: caplog.records)
    [record] = caplog.records
    assert (record.name, record.levelno) == ("freshet.tasks", logging.ERROR)
    assert record.getMessage() == "hub: gap check failed"
    assert record.exc_info is not None
    assert record.exc_info[1] is error


async def test_a_failure_that_was_to_be_expected_is_a_warning_without_a_traceback(
    tasks: Tasks, caplog: pytest.LogCaptureFixture
) -> None:
    task = tasks.start(fail(EngineUnavailable("redis is away")), "presence: renewal")
    with pytest.raises(EngineUnavailable):
        await task  # whoever awaits it has the failure too
    [record] = caplog.records
    assert (record.levelno, record.getMessage()) == (
        logging.WARNING,
        "presence: renewal did not succeed: redis is away",
    )
    assert record.exc_info is None


async def test_a_task_that_is_cancelled_is_no_failure(tasks: Tasks, caplog: pytest.LogCaptureFixture) -> None:
    task = tasks.start(asyncio.Event().wait(), "waits")
    task.cancel()
    await asyncio.wait([task])
    await eventually(lambda: not len(tasks))
    assert caplog.records == []


async def test_to_stop_is_to_cancel_what_runs_and_to_wait_until_it_has_ended(tasks: Tasks) -> None:
    ended: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)  # its end takes a while
            await asyncio.sleep(0)
            ended.append("work")

    running = [tasks.start(work(), f"work {number}") for number in range(3)]
    await asyncio.sleep(0)
    await tasks.stop()
    assert (ended, len(tasks)) == (["work"] * 3, 0)
    assert all(task.cancelled() for task in running)


async def test_what_a_task_starts_while_it_ends_is_ended_too(tasks: Tasks) -> None:
    started: list[asyncio.Task[bool]] = []

    async def begin_more(generations: int) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            if generations:
                tasks.start(begin_more(generations - 1), "one more")
            else:
                started.append(tasks.start(asyncio.Event().wait(), "the last"))

    tasks.start(begin_more(3), "first")
    await asyncio.sleep(0)
    stopping = asyncio.create_task(tasks.stop())
    await eventually(stopping.done)
    assert len(tasks) == 0
    assert [task.cancelled() for task in started] == [True]


async def test_within_the_grace_a_task_may_end_by_itself(tasks: Tasks) -> None:
    door = asyncio.Event()

    async def work() -> str:
        await door.wait()
        return "done"

    quick, endless = tasks.start(work(), "quick"), tasks.start(asyncio.Event().wait(), "endless")
    stopping = asyncio.create_task(tasks.stop(grace=0.1))
    await asyncio.sleep(0)
    assert not quick.done()
    door.set()
    await stopping
    assert quick.result() == "done"
    assert endless.cancelled()


async def test_without_a_grace_a_task_is_cancelled_even_if_it_could_end(tasks: Tasks) -> None:
    door = asyncio.Event()
    task = tasks.start(door.wait(), "waits")
    await asyncio.sleep(0)
    stopping = asyncio.create_task(tasks.stop())
    await asyncio.sleep(0)
    door.set()
    await stopping
    assert task.cancelled()


async def test_a_task_may_stop_all_others_of_its_owner(tasks: Tasks) -> None:
    other = tasks.start(asyncio.Event().wait(), "other")

    async def stop() -> str:
        await tasks.stop()
        return "alone"

    assert await tasks.start(stop(), "stops") == "alone"
    assert other.cancelled()


async def test_to_stop_what_has_nothing_to_do_is_nothing(tasks: Tasks) -> None:
    await tasks.stop(grace=60)
    await tasks.stop()


def test_an_owner_may_live_in_one_loop_after_another(tasks: Tasks) -> None:
    async def life() -> int:
        tasks.start(asyncio.Event().wait(), "endless")
        await tasks.stop()
        return len(tasks)

    assert [asyncio.run(life()), asyncio.run(life())] == [0, 0]


async def test_a_task_begins_in_a_later_turn_whatever_makes_the_tasks_of_its_loop(tasks: Tasks) -> None:
    """As `asyncio.eager_task_factory` does, which Python has from 3.12 on."""
    loop, began = asyncio.get_running_loop(), asyncio.Event()

    def at_once(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Task[Any]:
        began.set()
        return asyncio.Task(work, loop=loop, **options)

    async def work() -> None:
        began.set()

    loop.set_task_factory(at_once)
    try:
        task = tasks.start(work(), "hub: gap check")
        assert not began.is_set()
        await task
        assert began.is_set()
    finally:
        loop.set_task_factory(None)
