"""What clients missed, read from the logs: one read serves all who come back to a channel at the same time.

When a server ends, all its clients come back at once, and most want the same publications. A client must not be served
from a read that began before it was let in: what was published between would be in neither the read nor its live flow.
So those who ask while a read is under way share the next.
"""

import asyncio
import logging

from freshet.engines.base import Engine
from freshet.model.log import OLDEST, History, Position, Stream

log = logging.getLogger("freshet.reading")


class _Round:
    """A read that has not begun. since: the oldest place that somebody asks for."""

    __slots__ = ("reading", "since")

    def __init__(self, since: Position) -> None:
        self.since = since
        self.reading: asyncio.Task[Stream] | None = None


class Reading:
    """The reads of one node."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._next: dict[str, _Round] = {}
        self._under_way: dict[str, asyncio.Task[Stream]] = {}

    async def read(self, channel: str, keep: History, since: Position | None) -> Stream:
        """What came after `since`, and where the log stands, read after this was called. Raises EngineUnavailable.

        since: `OLDEST`: all; None: only where the log stands, which is not shared: it is quick.
        """
        if since is None:
            return await self._engine.history(channel, keep, limit=0)
        mine = self._next.get(channel)
        if mine is None:
            mine = self._next[channel] = _Round(since)
            mine.reading = asyncio.get_running_loop().create_task(self._read(channel, keep, mine))
            mine.reading.add_done_callback(_noted)
        mine.since = min(mine.since, since, key=lambda place: place.offset)
        assert mine.reading is not None
        publications, position = await asyncio.shield(mine.reading)
        first = next((at for at, it in enumerate(publications) if it.offset > since.offset), len(publications))
        return Stream(publications[first:], position)

    async def _read(self, channel: str, keep: History, mine: _Round) -> Stream:
        try:
            if (before := self._under_way.get(channel)) is not None:
                await asyncio.wait([before])
        finally:
            del self._next[channel]
        me = asyncio.current_task()
        assert me is not None
        self._under_way[channel] = me
        try:
            since = None if mine.since == OLDEST else mine.since
            return await self._engine.history(channel, keep, since)
        finally:
            if self._under_way.get(channel) is me:
                del self._under_way[channel]


def _noted(task: asyncio.Task[Stream]) -> None:
    """Whoever waited for the task has its exception; perhaps nobody did."""
    if not task.cancelled() and (why := task.exception()) is not None:
        log.debug("a read failed: %s", why)
