"""How many clients may come in: a token bucket, so that a storm of them does not stop the service of those who are in.

When a server ends, all its clients reconnect at once. Those that exceed the rate are refused with a time to wait, which
spreads them over the time that it takes to let in those before them.
"""

import secrets

from freshet.runtime.clock import Clock

LONGEST_WAIT = 30  # seconds


class Admission:
    """rate: clients a second, in the long run; 0: any number. burst: how many at once after a quiet time."""

    __slots__ = ("_clock", "_refused", "_since", "_tokens", "burst", "rate", "refused")

    def __init__(self, rate: float, burst: int, clock: Clock) -> None:
        self.rate = rate
        self.burst = burst
        self.refused = 0  # in all
        self._clock = clock
        self._tokens = float(burst)
        self._since = clock.monotonic()
        self._refused = 0.0  # that may be expected to try again

    def wait(self) -> int:
        """Seconds after which one more client may try again; 0: it may come in now."""
        if not self.rate:
            return 0
        now = self._clock.monotonic()
        came = (now - self._since) * self.rate
        self._since = now
        self._tokens = min(self._tokens + came, self.burst)
        self._refused = max(self._refused - came, 0.0)
        if self._tokens >= 1:
            self._tokens -= 1
            return 0
        self.refused += 1
        self._refused += 1
        spread = min(int(self._refused / self.rate), LONGEST_WAIT - 1)
        return 1 + secrets.randbelow(spread + 1)
