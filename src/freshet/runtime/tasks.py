"""Who owns a task: it has a name, its failure is logged, and it ends with its owner.

The event loop itself holds tasks only weakly, and nobody learns of one that fails. So every task that outlives the call
that began it belongs to a `Tasks`, and whoever has a `stop()` stops his own.
"""

import asyncio
import logging
from collections.abc import Coroutine, Generator
from contextvars import Context
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


async def _rest_of(work: Coroutine[Any, Any, None], waits_for: Any) -> None:
    """Of `work`, which has begun and waits for something that the event loop knows."""
    try:
        while True:
            try:
                result = await _passed_on(waits_for)
            except BaseException as error:
                waits_for = work.throw(error)
            else:
                waits_for = work.send(result)
    except StopIteration:
        return


@coroutine
def _passed_on(waits_for: Any) -> Generator[Any, Any, Any]:
    return (yield waits_for)


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

    def run(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run `work`, which handles its failures itself, up to where it waits, now; the rest, if any, is a task.

        Most of what could wait does not. Until its first wait it has no task of its own, which `asyncio.timeout` needs.
        """
        try:
            waits_for = work.send(None)
        except StopIteration:
            return
        self.start(_rest_of(work, waits_for), name)

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
