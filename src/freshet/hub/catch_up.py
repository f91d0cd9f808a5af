"""Catch-up: what returning clients missed, read from the logs, single-flight.

When a server ends, all its clients reconnect at once, and most miss the same publications: one read serves all who
return to a channel at the same time. A client must not be served from a read that began before it was let in: what
was published between would be in neither the read nor its live flow.
"""

from freshet.engines.base import Engine
from freshet.model.log import OLDEST, History, Position, Stream
from freshet.runtime.single_flight import SingleFlight


class CatchUp:
    """The history reads of one node."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._since: dict[str, Position] = {}  # that is asked for, of the next read of a channel: the oldest
        self._reads = SingleFlight[Stream]("catch-up")

    async def stop(self) -> None:
        await self._reads.stop()
        self._since.clear()

    async def read(self, channel: str, keep: History, since: Position | None) -> Stream:
        """What came after `since`, and where the log stands, read after this was called. Raises EngineUnavailable.

        since: `OLDEST`: all; None: only where the log stands, which is not shared: it is quick.
        """
        if since is None:
            return await self._engine.history(channel, keep, limit=0)
        oldest = self._since.get(channel)
        if oldest is None or since.offset < oldest.offset:
            self._since[channel] = since
        publications, position = await self._reads.share(channel, self._read, channel, keep)
        first = next((at for at, it in enumerate(publications) if it.offset > since.offset), len(publications))
        return Stream(publications[first:], position)

    async def _read(self, channel: str, keep: History) -> Stream:
        since = self._since.pop(channel)
        return await self._engine.history(channel, keep, None if since == OLDEST else since)
