"""What was published, what each subscriber was given, and whether anything was lost without a word.

Each channel has one publisher, which numbers what it publishes and waits for each answer. So of two numbers that a
subscriber is given one after the other, none that was acknowledged lies between, unless it was told of a loss there.
What was not acknowledged may arrive or not, and late: the publisher gave it up while it was perhaps on its way.
"""

from collections import defaultdict
from typing import NamedTuple


class Verdict(NamedTuple):
    """Counts, of all subscribers. expected: acknowledged publications times those who listen to their channel.

    told: how often a subscriber was told that it could not recover. silent: acknowledged, missing, and nobody was told.
    """

    expected: int
    delivered: int
    told: int
    silent: int
    twice: int
    disordered: int
    unexpected: int

    @property
    def is_clean(self) -> bool:
        return not (self.silent or self.twice or self.disordered or self.unexpected)


class Ledger:
    """given: for each subscriber, its channel and the numbers that it was given; None where it was told of a loss."""

    def __init__(self) -> None:
        self.acknowledged: dict[str, set[int]] = defaultdict(set)
        self.tried: dict[str, set[int]] = defaultdict(set)
        self.given: list[tuple[str, list[int | None]]] = []

    def verdict(self) -> Verdict:
        each = [self._of(channel, given) for channel, given in self.given]
        return Verdict(*(sum(column) for column in zip(*each, strict=True))) if each else Verdict(*(0,) * 7)

    def _of(self, channel: str, given: list[int | None]) -> Verdict:
        acknowledged = self.acknowledged[channel]
        seen: set[int] = set()
        silent = twice = disordered = unexpected = 0
        last, sure = -1, True  # sure: nothing may be missing behind `last`
        for number in [*given, None]:
            if number is None:
                sure = False
                continue
            unexpected += number not in self.tried[channel]
            twice += number in seen
            if number not in acknowledged:  # it may come late: its publisher did not wait until it was known
                seen.add(number)
                continue
            disordered += number not in seen and number < last
            if sure:
                silent += len(acknowledged.intersection(range(last + 1, number)) - seen)
            seen.add(number)
            last, sure = max(last, number), True
        if not given or given[-1] is not None:
            silent += sum(number > last for number in acknowledged)
        told = sum(number is None for number in given)
        return Verdict(len(acknowledged), len(acknowledged & seen), told, silent, twice, disordered, unexpected)
