"""Staying with a broker: what was lost is opened again, after pauses that grow and that differ from node to node."""

import asyncio
import logging
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

from freshet.errors import EngineUnavailable

log = logging.getLogger("freshet")

TICK = 0.5  # seconds between looks at the time
PAUSES = (0.05, 2.0)  # seconds between attempts to come back: the first, and the longest


class Staying(ABC):
    """broker: its name, in what is said. back: called when what was lost is there again, with all subscriptions."""

    broker: ClassVar[str]

    def __init__(self, back: Callable[[], None]) -> None:
        self._back = back
        self._why = "the server was not reached yet"
        self._lost = asyncio.Event()  # set by whoever finds that it is
        self._keeper: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Reach the server and stay with it. Raises EngineUnavailable."""
        if not await self._connect():
            raise EngineUnavailable(f"{self.broker} cannot be reached: {self._why}")
        self._keeper = asyncio.get_running_loop().create_task(self._keep())

    async def close(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
            self._keeper = None
        self._hang_up("the engine was stopped")

    async def _keep(self) -> None:
        pause, longest = PAUSES
        while True:
            try:
                async with asyncio.timeout(TICK):
                    await self._lost.wait()
            except TimeoutError:
                self._look_at_the_time()
                continue
            log.warning("the line to %s was lost: %s", self.broker, self._why)
            while not await self._connect():
                self._look_at_the_time()
                await asyncio.sleep(pause * (0.5 + secrets.randbelow(1024) / 1024))  # not all nodes at once
                pause = min(2 * pause, longest)
            pause = PAUSES[0]
            log.warning("the line to %s is back", self.broker)
            self._back()

    @abstractmethod
    async def _connect(self) -> bool:
        """Open what is missing and subscribe to all again; if that fails, `_why` says why."""

    @abstractmethod
    def _hang_up(self, why: str) -> None:
        """Close what is open."""

    @abstractmethod
    def _look_at_the_time(self) -> None:
        """Give up what takes too long, and see whether the server still answers."""
