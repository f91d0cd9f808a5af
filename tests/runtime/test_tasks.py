"""Tasks: each has a name and an owner, which logs its failure and ends it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import pytest

from freshet.errors import EngineUnavailable
from freshet.runtime.tasks import Tasks, in_task
from tests.tools.patience import eventually
from tests.tools.sessions import from_loop


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


# --------------------------------------------------------------------------------------------------- begun without one


class Work:
    """What is begun at once, and notes what happens to it. waits: for what."""

    def __init__(self, tasks: Tasks, waits: Callable[[], Awaitable[Any]] | None = None) -> None:
        self.tasks = tasks
        self.waits = waits
        self.notes: list[object] = []

    async def run(self) -> None:
        self.notes.append("began")
        if self.waits is not None:
            try:
                self.notes.append(await self.waits())
            except asyncio.CancelledError:
                self.notes.append("cancelled")
                raise
            except Exception as why:
                self.notes.append(why)
        self.notes.append("ended")

    async def begin(self) -> None:
        """Where there is no task; all that is done at once has happened when this returns."""
        await from_loop(self.tasks.start_now, self.run(), "work")


async def test_what_does_not_wait_is_done_at_once_and_is_no_task(tasks: Tasks) -> None:
    work = Work(tasks)
    asyncio.get_running_loop().call_soon(lambda: (tasks.start_now(work.run(), "work"), work.notes.append(len(tasks))))
    await eventually(lambda: work.notes == ["began", "ended", 0])


async def test_what_waits_goes_on_as_a_task_when_that_is_there(tasks: Tasks) -> None:
    future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    work = Work(tasks, lambda: future)
    await work.begin()
    assert (work.notes, len(tasks)) == (["began"], 1)
    future.set_result("came")
    await eventually(lambda: not len(tasks))
    assert work.notes == ["began", "came", "ended"]


async def test_what_it_waits_for_may_fail_or_be_there_before_the_task_has_its_turn(tasks: Tasks) -> None:
    loop, error = asyncio.get_running_loop(), ValueError("broken")
    for settle, note in ((lambda it: it.set_result("came"), "came"), (lambda it: it.set_exception(error), error)):
        future: asyncio.Future[str] = loop.create_future()
        work = Work(tasks, lambda future=future: future)  # type: ignore[misc]
        loop.call_soon(tasks.start_now, work.run(), "work")
        loop.call_soon(settle, future)
        await eventually(lambda work=work: work.notes[-1:] == ["ended"])  # type: ignore[misc]
        assert work.notes == ["began", note, "ended"]


async def test_many_may_wait_for_the_same(tasks: Tasks) -> None:
    future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    works = [Work(tasks, lambda: future) for _ in range(3)]
    for work in works:
        asyncio.get_running_loop().call_soon(tasks.start_now, work.run(), "work")
    await asyncio.sleep(0)
    assert await Work(tasks, lambda: asyncio.sleep(0, "other")).run() is None
    future.set_result("came")
    await eventually(lambda: all(work.notes == ["began", "came", "ended"] for work in works))


async def test_one_that_waits_again_and_again_is_one_task(tasks: Tasks) -> None:
    async def three_times() -> list[str]:
        found = []
        for _ in range(3):
            async with asyncio.timeout(60):
                found.append(await asyncio.sleep(0, "turn"))
        async with asyncio.TaskGroup() as group:
            found.append(await group.create_task(asyncio.sleep(0, "group")))
        return found

    async def waits() -> list[str]:
        await in_task()
        return await three_times()

    work = Work(tasks, waits)
    await work.begin()
    assert len(tasks) == 1
    await eventually(lambda: not len(tasks))
    assert work.notes == ["began", ["turn", "turn", "turn", "group"], "ended"]


@pytest.mark.parametrize("turns", [0, 1, 3])
@pytest.mark.parametrize("waits", [lambda: asyncio.Event().wait(), in_task], ids=["for something", "for its task"])
async def test_one_that_is_cancelled_learns_of_that_where_it_waits_also_before_its_first_turn(
    tasks: Tasks, turns: int, waits: Callable[[], Awaitable[Any]]
) -> None:
    async def forever() -> None:
        await waits()
        await asyncio.Event().wait()

    work = Work(tasks, forever)

    def begin() -> None:
        tasks.start_now(work.run(), "work")
        if not turns:
            next(iter(tasks._running)).cancel()

    asyncio.get_running_loop().call_soon(begin)
    for _ in range(turns):
        await asyncio.sleep(0)
    for task in list(tasks._running):
        task.cancel()
    await eventually(lambda: not len(tasks))
    await eventually(lambda: work.notes == ["began", "cancelled"])


async def test_one_that_stops_waiting_when_it_is_cancelled_goes_on(tasks: Tasks) -> None:
    notes: list[str] = []

    async def stubborn() -> None:
        for _ in range(2):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                notes.append("cancelled")
        await asyncio.sleep(0)
        notes.append("ended")

    await from_loop(tasks.start_now, stubborn(), "stubborn")
    for number in (1, 2):
        next(iter(tasks._running)).cancel()
        await eventually(lambda number=number: len(notes) >= number)  # type: ignore[misc]
    await eventually(lambda: not len(tasks))
    assert notes == ["cancelled", "cancelled", "ended"]


async def test_in_a_task_of_somebody_else_it_begins_as_one_of_its_own(tasks: Tasks) -> None:
    mine = asyncio.current_task()
    seen: list[object] = []

    async def look() -> None:
        seen.append(asyncio.current_task())

    tasks.start_now(look(), "look")
    assert seen == []
    await eventually(lambda: seen)
    assert seen[0] not in (None, mine)


async def test_code_that_needs_a_task_has_one_behind_in_task_and_none_before(tasks: Tasks) -> None:
    seen: list[bool] = []

    async def look() -> None:
        seen.append(asyncio.current_task() is not None)
        await in_task()
        seen.append(asyncio.current_task() is not None)
        await in_task()  # where there is one it waits for nothing
        seen.append(asyncio.current_task() is not None)

    await from_loop(tasks.start_now, look(), "look")
    await eventually(lambda: not len(tasks))
    assert seen == [False, True, True]


async def test_what_it_sets_in_its_context_stays_with_it_and_leaks_to_nobody(tasks: Tasks) -> None:
    trace: ContextVar[str] = ContextVar("trace", default="nobody's")
    seen: list[str] = []

    async def traced(waits: Callable[[], Awaitable[Any]] | None) -> None:
        token = trace.set("mine")
        if waits is not None:
            await waits()
        seen.append(trace.get())
        trace.reset(token)  # fails in another context than that in which it was set

    for waits in (None, in_task, lambda: asyncio.sleep(0)):
        await from_loop(tasks.start_now, traced(waits), "traced")
        asyncio.get_running_loop().call_soon(lambda: seen.append(trace.get()))
        await eventually(lambda: not len(tasks) and len(seen) == 2)
        assert sorted(seen) == ["mine", "nobody's"]
        seen.clear()


async def test_stop_ends_what_is_left_of_it(tasks: Tasks) -> None:
    work = Work(tasks, asyncio.Event().wait)
    await work.begin()
    await tasks.stop()
    assert work.notes == ["began", "cancelled"]
