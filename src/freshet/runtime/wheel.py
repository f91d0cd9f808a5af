"""One timing wheel for a whole process: pings, timeouts and expiries without a timer per client.

A member is visited some time after the delay that it asked for, at most one tick later, and answers with its next
delay. Delays that are longer than the wheel are visited early, which costs one visit and is harmless: a member decides
by the clock what is due.
"""

import logging
from collections.abc import Callable
from typing import Protocol

from freshet.runtime.clock import SYSTEM, Clock, Timer

TICK = 1.0  # seconds
SLOTS = 64

log = logging.getLogger("freshet.wheel")


class Member(Protocol):
    slot: int  # where the wheel keeps it; -1: nowhere

    def visit(self, now: float) -> float:
        """Do what is due at `now` (monotonic seconds); the answer is the seconds until the next visit, 0: no more."""


class Wheel:
    """tick: seconds. late: called with each tick, with how many seconds after its time it came."""

    def __init__(self, clock: Clock = SYSTEM, tick: float = TICK, late: Callable[[float], None] | None = None) -> None:
        self.clock = clock
        self.tick = tick
        self._late = late
        self.lateness = 0.0  # seconds, of the last tick
        self._due = 0.0
        self._caught_up = 0.0
        self._slots: list[set[Member]] = [set() for _ in range(SLOTS)]
        self._hand = 0
        self._timer: Timer | None = None

    def start(self) -> None:
        self._due = self.clock.monotonic() + self.tick
        self._timer = self.clock.call_later(self.tick, self._turn)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def stalled(self) -> bool:
        """Whether the process stood still until a moment ago, as a function that blocks makes it.

        The wheel stood still with it. Who goes by the clock between visits has to know that what came meanwhile, such
        as the answer to a ping, may not be read yet.
        """
        now = self.clock.monotonic()
        return now < self._caught_up or (self._timer is not None and now - self._due > self.tick)

    def schedule(self, member: Member, delay: float) -> None:
        """Visit `member` in `delay` seconds; a visit that was planned before is forgotten."""
        self.cancel(member)
        ticks = min(max(1, int(delay / self.tick) + 1), SLOTS - 1)
        member.slot = (self._hand + ticks) % SLOTS
        self._slots[member.slot].add(member)

    def cancel(self, member: Member) -> None:
        if member.slot >= 0:
            self._slots[member.slot].discard(member)
            member.slot = -1

    def advance(self) -> None:
        """One tick: visit who is due."""
        self._hand = (self._hand + 1) % SLOTS
        due, self._slots[self._hand] = self._slots[self._hand], set()
        now = self.clock.monotonic()
        for member in due:
            if member.slot != self._hand:
                continue  # cancelled by another's visit in this tick
            member.slot = -1
            try:
                delay = member.visit(now)
            except Exception:
                log.exception("wheel: the visit of %r failed: it is not visited again", member)
                continue
            if delay:
                self.schedule(member, delay)

    def _turn(self) -> None:
        now = self.clock.monotonic()
        self.lateness = max(0.0, now - self._due)
        if self._late is not None:
            self._late(self.lateness)
        if now - self._due > self.tick:
            self._caught_up = now + 2 * self.tick
        self.start()
        self.advance()
