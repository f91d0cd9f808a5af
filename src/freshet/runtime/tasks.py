"""Who owns a task: it has a name, its failure is logged, and it ends with its owner.

The event loop itself holds tasks only weakly, and nobody learns of one that fails. So every task that outlives the call
that began it belongs to a `Tasks`, and whoever has a `stop()` stops his own.
"""

import asyncio
import logging
from collections.abc import Coroutine, Generator
from contextvars import Context, copy_context
from types import coroutine
from typing import Any, TypeVar

from freshet.errors import FreshetError

log = logging.getLogger("freshet.tasks")

T = TypeVar("T")


def begin(work: Coroutine[Any, Any, T], name: str | None = None, context: Context | None = None) -> asyncio.Task[T]:
    """A task that begins in a later turn of the event loop, so that whoever makes it has noted it by then.

    The loop's own `create_task` may have `asyncio.eager_task_factory`, and run it up to its first wait at once.
    """
    return asyncio.Task(work, loop=asyncio.get_running_loop(), name=name, context=context)


@coroutine
def in_task() -> Generator[None, None, None]:
    """Go on in a task, which what comes next needs: `asyncio.timeout` does, and any code that is not ours may.

    It costs nothing where there is one. There is none in what `Tasks.start_now` has begun, until that waits.
    """
    if asyncio.current_task() is None:
        yield


@coroutine
def behind(work: Coroutine[Any, Any, T], waits_for: Any) -> Generator[Any, Any, T]:
    """The rest of a coroutine that was begun and waits for something."""
    try:
        while True:
            try:
                sent = yield waits_for
            except BaseException as error:
                waits_for = work.throw(error)
            else:
                waits_for = work.send(sent)
    except StopIteration as done:
        result: T = done.value
        return result


@coroutine
def _pause() -> Generator[None, None, None]:
    yield


async def _rest(work: Coroutine[Any, Any, None], future: asyncio.Future[Any]) -> None:
    """As `behind`, for a task that begins in a later turn: by then the future may be done.

    It is begun up to `_pause`, so that a task that is cancelled before that turn raises it where `work` waits.
    """
    try:
        try:
            await _pause()
            await future
        except BaseException as error:
            waits_for = work.throw(error)
        else:
            waits_for = work.send(None)
    except StopIteration:
        return
    await behind(work, waits_for)


class Tasks:
    """The tasks of one owner, which may live in one event loop after another."""

    __slots__ = ("_running",)

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        """How many have not ended."""
        return len(self._running)

    def start(
        self, work: Coroutine[Any, Any, T], name: str, *, may_fail: bool = True, context: Context | None = None
    ) -> asyncio.Task[T]:
        """Begin `work` as a task. Whoever awaits the task has its result and its exception; a failure is logged anyway.

        name: for logs and debuggers, such as `hub: gap check`. may_fail: False: it handles all exceptions itself, so
        that its end costs nothing here. context: None: a copy of the caller's.
        """
        task = begin(work, name, context)
        self._running.add(task)
        task.add_done_callback(self._ended if may_fail else self._running.discard)
        return task

    def start_now(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run `work` up to its first wait at once, and only what is left of it as a task: most never waits.

        It handles all exceptions itself, and has a context of its own from the beginning, but no task until it waits:
        see `in_task`. Within a task of somebody else it begins as with `start`.
        """
        if asyncio.current_task() is not None:
            self.start(work, name, may_fail=False)
            return
        context = copy_context()
        try:
            waits_for = context.run(work.send, None)
        except StopIteration:
            return
        if waits_for is not None:  # and not just another turn, which it has as a task
            waits_for._asyncio_future_blocking = False  # as a task says that it has taken a future
            work = _rest(work, waits_for)
            work.send(None)
        self.start(work, name, may_fail=False, context=context)

    def hold(self, task: asyncio.Task[Any]) -> None:
        """Own a task that handles its failures itself, until it is released: cheaper than `start`, by a callback."""
        self._running.add(task)

    def release(self, task: asyncio.Task[Any]) -> None:
        """A task that was held has ended, or whoever made it has cancelled it."""
        self._running.discard(task)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is None:
            return
        if isinstance(error, FreshetError):  # expected: a client or a broker is away
            log.warning("%s did not succeed: %s", task.get_name(), error)
        else:
            log.error("%s failed", task.get_name(), exc_info=error)

    async def stop(self, grace: float = 0.0) -> None:
        """Give what runs `grace` seconds to end, cancel the rest, and return when nothing runs any more.

        What a task that is ending starts here is ended too. The task that calls this is left alone.
        """
        running = self._others()
        if running and grace > 0:
            await asyncio.wait(running, timeout=grace)
        while running := self._others():
            for task in running:
                task.cancel()
            await asyncio.wait(running)

    def _others(self) -> set[asyncio.Task[Any]]:
        """Without those of a loop that was closed, which will never end."""
        current = asyncio.current_task()
        return {
            task
            for task in self._running
            if task is not current and not task.done() and not task.get_loop().is_closed()
        }
