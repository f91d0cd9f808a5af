"""Waiting for things, never for time, with one scale factor for every timeout.

`FRESHET_TEST_SCALE=4` makes each timeout of the tests four times as long, for a slow or busy machine.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import TypeVar

SCALE = float(os.environ.get("FRESHET_TEST_SCALE", "1"))
PAUSE = 0.01

T = TypeVar("T")


def seconds(number: float) -> float:
    """A timeout of `number` seconds, scaled."""
    return number * SCALE


def wait_until(condition: Callable[[], T], within: float = 5, what: str = "") -> T:
    """Block until `condition()` is true, and give what it returned.

    Raises TimeoutError after `within` seconds, scaled; it names `what`, or the condition.
    """
    end = time.monotonic() + seconds(within)
    while not (value := condition()):
        if time.monotonic() > end:
            raise TimeoutError(_complaint(condition, within, what))
        time.sleep(PAUSE)
    return value


async def eventually(condition: Callable[[], T | Awaitable[T]], within: float = 5, what: str = "") -> T:
    """Like `wait_until`, while the event loop goes on. `condition` may be a coroutine function."""
    end = time.monotonic() + seconds(within)
    while True:
        result = condition()
        value = await result if isawaitable(result) else result
        if value:
            return value
        if time.monotonic() > end:
            raise TimeoutError(_complaint(condition, within, what))
        await asyncio.sleep(PAUSE)


def _complaint(condition: Callable[[], object], within: float, what: str) -> str:
    return f"waited {seconds(within):g} s for {what or getattr(condition, '__qualname__', condition)}"
