"""Expiry of presence: clients whose node died are removed by the nodes that are subscribed to their channels."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import suppress

from freshet.errors import EngineUnavailable
from freshet.runtime.clock import Clock, Timer
from freshet.runtime.tasks import Tasks

SWEEP = 1.0  # seconds between sweeps
SWEPT = 100  # channels in one sweep


class PresenceSweep:
    """time: seconds after which a client that was not set again has left.

    is_subscribed: whether this node is, to a channel. expire: removes the clients of a channel whose time is over, and
    says whether any are left; it may raise EngineUnavailable, and is called again at the next sweep.
    """

    def __init__(
        self,
        time: float,
        clock: Clock,
        is_subscribed: Callable[[str], bool],
        expire: Callable[[str], Awaitable[bool]],
    ) -> None:
        self._time = time
        self._clock = clock
        self._is_subscribed = is_subscribed
        self._expire = expire
        self._due: OrderedDict[str, float] = OrderedDict()  # when which channel is swept
        self._timer: Timer | None = None
        self._tasks = Tasks()

    def __len__(self) -> int:
        """Channels that will be swept."""
        return len(self._due)

    def start(self) -> None:
        """Sweep from now on, until `stop`."""
        self._timer = self._clock.call_later(SWEEP, self._tick)

    async def stop(self) -> None:
        """Sweep no more, and forget the channels."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await self._tasks.stop()
        self._due.clear()

    def somebody(self, channel: str) -> None:
        """A client was set in `channel`: sweep it once its time may be over, if this node is subscribed to it."""
        if self._is_subscribed(channel):
            self._due[channel] = self._clock.monotonic() + self._time + SWEEP
            self._due.move_to_end(channel)

    def forget(self, channel: str) -> None:
        """This node is no longer subscribed to `channel`."""
        self._due.pop(channel, None)

    def _tick(self) -> None:
        self._timer = self._clock.call_later(SWEEP, self._tick)
        if self._due and not self._tasks:
            self._tasks.start(self._sweep(), "presence: sweep")

    async def _sweep(self) -> None:
        """A few channels at a time."""
        now = self._clock.monotonic()
        due: list[str] = []
        for channel, when in self._due.items():
            if when > now or len(due) == SWEPT:
                break
            due.append(channel)
        with suppress(EngineUnavailable):  # the next sweep does it
            left = await asyncio.gather(*map(self._expire, due))
            for channel, somebody in zip(due, left, strict=True):
                if somebody:
                    self.somebody(channel)
                else:
                    self.forget(channel)
