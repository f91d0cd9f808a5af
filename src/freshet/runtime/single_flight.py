"""Single-flight: those who ask for the same at once share one answer, which is never older than their question.

An answer that is on its way when somebody asks began too early for him. So he shares the next one, with all who ask
until it begins, which is when the one before has come.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, ParamSpec, TypeVar

from freshet.runtime.tasks import Tasks

P = ParamSpec("P")
T = TypeVar("T")


class SingleFlight(Generic[T]):
    """Answers by what they are about. name: of what is read, for logs."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._next: dict[str, asyncio.Task[T]] = {}
        self._under_way: dict[str, asyncio.Task[T]] = {}
        self._tasks = Tasks()

    def __len__(self) -> int:
        """How many answers are on their way, or will be."""
        return len(self._next) + len(self._under_way)

    async def stop(self) -> None:
        await self._tasks.stop()
        self._next.clear()  # one that had no turn yet has not noticed that it was cancelled

    def share(self, key: str, read: Callable[P, Awaitable[T]], *given: P.args, **named: P.kwargs) -> Awaitable[T]:
        """The answer about `key` that begins after this was called. read: of whoever asks first. Raises as it does."""
        shared = self._next.get(key)
        if shared is None:
            work = self._read(key, read, *given, **named)
            shared = self._next[key] = self._tasks.start(work, f"{self._name} of {key!r}")
        return asyncio.shield(shared)

    async def _read(self, key: str, read: Callable[P, Awaitable[T]], *given: P.args, **named: P.kwargs) -> T:
        me = self._next[key]
        try:
            if (before := self._under_way.get(key)) is not None:
                await asyncio.wait([before])
        finally:
            del self._next[key]
        self._under_way[key] = me
        try:
            return await read(*given, **named)
        finally:
            if self._under_way.get(key) is me:
                del self._under_way[key]
