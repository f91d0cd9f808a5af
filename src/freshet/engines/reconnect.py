"""The connection to a broker is kept: when it is lost it is made again, after pauses that grow and differ by node.

A broker's client library opens a connection and speaks on it; when to try again, what an operator reads of it, and that
channels are compared with their logs afterwards, is the same for all brokers, and is here.
"""

import asyncio
import logging
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

from freshet.errors import EngineUnavailable
from freshet.runtime.tasks import Tasks

log = logging.getLogger("freshet")

TICK = 0.5  # seconds between looks at deadlines
PAUSES = (0.05, 2.0)  # seconds before an attempt to reconnect: the first, and the longest


class Reconnecting(ABC):
    """broker: its name, for logs and errors. restored: called when a lost connection is there again, with all topics.

    `_why` says why there is none; whoever finds that it is lost sets `_lost`.
    """

    broker: ClassVar[str]

    def __init__(self, restored: Callable[[], None]) -> None:
        self._restored = restored
        self._why = "the server was not reached yet"
        self._lost = asyncio.Event()
        self._keeper = Tasks()

    async def open(self) -> None:
        """Connect, and reconnect from now on. Raises EngineUnavailable."""
        if not await self._connect():
            raise EngineUnavailable(f"{self.broker} cannot be reached: {self._why}")
        self._keeper.start(self._keep_connected(), f"{self.broker.lower()}: connection")

    async def close(self) -> None:
        """Disconnect; what waits for a reply fails."""
        await self._keeper.stop()
        self.disconnect("the engine was stopped")
        await self._wait_closed()

    async def _keep_connected(self) -> None:
        now = asyncio.get_running_loop().time
        while True:
            began = now()
            try:
                async with asyncio.timeout(TICK):
                    await self._lost.wait()
            except TimeoutError:
                if now() - began < 2 * TICK:  # otherwise this process stood still: what came meanwhile is read first
                    self._check_deadlines()
            else:
                await self._reconnect()

    async def _reconnect(self) -> None:
        began, reported = asyncio.get_running_loop().time(), ""
        pause, longest = PAUSES
        while True:
            delay = pause * (0.5 + secrets.randbelow(1024) / 1024)  # not all nodes at once
            if self._why != reported:  # a server that stays away is reported once
                reported = self._why
                log.warning(
                    "%s: connection to %s lost (%s), reconnecting in %.2f s; %d subscriptions will be re-checked",
                    self.broker.lower(),
                    self._server,
                    reported,
                    delay,
                    self._subscribed,
                )
            await self._wait_closed()
            await asyncio.sleep(delay)
            self._check_deadlines()
            if await self._connect():
                break
            pause = min(2 * pause, longest)
        took = asyncio.get_running_loop().time() - began
        log.warning(
            "%s: connected to %s again after %.1f s; all channels are compared with their logs",
            self.broker.lower(),
            self._server,
            took,
        )
        try:
            self._restored()
        except Exception:
            log.exception("%s: channels cannot be compared with their logs; connecting anew", self.broker.lower())
            self.disconnect("channels could not be compared with their logs")

    @property
    @abstractmethod
    def _server(self) -> object:
        """Which server it is, or was; for logs."""

    @property
    @abstractmethod
    def _subscribed(self) -> int:
        """How many topics are subscribed to."""

    @abstractmethod
    async def _connect(self) -> bool:
        """Open what is missing and subscribe to all again; if that fails, `_why` says why."""

    @abstractmethod
    def disconnect(self, why: str) -> None:
        """Close what is open; it is opened again."""

    @abstractmethod
    async def _wait_closed(self) -> None:
        """Until nothing is left of what was closed."""

    @abstractmethod
    def _check_deadlines(self) -> None:
        """Give up what takes too long, and see whether the server still answers."""
