"""How often one visitor may do something, so that nobody spoils a demo for the others."""

import time
from collections.abc import Callable

from freshet import Refusal, Session

KEPT = 10_000  # clients; beyond that, those who are within their pace are forgotten


class Pace:
    """At most `rate` times a second for each client, and up to `burst` times at once.

    Of a client it keeps one number: when what it has done so far will be within its pace (the algorithm is GCRA).
    clock: seconds that only rise.
    """

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval = 1 / rate
        self._slack = (burst - 1) / rate
        self._clock = clock
        self._due: dict[str, float] = {}

    def check(self, session: Session) -> None:
        """Count once. Raises Refusal 111 when that is too often; then it does not count."""
        now = self._clock()
        due = max(self._due.get(session.id, now), now)
        if due - now > self._slack:
            raise Refusal.too_many_requests("slower, please")
        if len(self._due) >= KEPT:
            self._due = {client: due for client, due in self._due.items() if due > now}
        self._due[session.id] = due + self._interval
