"""How often something may happen: token buckets, kept as one number each.

A bucket that lets `burst` through at once and `rate` a second in the long run is the time at which it would be full
again (the generic cell rate algorithm). One whose time has come is full, which is what a new one is: it need not be
kept.
"""

from typing import Annotated, Generic, TypeVar

import msgspec

K = TypeVar("K")
ROUNDING = 1e-9  # seconds
PAUSES = 60  # of a client, one behind the other, that are borne
SMALLEST = 1024  # buckets below which nobody looks for those that are full


class Rate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """So many a second in the long run, so many at once after a quiet time. A rate of 0: no limit."""

    rate: Annotated[float, msgspec.Meta(ge=0)]
    burst: Annotated[float, msgspec.Meta(ge=0)]


class Meter:
    """One rate, for any number of buckets. A bucket is a float: monotonic seconds, at first 0."""

    __slots__ = ("_every", "_window", "burst")

    def __init__(self, rate: Rate) -> None:
        self.burst = rate.burst
        self._every = 1 / rate.rate
        self._window = rate.burst / rate.rate

    def take(self, bucket: float, now: float, cost: float = 1.0) -> float:
        """The bucket after `cost` was taken from it; negative: that was not in it, and will be in so many seconds.

        What costs more than a whole bucket holds may pass when it is full.
        """
        full_at = bucket if bucket > now else now  # noqa: FURB136 - a call costs more than all of this
        after = full_at + cost * self._every
        over = after - now - self._window
        if over > ROUNDING and full_at > now:
            return -min(over, full_at - now)
        return after


class ReadingPace:
    """How fast one client is read. meter: of all clients; see the option `rates.frames`."""

    __slots__ = ("_bucket", "_meter", "_pauses")

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._bucket = 0.0
        self._pauses = 0  # since it was last within its rate

    def wait(self, cost: float, now: float) -> float:
        """Seconds for which it is not read, as so much has come; 0: it may go on."""
        if self._bucket <= now:
            self._pauses = 0
        after = self._meter.take(self._bucket, now, cost)
        if after < 0:
            self._pauses += 1
            return -after
        self._bucket = after
        return 0.0

    @property
    def goes_on(self) -> bool:
        """Whether it does not stop, however often it is paused."""
        return self._pauses > PAUSES


class Buckets(Generic[K]):
    """The buckets of many, by whatever names them. There are as many as took something that has not come back yet."""

    __slots__ = ("_by_key", "_meter", "_next")

    def __init__(self, rate: Rate) -> None:
        self._meter = Meter(rate)
        self._by_key: dict[K, float] = {}
        self._next = SMALLEST

    def __len__(self) -> int:
        return len(self._by_key)

    def take(self, key: K, now: float, cost: float = 1.0) -> float:
        """Seconds after which it may be tried again; 0: it was taken."""
        after = self._meter.take(self._by_key.get(key, 0.0), now, cost)
        if after < 0:
            return -after
        self._by_key[key] = after
        if len(self._by_key) >= self._next:
            self._by_key = {key: bucket for key, bucket in self._by_key.items() if bucket > now}
            self._next = max(SMALLEST, 2 * len(self._by_key))
        return 0.0
