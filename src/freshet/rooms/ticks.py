"""The beat of a room that has one: at a fixed rate by its clock, and never more than one tick that waits."""

from asyncio import Future
from collections.abc import Callable
from typing import Any

from freshet.runtime.clock import Clock, Timer

PAUSE = 1.0  # seconds before a room whose tick failed gets the next one


class Ticks:
    """tick: begins one, and gives what is done when it is over."""

    __slots__ = ("_clock", "_due", "_interval", "_running", "_tick", "_timer")

    def __init__(self, clock: Clock, tick: Callable[[], "Future[Any]"]) -> None:
        self._clock = clock
        self._tick = tick
        self._interval = 0.0
        self._due = 0.0
        self._running: Future[Any] | None = None
        self._timer: Timer | None = None

    @property
    def go(self) -> bool:
        """Whether there is a next one."""
        return self._timer is not None

    def set(self, rate: float) -> None:
        """From now on, so many a second; 0: none."""
        interval = 1 / rate if rate else 0.0
        if interval == self._interval:
            return
        self._interval = interval
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if interval:
            self._due = self._clock.monotonic() + interval
            self._schedule()

    def _schedule(self) -> None:
        self._timer = self._clock.call_later(max(0.0, self._due - self._clock.monotonic()), self._beat)

    def _beat(self) -> None:
        now = self._clock.monotonic()
        running = self._running
        if running is None or running.done():
            failed = running is not None and (running.cancelled() or running.exception() or running.result().code)
            self._running = None
            if failed:  # the room begins anew, and shall not do so at every beat
                self._due = now + PAUSE
                self._schedule()
                return
            self._running = self._tick()
        self._due += self._interval
        if self._due <= now:  # late: what was left out is not made up for
            self._due = now + self._interval
        self._schedule()
