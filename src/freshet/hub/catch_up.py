"""Catch-up: what returning clients missed, read from the logs, single-flight.

When a server ends, all its clients reconnect at once, and most miss the same publications: one read serves all who
return to a channel at the same time. A client must not be served from a read that began before it was let in: what
was published between would be in neither the read nor its live flow. So those who ask while a read is under way share
the next.
"""

import asyncio

from freshet.engines.base import Engine
from freshet.model.log import OLDEST, History, Position, Stream
from freshet.runtime.tasks import Tasks


class _SharedRead:
    """A read that has not begun. since: the oldest position that somebody asks for."""

    __slots__ = ("since", "task")

    def __init__(self, since: Position) -> None:
        self.since = since
        self.task: asyncio.Task[Stream] | None = None


class CatchUp:
    """The history reads of one node."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._next: dict[str, _SharedRead] = {}
        self._under_way: dict[str, asyncio.Task[Stream]] = {}
        self._tasks = Tasks()

    async def stop(self) -> None:
        await self._tasks.stop()

    async def read(self, channel: str, keep: History, since: Position | None) -> Stream:
        """What came after `since`, and where the log stands, read after this was called. Raises EngineUnavailable.

        since: `OLDEST`: all; None: only where the log stands, which is not shared: it is quick.
        """
        if since is None:
            return await self._engine.history(channel, keep, limit=0)
        shared = self._next.get(channel)
        if shared is None:
            shared = self._next[channel] = _SharedRead(since)
            shared.task = self._tasks.start(self._read(channel, keep, shared), f"catch-up in {channel!r}")
        shared.since = min(shared.since, since, key=lambda place: place.offset)
        assert shared.task is not None
        publications, position = await asyncio.shield(shared.task)
        first = next((at for at, it in enumerate(publications) if it.offset > since.offset), len(publications))
        return Stream(publications[first:], position)

    async def _read(self, channel: str, keep: History, shared: _SharedRead) -> Stream:
        try:
            if (before := self._under_way.get(channel)) is not None:
                await asyncio.wait([before])
        finally:
            del self._next[channel]
        me = asyncio.current_task()
        assert me is not None
        self._under_way[channel] = me
        try:
            since = None if shared.since == OLDEST else shared.since
            return await self._engine.history(channel, keep, since)
        finally:
            if self._under_way.get(channel) is me:
                del self._under_way[channel]
