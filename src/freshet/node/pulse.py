"""Whether the engine answers, and how fast: asked now and then, whatever else is asked of it."""

import asyncio
from collections.abc import Callable

from freshet.engines.base import Engine
from freshet.errors import EngineUnavailable
from freshet.observe.counts import Counts, add
from freshet.runtime.tasks import Tasks

INTERVAL = 5.0  # seconds
QUESTION = "\0pulse"  # a channel in which nobody is: no client can name it


class Pulse:
    """Implements `Part`. away_since: when the engine did not answer first, by the clock; 0: it answers."""

    def __init__(self, engine: Engine, counts: Counts, monotonic: Callable[[], float]) -> None:
        self._engine = engine
        self._counts = counts
        self._tasks = Tasks()  # its own: those of the node get time to end
        self._now = monotonic
        self.away_since = 0.0

    async def start(self) -> None:
        if self._engine.shared:
            self._tasks.start(self._beat(), "node: pulse of the engine")

    async def stop(self) -> None:
        await self._tasks.stop()

    @property
    def away(self) -> float:
        """Seconds since when the engine does not answer; 0: it does."""
        return max(0.001, self._now() - self.away_since) if self.away_since else 0.0

    async def _beat(self) -> None:
        while True:
            began = self._now()
            try:
                await self._engine.presence(QUESTION)
            except EngineUnavailable:
                add(self._counts.engine_errors, "pulse")
                self.away_since = self.away_since or began
            else:
                self.away_since = 0.0
                self._counts.engine.observe(self._now() - began)
            await asyncio.sleep(INTERVAL)
