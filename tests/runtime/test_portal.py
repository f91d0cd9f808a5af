"""The way into an event loop from elsewhere."""

import asyncio
import threading
from collections.abc import Iterator
from contextvars import ContextVar

import pytest

from freshet.errors import NotRunning
from freshet.runtime import portal as module
from freshet.runtime.portal import Portal
from freshet.runtime.tasks import Tasks
from tests.tools.patience import seconds

NAME: ContextVar[str] = ContextVar("name", default="")


class Elsewhere:
    """A portal into a loop that runs in a thread of its own."""

    def __init__(self) -> None:
        self.tasks = Tasks()
        self.portal = Portal(self.tasks)
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._open(), self.loop).result(seconds(5))

    def _run(self) -> None:
        self.loop.run_forever()

    async def _open(self) -> None:
        self.portal.open()

    def end(self) -> None:
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(seconds(5))


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    it = Elsewhere()
    yield it
    it.end()
    for task in asyncio.all_tasks(it.loop):
        task.cancel()
    it.loop.run_until_complete(asyncio.sleep(0))
    it.loop.run_until_complete(it.tasks.stop())
    it.loop.close()


async def whose() -> tuple[int, str]:
    return threading.get_ident(), NAME.get()


async def test_in_its_own_loop_work_is_left_as_it_is() -> None:
    portal = Portal(Tasks())
    portal.open()
    work = whose()
    assert portal.run(work) is work
    assert (await work)[0] == threading.get_ident()
    assert portal.here() is asyncio.get_running_loop()


def test_from_elsewhere_it_runs_in_the_loop_with_the_callers_context(elsewhere: Elsewhere) -> None:
    NAME.set("alice")

    async def caller() -> tuple[int, str]:
        return await elsewhere.portal.run(whose())

    for thread, name in (elsewhere.portal.wait(whose()), asyncio.run(caller())):
        assert (thread, name) == (elsewhere._thread.ident, "alice")


def test_one_loop_after_another_in_the_same_thread_is_another_loop() -> None:
    portal = Portal(Tasks())

    async def first() -> None:
        portal.open()

    async def second() -> None:
        with pytest.raises(RuntimeError, match="another event loop"):
            portal.here()
        with pytest.raises(NotRunning):
            await portal.run(whose())

    asyncio.run(first())
    asyncio.run(second())


def test_what_is_called_by_a_function_that_waits_keeps_its_name_and_what_it_raises(elsewhere: Elsewhere) -> None:
    async def divide(a: int, *, by: int) -> float:
        """Divide."""
        return a / by

    waits = elsewhere.portal.blocking(divide)
    assert (waits.__name__, waits.__doc__) == ("divide", "Divide.")
    assert waits(3, by=2) == 1.5
    with pytest.raises(ZeroDivisionError):
        waits(3, by=0)


def test_calls_belong_to_the_owner_of_the_portal_as_long_as_they_run(elsewhere: Elsewhere) -> None:
    async def count() -> int:
        return len(elsewhere.tasks)

    assert elsewhere.portal.wait(count()) == 1
    assert elsewhere.portal.wait(asyncio.sleep(0, "done")) == "done"
    assert len(elsewhere.tasks) == 0


def test_a_loop_that_ends_without_a_word_leaves_nobody_waiting(
    elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK", 0.01)

    async def end() -> None:
        elsewhere.loop.stop()
        await asyncio.Event().wait()

    with pytest.raises(NotRunning, match="nobody knows"):
        elsewhere.portal.wait(end())
    with pytest.raises(NotRunning, match="nobody knows"):
        asyncio.run(_awaited(elsewhere.portal))


async def _awaited(portal: Portal) -> None:
    await portal.run(whose())


def test_what_was_handed_over_before_the_portal_closed_is_refused_when_its_turn_comes(elsewhere: Elsewhere) -> None:
    held = threading.Event()
    elsewhere.loop.call_soon_threadsafe(held.wait, seconds(5))
    elsewhere.loop.call_soon_threadsafe(elsewhere.portal.close)
    call = elsewhere.portal._hand_over(whose())
    held.set()
    with pytest.raises(NotRunning, match="nothing was done"):
        call.reply.result(seconds(5))
