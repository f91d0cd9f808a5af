"""Whether what clients saw of a counter could have happened in some order, each operation once, within its own time.

Each increment answers with its new value. So the values give the order, and it is enough to walk through them once.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

Outcome = Literal["ok", "unknown", "refused"]


@dataclass(frozen=True, slots=True)
class Increment:
    """One operation of a client. call, returned: seconds of one monotonic clock. value: what it answered, if it did.

    ok: it was acknowledged. unknown: it may have been done, and later than it returned. refused: it was not done.
    """

    call: float
    returned: float
    outcome: Outcome
    value: int | None = None


def violations(history: Iterable[Increment], final: int) -> Iterator[str]:
    """What cannot be, in words. final: the counter's value, read when all was over."""
    done = [it for it in history if it.outcome != "refused"]
    valued = sorted((it for it in done if it.value is not None), key=lambda it: it.value or 0)
    values = [it.value for it in valued]
    for before, after in pairwise(values):
        if before == after:
            yield f"two operations answered {after}: one of them is lost"
    if values and not 0 < (values[0] or 0) <= (values[-1] or 0) <= final:
        yield f"values from {values[0]} to {values[-1]} are not within 1 to {final}"
    reached = -math.inf
    for it in valued:
        reached = max(reached, it.call)
        end = it.returned if it.outcome == "ok" else math.inf
        if reached > end:
            yield f"{it.value} was answered before an operation began that came before it"
    silent = sum(1 for it in done if it.value is None and it.outcome == "ok")
    maybe = sum(1 for it in done if it.value is None and it.outcome == "unknown")
    others = final - len(set(values))
    if others < silent:
        yield f"{silent - others} acknowledged operations are lost"
    if others > silent + maybe:
        yield f"{others - silent - maybe} operations were done twice, or by nobody"
