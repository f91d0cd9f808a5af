"""What time it is, and what happens later: one object, so that a test can turn it (`freshet.testing.ManualClock`)."""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """Something that is to happen."""

    def cancel(self) -> None:
        """It is not to happen after all."""


class Clock:
    """The machine's own time."""

    __slots__ = ()

    wall = staticmethod(time.time)
    """Seconds since 1970, as in tokens."""

    monotonic = staticmethod(time.monotonic)
    """Seconds that never go back."""

    def call_later(self, delay: float, function: Callable[[], None]) -> Timer:
        """Call `function` in `delay` seconds."""
        return asyncio.get_running_loop().call_later(delay, function)


SYSTEM = Clock()
