"""What nobody told a node: now and then it compares what came with the logs, and tells the others that it is there."""

import asyncio

from freshet.engines.base import Engine
from freshet.hub.hub import Hub
from freshet.node.bus import Bus
from freshet.runtime.tasks import Tasks


class PositionCheck:
    """Implements `Part`. interval: seconds between two looks, see `timing.position_check`."""

    def __init__(self, engine: Engine, hub: Hub, bus: Bus, interval: float) -> None:
        self._engine = engine
        self._hub = hub
        self._bus = bus
        self._interval = interval
        self._tasks = Tasks()  # its own: those of the node get time to end

    async def start(self) -> None:
        if self._engine.shared:
            self._tasks.start(self._check(), "node: position check")

    async def stop(self) -> None:
        await self._tasks.stop()

    async def _check(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            self._hub.suspect("")  # the logs know what was lost without a trace
            await self._bus.announce()
