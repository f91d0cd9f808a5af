"""The event loop of a node, and the one way into it from threads and from other event loops.

What asyncio makes belongs to one loop: scheduled from elsewhere it is lost, or runs in two threads at once. So whatever
an application asks of a node runs in the node's own loop: as it is, where it is asked there; from anywhere else it is
handed over, and its result or its exception comes back.
"""

import asyncio
import concurrent.futures
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
from concurrent.futures import Future
from contextlib import suppress
from functools import wraps
from threading import get_ident
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar

from freshet.errors import FreshetError, NotRunning
from freshet.observe.logs import BoundedLog
from freshet.runtime.tasks import Tasks

log = logging.getLogger("freshet")

LOOK = 1.0  # seconds between two looks whether the loop that has a call still runs

P = ParamSpec("P")
S = TypeVar("S", bound="Hosted")
T = TypeVar("T")


class Portal:
    """Into the event loop in which it was opened, until it is closed.

    tasks: whose are the calls from elsewhere, so that they end with their owner.
    """

    __slots__ = ("_bounded_log", "_loop", "_tasks", "_thread")

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._loop: asyncio.AbstractEventLoop | None = None  # while it is open
        self._thread = 0
        self._bounded_log = BoundedLog(log)

    def open(self) -> None:
        self._loop, self._thread = asyncio.get_running_loop(), get_ident()

    def close(self) -> None:
        """From now on every call raises `NotRunning`."""
        self._loop = None

    def here(self) -> asyncio.AbstractEventLoop:
        """The loop, for what may be scheduled there alone. Raises RuntimeError when this is not run by it."""
        loop = self._loop
        if loop is None:
            return asyncio.get_running_loop()
        if get_ident() != self._thread or not loop.is_running():
            raise self.elsewhere()
        return loop

    def is_here(self) -> bool:
        """Whether the loop runs this, or there is none yet, or no more."""
        loop = self._loop
        return loop is None or (get_ident() == self._thread and loop.is_running())

    def elsewhere(self) -> RuntimeError:
        """What to raise for that."""
        return self._wrong("Freshet runs in another event loop than this one, where this belongs")

    def run(self, work: Coroutine[Any, Any, T]) -> Awaitable[T]:
        """To be awaited in any loop: `work` as it is, if this is its loop; otherwise what comes of it there.

        Raises what `work` raises, and `NotRunning`. When the caller is cancelled, `work` is.
        """
        loop = self._loop
        # That the loop runs, and in this thread, is the same as that it runs this; to ask for that is a system call.
        if loop is not None and get_ident() == self._thread and loop.is_running():
            return work
        return self._run_there(work)

    async def _run_there(self, work: Coroutine[Any, Any, T]) -> T:
        call = self._hand_over(work)
        reply = asyncio.wrap_future(call.reply)
        try:
            while not reply.done():
                await asyncio.wait([reply], timeout=LOOK)
                call.check()
        finally:
            call.cancel()
        return reply.result()

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """What comes of `work`, for a caller without `await`, whose thread is blocked meanwhile.

        Raises as `run`, and RuntimeError in the loop itself, which would wait for itself.
        """
        if self._loop is not None and self._loop is _running():
            work.close()
            raise self._wrong("live.sync would block the event loop that it waits for: here, `await live...` instead")
        call = self._hand_over(work)
        try:
            while not call.reply.done():
                concurrent.futures.wait([call.reply], timeout=LOOK)
                call.check()
        finally:
            call.cancel()
        return call.reply.result()

    def read(self, work: Callable[[], T]) -> T:
        """What a function gives that does not wait, and looks at what belongs to the loop. Raises as `wait`.

        Where nothing runs, nothing changes either: it is called as it is.
        """
        if self.is_here():
            return work()

        async def there() -> T:
            return work()

        return self.wait(there())

    def each(self, items: AsyncGenerator[T, None]) -> Generator[T, None, None]:
        """What an async generator gives, for a caller without `await`. Raises as `wait`."""

        async def following() -> T:
            return await anext(items)

        async def over() -> None:
            await items.aclose()

        try:
            while True:
                try:
                    item = self.wait(following())
                except StopAsyncIteration:
                    return
                yield item
        finally:
            with suppress(NotRunning):
                self.wait(over())

    def blocking(self, call: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
        """An async function as one that waits: see `wait`."""

        @wraps(call)
        def blocking(*arguments: P.args, **named: P.kwargs) -> T:
            return self.wait(call(*arguments, **named))

        return blocking

    def _hand_over(self, work: Coroutine[Any, Any, T]) -> "_Call[T]":
        with suppress(RuntimeError):  # the loop was closed, and nobody said so to the node
            if (loop := self._loop) is not None:
                call = _Call(work, loop, self._tasks)
                loop.call_soon_threadsafe(self._begin, call)
                return call
        work.close()
        error = NotRunning()
        self._bounded_log.warning("not running", "a call was refused: %s", error)
        raise error

    def _begin(self, call: "_Call[Any]") -> None:
        """What the loop calls."""
        if self._loop is call.loop:
            call.begin()
        else:
            call.refuse(NotRunning())

    def _wrong(self, why: str) -> RuntimeError:
        self._bounded_log.warning(why, "a call was refused: %s", why)
        return RuntimeError(why)


class _Call(Generic[T]):
    """What was handed over. reply: for whoever waits. `check` and `cancel` are for him; all else runs in the loop."""

    __slots__ = ("_task", "_tasks", "_work", "loop", "reply")

    def __init__(self, work: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop, tasks: Tasks) -> None:
        self.loop = loop
        self.reply: Future[T] = Future()
        self._work = work
        self._tasks = tasks
        self._task: asyncio.Task[T] | None = None

    def begin(self) -> None:
        if not self.reply.set_running_or_notify_cancel():
            self._work.close()  # nobody waits any more
            return
        self._task = self.loop.create_task(self._work, name="call from another thread or event loop")
        self._tasks.hold(self._task)
        self._task.add_done_callback(self._end)

    def refuse(self, error: FreshetError) -> None:
        self._work.close()
        if self.reply.set_running_or_notify_cancel():
            self.reply.set_exception(error)

    def _end(self, task: asyncio.Task[T]) -> None:
        self._tasks.release(task)
        try:
            result = task.result()
        except asyncio.CancelledError as why:  # by whoever ends the loop; or what was called has raised it itself
            self.reply.set_exception(NotRunning.any_more() if task.cancelling() else why)
        except BaseException as error:  # which is its caller's, whatever it is
            self.reply.set_exception(error)
        else:
            self.reply.set_result(result)

    def check(self) -> None:
        """Raises `NotRunning` when there will be no reply, because the loop that was to give it has ended."""
        if not (self.reply.done() or self.loop.is_running() or self.reply.done()):
            raise NotRunning.any_more()

    def cancel(self) -> None:
        """Nobody waits any more. What has ended is left as it is."""
        if not self.reply.done() and not self.reply.cancel():
            with suppress(RuntimeError):  # the loop was closed: it has ended in any case
                self.loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()


def _running() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


class WithPortal(Protocol):
    portal: Portal


class Hosted(Protocol):
    """What lives in a node, and has methods for code that may run elsewhere."""

    @property
    def host(self) -> WithPortal: ...


def from_anywhere(
    method: Callable[Concatenate[S, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """Let a method be awaited in any event loop: see `Portal.run`."""

    @wraps(method)
    async def run(self: S, *arguments: P.args, **named: P.kwargs) -> T:
        return await self.host.portal.run(method(self, *arguments, **named))

    return run  # type: ignore[return-value]  # which `wraps` makes of `self`
