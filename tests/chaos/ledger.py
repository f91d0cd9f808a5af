"""What was published, what each subscriber received, and whether anything was lost silently.

Each channel has one publisher, which numbers what it publishes and waits for each reply. So of two numbers that a
subscriber receives one after the other, none that was acknowledged lies between, unless it was notified of a gap.
What was not acknowledged may arrive or not, and late: the publisher gave it up while it was perhaps on its way.
"""

from collections import defaultdict
from typing import NamedTuple


class Verdict(NamedTuple):
    """Counts, of all subscribers. expected: acknowledged publications times the subscribers of their channel.

    notified: how often a subscriber was notified of a gap that it could not recover. silent: acknowledged, missing, and
    the subscriber was not notified. duplicates, disordered: received more than once, or after a later one. unexpected:
    never published.
    """

    expected: int
    delivered: int
    notified: int
    silent: int
    duplicates: int
    disordered: int
    unexpected: int

    @property
    def is_clean(self) -> bool:
        return not (self.silent or self.duplicates or self.disordered or self.unexpected)


class Ledger:
    """tried, acknowledged: numbers of publications, by channel.

    received: for each subscriber, its channel and the numbers that it received; None where it was notified of a gap.
    """

    def __init__(self) -> None:
        self.acknowledged: dict[str, set[int]] = defaultdict(set)
        self.tried: dict[str, set[int]] = defaultdict(set)
        self.received: list[tuple[str, list[int | None]]] = []

    def verdict(self) -> Verdict:
        each = [self._of(channel, received) for channel, received in self.received]
        return Verdict(*(sum(column) for column in zip(*each, strict=True))) if each else Verdict(*(0,) * 7)

    def _of(self, channel: str, received: list[int | None]) -> Verdict:
        acknowledged = self.acknowledged[channel]
        seen: set[int] = set()
        silent = duplicates = disordered = unexpected = 0
        last, sure = -1, True  # sure: nothing may be missing behind `last`
        for number in [*received, None]:
            if number is None:
                sure = False
                continue
            unexpected += number not in self.tried[channel]
            duplicates += number in seen
            if number not in acknowledged:  # it may come late: its publisher did not wait until it was known
                seen.add(number)
                continue
            disordered += number not in seen and number < last
            if sure:
                silent += len(acknowledged.intersection(range(last + 1, number)) - seen)
            seen.add(number)
            last, sure = max(last, number), True
        if not received or received[-1] is not None:
            silent += sum(number > last for number in acknowledged)
        notified = sum(number is None for number in received)
        return Verdict(
            len(acknowledged), len(acknowledged & seen), notified, silent, duplicates, disordered, unexpected
        )
