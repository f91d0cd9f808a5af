"""What the tests of an application with Freshet in it need: clients without a network, and a clock that they turn.

    async def test_a_message_reaches_the_room():
        async with live.test_client("alice") as alice, live.test_client("bob") as bob:
            await alice.subscribe("chat:1")
            await bob.subscribe("chat:1")
            await bob.publish("chat:1", {"text": "hello"})
            assert (await alice.receive()).data == {"text": "hello"}

A test client takes the way of a real one: its token is checked, rules and hooks decide. Only the socket is missing.
"""

import asyncio
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count

from freshet.endpoints.in_process import Client, ClientEvent, Received, SubscribeResult, settle
from freshet.runtime import clock

__all__ = ["Client", "ClientEvent", "ManualClock", "Received", "SubscribeResult"]


class ManualClock(clock.Clock):
    """A clock that stands still until a test turns it: `Freshet(secret=..., clock=clock)`.

    now: seconds, of either kind. Tokens, history, presence, idempotency keys and heartbeats go by it.
    """

    __slots__ = ("_numbers", "_timers", "now")

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now
        self._timers: list[tuple[float, int, _Timer]] = []
        self._numbers = count()

    def wall(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    def call_later(self, delay: float, function: Callable[[], None]) -> clock.Timer:
        timer = _Timer(function)
        heappush(self._timers, (self.now + delay, next(self._numbers), timer))
        return timer

    async def advance(self, seconds: float) -> None:
        """Let so much time go by, and all happen that is due until then."""
        end = self.now + seconds
        while self._timers and self._timers[0][0] <= end:
            due, _, timer = heappop(self._timers)
            self.now = max(self.now, due)
            timer.run()
            await asyncio.sleep(0)
        self.now = end
        await settle()


class _Timer:
    """A function, until it is cancelled."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[[], None]) -> None:
        self._function: Callable[[], None] | None = function

    def cancel(self) -> None:
        self._function = None

    def run(self) -> None:
        if self._function is not None:
            self._function()
