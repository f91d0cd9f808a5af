"""Log lines that a client can cause as often as it likes: one per kind and interval, and how many were left out."""

import logging
import time
from collections.abc import Callable

INTERVAL = 10.0  # seconds between two lines of one kind


class BoundedLog:
    """Warnings at a bounded rate.

    A kind is what the code calls it, never what a client sent: there are as many as there are calls.
    """

    def __init__(
        self, log: logging.Logger, interval: float = INTERVAL, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._log = log
        self._interval = interval
        self._now = now
        self._next: dict[str, float] = {}
        self._left_out: dict[str, int] = {}

    def warning(self, kind: str, message: str, *arguments: object) -> None:
        """Write the line, unless one of its kind was written less than an interval ago."""
        now = self._now()
        if now < self._next.get(kind, 0.0):
            self._left_out[kind] = self._left_out.get(kind, 0) + 1
            return
        self._next[kind] = now + self._interval
        if left_out := self._left_out.pop(kind, 0):
            message, arguments = f"{message} (and %d more like it before)", (*arguments, left_out)
        self._log.warning(message, *arguments)
