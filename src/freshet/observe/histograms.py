"""How often something took how long: counted in buckets, and read as percentiles."""

from bisect import bisect_left
from itertools import accumulate

import msgspec

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Upper bounds of the buckets of all that is a time."""

SIZES = (0.0, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10000.0)
"""Of numbers of publications."""

LONGEST = 3600.0  # seconds that a time counts as, at most: a clock of another machine may be anything


class Distribution(msgspec.Struct, array_like=True, frozen=True):
    """What a histogram held at one moment. counts: of each bucket, the last for all above `bounds`. sum: of values."""

    counts: tuple[int, ...] = ()
    sum: float = 0.0
    bounds: tuple[float, ...] = SECONDS

    @property
    def count(self) -> int:
        return sum(self.counts)

    @property
    def mean(self) -> float:
        return self.sum / self.count if self.count else 0.0

    def percentile(self, share: float) -> float:
        """The value that `share` (0 to 1) of all do not exceed, as near as the buckets say; 0: there are none.

        What is above all bounds counts as the highest of them.
        """
        wanted, reached, below = share * self.count, 0, 0.0
        for bound, count in zip(self.bounds, self.counts, strict=False):
            if count and reached + count >= wanted:
                return below + (bound - below) * max(0.0, wanted - reached) / count
            reached, below = reached + count, bound
        return self.bounds[-1] if self.count else 0.0

    def since(self, before: "Distribution") -> "Distribution":
        """What came behind an earlier one of the same histogram."""
        if not before.counts:
            return self
        counts = tuple(now - then for now, then in zip(self.counts, before.counts, strict=True))
        return Distribution(counts, self.sum - before.sum, self.bounds)

    def __add__(self, other: object) -> "Distribution":
        """Both together: of several nodes."""
        if not isinstance(other, Distribution):
            return NotImplemented
        if not self.counts or not other.counts:
            return self if self.counts else other
        counts = tuple(one + two for one, two in zip(self.counts, other.counts, strict=True))
        return Distribution(counts, self.sum + other.sum, self.bounds)


class Histogram(msgspec.Struct, array_like=True):
    """Counts values in buckets. sizes: they are numbers of publications, otherwise seconds."""

    counts: list[int] = []
    sum: float = 0.0
    sizes: bool = False

    def __post_init__(self) -> None:
        if not self.counts:
            self.counts = [0] * (len(self.bounds) + 1)

    @property
    def bounds(self) -> tuple[float, ...]:
        return SIZES if self.sizes else SECONDS

    def observe(self, value: float, number: int = 1) -> None:
        """number: how many had this value."""
        self.counts[bisect_left(SIZES if self.sizes else SECONDS, value)] += number
        self.sum += value * number

    def observe_since(self, at: float, now: float, number: int = 1) -> None:
        """As `observe`, by the clocks of two machines, which may be wrong."""
        seconds = now - at
        if not 0.0 <= seconds <= LONGEST:
            seconds = LONGEST if seconds > LONGEST else 0.0
        self.counts[bisect_left(SECONDS, seconds)] += number  # once per delivery: a call would cost as much again
        self.sum += seconds * number

    def reached(self) -> list[int]:
        """How many did not exceed each bound, and how many there are."""
        return list(accumulate(self.counts))

    def read(self) -> Distribution:
        return Distribution(tuple(self.counts), self.sum, self.bounds)
