"""Two ways of one thing, measured in turn, so that the machine's noise falls on both."""

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple


class Pair(NamedTuple):
    """Medians of what each costs. ratio: the median of those of the rounds, from which the noise drops out."""

    before: float
    after: float
    ratio: float

    def row(self, name: str) -> str:
        """Of a table: each, how much more the second one costs, and the ratio."""
        cells = f"{self.before:.2f} | {self.after:.2f} | {self.after - self.before:.2f} | {self.ratio:.3f}"
        return f"| {name} | {cells} |"


def pair_of(costs: Sequence[tuple[float, float]]) -> Pair:
    """costs: of each round, in the same unit."""
    before, after = (median(side) for side in zip(*costs, strict=True))
    return Pair(before, after, median(second / first if first else 1.0 for first, second in costs))


def table(title: str, first: str, second: str, rows: Sequence[str]) -> list[str]:
    """By how many subscribers: what each of two ways costs, and what they are called."""
    head = f"| subscribers | us for each publication, {first} | {second} | more | ratio |"
    return [f"## {title}", "", head, "|---|---|---|---|---|", *rows]
