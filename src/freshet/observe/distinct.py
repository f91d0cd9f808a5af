"""How many different names several nodes have together, though none of them tells more than a few."""

from collections.abc import Iterable
from hashlib import blake2b
from heapq import nsmallest

KEPT = 1024  # hashes of a node; the estimate is then within some 3 %
RANGE = 2**64


def hashed(names: Iterable[str]) -> list[int]:
    """Of all hashes of `names`, the `KEPT` smallest, in their order: a sample that is the same on every node."""
    return nsmallest(KEPT, {_hash(name) for name in names})


def merged(samples: Iterable[list[int]]) -> list[int]:
    """The sample of all of which these are samples."""
    return nsmallest(KEPT, set().union(*samples))


def counted(sample: list[int]) -> tuple[int, bool]:
    """How many names there are, and whether that is exact: with fewer than `KEPT` of them, nothing was left out.

    Bar-Yossef et al., "Counting distinct elements in a data stream" (2002): the k-th smallest of n hashes is where
    k / n of their range is.
    """
    if len(sample) < KEPT:
        return len(sample), True
    return round((KEPT - 1) * RANGE / sample[-1]), False


def _hash(name: str) -> int:
    return int.from_bytes(blake2b(name.encode(errors="surrogatepass"), digest_size=8).digest())
