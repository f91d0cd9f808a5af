"""What a call costs, to compare two calls with each other; no call is compared with the clock."""

import time
from collections.abc import Callable

NOISE = 20e-6  # seconds; calls that take less are all as good as nothing


def cost(call: Callable[[], object], rounds: int = 10) -> float:
    """Seconds of processor time, the least of some rounds."""

    def once() -> float:
        start = time.process_time()
        call()
        return time.process_time() - start

    return NOISE + min(once() for _ in range(rounds))


def assert_linear(call: Callable[[int], Callable[[], object]], size: int) -> None:
    """`call(size)` prepares a call: for 8 times the size it costs about 8 times as much, and 64 if it is quadratic.

    Noise makes a call dearer, never cheaper: one pair of five that is in proportion is proof, and ends it. The small
    call, by which the large one is measured, is made more often, as noise in it alone would hide something.
    """
    ratios: list[float] = []
    while not ratios or (min(ratios) >= 24 and len(ratios) < 5):
        ratios.append(cost(call(8 * size), rounds=3) / cost(call(size)))
    assert min(ratios) < 24, f"{min(ratios):.1f} times as long for 8 times the size"
