"""Presence of those who went without a word: channels are looked at when nobody has said that somebody is there."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import suppress

from freshet.errors import EngineUnavailable
from freshet.runtime.clock import Clock, Timer

SWEEP = 1.0  # seconds between looks for clients whose time is over
SWEPT = 100  # channels that are looked at in one sweep


class Sweeping:
    """time: seconds for which a client that was set counts as there. listens: whether this node does, to a channel.

    look: lets those go whose time is over, and says whether anybody is left; it may raise EngineUnavailable.
    """

    def __init__(
        self, time: float, clock: Clock, listens: Callable[[str], bool], look: Callable[[str], Awaitable[bool]]
    ) -> None:
        self._time = time
        self._clock = clock
        self._listens = listens
        self._look = look
        self._due: OrderedDict[str, float] = OrderedDict()  # when to look at which channel
        self._timer: Timer | None = None
        self._sweeping: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        """Channels that will be looked at."""
        return len(self._due)

    def start(self) -> None:
        self._timer = self._clock.call_later(SWEEP, self._tick)

    async def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.gather(self._sweeping, return_exceptions=True)
            self._sweeping = None
        self._due.clear()

    def somebody(self, channel: str) -> None:
        """Somebody may be there, who may go without a word: look in a while, as long as this node listens."""
        if self._listens(channel):
            self._due[channel] = self._clock.monotonic() + self._time + SWEEP
            self._due.move_to_end(channel)

    def forget(self, channel: str) -> None:
        self._due.pop(channel, None)

    def _tick(self) -> None:
        self._timer = self._clock.call_later(SWEEP, self._tick)
        if self._due and (self._sweeping is None or self._sweeping.done()):
            self._sweeping = asyncio.get_running_loop().create_task(self._sweep())

    async def _sweep(self) -> None:
        """A few channels at a time."""
        now = self._clock.monotonic()
        due: list[str] = []
        for channel, when in self._due.items():
            if when > now or len(due) == SWEPT:
                break
            due.append(channel)
        with suppress(EngineUnavailable):  # the next sweep looks again
            left = await asyncio.gather(*map(self._look, due))
            for channel, somebody in zip(due, left, strict=True):
                if somebody:
                    self.somebody(channel)
                else:
                    self.forget(channel)
