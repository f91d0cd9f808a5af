"""Which publications of a channel a subscriber wants, by their tags: a `TagFilter`, checked once.

A filter saves bandwidth; it keeps no secret, since whoever may subscribe to a channel may get all of it.
"""

import re
from collections.abc import Callable, Mapping
from decimal import Decimal

from freshet.model.commands import TagFilter

DEPTH = 8  # of filters within filters
SIZE = 100  # comparisons, and values that they compare with

Tags = Mapping[str, str]
Test = Callable[[Tags], bool]

_number = re.compile(r"[+-]?\d{1,40}(\.\d{1,40})?", re.ASCII).fullmatch

_TEXT: dict[str, Callable[[str, str], bool]] = {
    "eq": str.__eq__,
    "sw": str.startswith,
    "ew": str.endswith,
    "ct": str.__contains__,
}
_NUMBER: dict[str, Callable[[Decimal, Decimal], bool]] = {
    "gt": Decimal.__gt__,
    "gte": Decimal.__ge__,
    "lt": Decimal.__lt__,
    "lte": Decimal.__le__,
}
_OPPOSITE = {"neq": "eq", "nin": "in", "nex": "ex"}
COMPARISONS = sorted([*_TEXT, *_NUMBER, *_OPPOSITE, "in", "ex"])


class CompiledFilter:
    """A filter that makes sense. Equal filters are equal, so that subscribers with the same one share an encoding.

    Raises ValueError, which says what is wrong, for one that does not.
    """

    __slots__ = ("_hash", "_test", "node")

    def __init__(self, node: TagFilter) -> None:
        size = _size(node)
        if size > SIZE:
            raise ValueError(f"{size} comparisons and values: at most {SIZE}")
        self.node = node
        self._hash = hash(node)
        self._test = _compiled(node)

    def __call__(self, tags: Tags | None) -> bool:
        return self._test(tags or {})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CompiledFilter) and self.node == other.node

    def __hash__(self) -> int:
        return self._hash


def _size(node: TagFilter, depth: int = 1) -> int:
    if depth > DEPTH:
        raise ValueError(f"filters within filters: at most {DEPTH} deep")
    return 1 + len(node.vals) + sum(_size(each, depth + 1) for each in node.nodes)


def _compiled(node: TagFilter) -> Test:
    if not node.op:
        return _comparison(node)
    tests = [_compiled(each) for each in node.nodes]
    if node.op == "not" and len(tests) == 1:
        (test,) = tests
        return lambda tags: not test(tags)
    if node.op not in ("and", "or"):
        raise ValueError(f"op {node.op!r}: expected and, or, or not with one node")
    if not tests:
        raise ValueError(f"op {node.op!r} without nodes")
    every = all if node.op == "and" else any
    return lambda tags: every(test(tags) for test in tests)


def _comparison(node: TagFilter) -> Test:
    key, cmp, val = node.key, node.cmp, node.val
    if not key:
        raise ValueError("a comparison without a key")
    if cmp in _OPPOSITE:
        same = _positive(_OPPOSITE[cmp], key, val, node.vals)
        return lambda tags: not same(tags)
    return _positive(cmp, key, val, node.vals)


def _positive(cmp: str, key: str, val: str, vals: tuple[str, ...]) -> Test:
    if cmp == "ex":
        return lambda tags: key in tags
    if cmp == "in":
        if not vals:
            raise ValueError("a choice without vals")
        return lambda tags: tags.get(key) in vals
    if cmp in _TEXT:
        compare = _TEXT[cmp]
        return lambda tags: key in tags and compare(tags[key], val)
    if cmp in _NUMBER:
        return _number_test(_NUMBER[cmp], key, val)
    raise ValueError(f"cmp {cmp!r}: expected one of {', '.join(COMPARISONS)}")


def _number_test(compare: Callable[[Decimal, Decimal], bool], key: str, val: str) -> Test:
    """A tag that is no number is neither less nor more."""
    if not _number(val):
        raise ValueError(f"val {val[:50]!r}: expected a number")
    limit = Decimal(val)

    def test(tags: Tags) -> bool:
        text = tags.get(key, "")
        return _number(text) is not None and compare(Decimal(text), limit)

    return test
