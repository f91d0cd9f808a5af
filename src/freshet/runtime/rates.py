"""How often something may happen: token buckets, kept as one number each.

A bucket that lets `burst` through at once and `rate` a second in the long run is the time at which it would be full
again (the generic cell rate algorithm). One whose time has come is full, which is what a new one is: it need not be
kept.
"""

from collections.abc import Callable
from typing import Annotated, Generic, TypeVar

import msgspec

K = TypeVar("K")
ROUNDING = 1e-9  # seconds
PAUSES = 60  # of a client, one behind the other, that are borne
SMALLEST = 1024  # buckets below which nobody looks for those that are full
PART = 64  # of a bucket: what is used of it elsewhere is not heard of before it is so much


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

    def charge(self, bucket: float, now: float, cost: float) -> float:
        """The bucket after `cost` was taken from it elsewhere, whatever was in it."""
        return max(bucket, now) + cost * self._every


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
            self._forget_full(now)
        return 0.0

    def _forget_full(self, now: float) -> None:
        self._by_key = {key: bucket for key, bucket in self._by_key.items() if bucket > now}
        self._next = max(SMALLEST, 2 * len(self._by_key))


class SharedBuckets(Buckets[str]):
    """Buckets of which several processes take, each of its own copy: they charge one another for what they use.

    One that hears nothing of the others lets through what the rate says, not more. used: called when there is something
    that the others have to hear of, until that is collected.
    """

    __slots__ = ("_least", "_unreported", "_used", "reports")

    def __init__(self, rate: Rate, used: Callable[[], None]) -> None:
        super().__init__(rate)
        self._least = max(1.0, rate.burst / PART)
        self._unreported: dict[str, float] = {}  # too little to be worth a message yet
        self._used = used
        self.reports: dict[str, float] = {}  # what the others have to hear of

    def take(self, key: str, now: float, cost: float = 1.0) -> float:
        wait = super().take(key, now, cost)
        if wait:
            return wait
        used = self._unreported.pop(key, 0.0) + cost
        if used < self._least:
            self._unreported[key] = used
        else:
            self.reports[key] = self.reports.get(key, 0.0) + used
            self._used()
        return 0.0

    def charge(self, key: str, now: float, cost: float) -> None:
        """Another process took so much."""
        self._by_key[key] = self._meter.charge(self._by_key.get(key, 0.0), now, cost)
        if len(self._by_key) >= self._next:
            self._forget_full(now)

    def _forget_full(self, now: float) -> None:
        super()._forget_full(now)
        self._unreported = {key: used for key, used in self._unreported.items() if key in self._by_key}
