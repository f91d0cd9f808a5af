"""Filters of tags: what they mean, and what is refused."""

import operator
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from freshet.model.commands import TagFilter
from freshet.rules.filters import COMPARISONS, DEPTH, SIZE, CompiledFilter

TAGS = {"ticker": "AAPL", "price": "100.50", "empty": "", "sign": "-3"}


def node(**fields: Any) -> TagFilter:
    return msgspec.convert(fields, TagFilter)


@pytest.mark.parametrize(
    ("key", "cmp", "val", "matches"),
    [
        ("ticker", "eq", "AAPL", True),
        ("ticker", "eq", "aapl", False),
        ("none", "eq", "", False),
        ("empty", "eq", "", True),
        ("ticker", "neq", "IBM", True),
        ("none", "neq", "IBM", True),
        ("ticker", "neq", "AAPL", False),
        ("ticker", "ex", "", True),
        ("empty", "ex", "", True),
        ("none", "ex", "", False),
        ("none", "nex", "", True),
        ("ticker", "nex", "", False),
        ("ticker", "sw", "AA", True),
        ("none", "sw", "", False),
        ("ticker", "ew", "PL", True),
        ("ticker", "ct", "AP", True),
        ("ticker", "ct", "PA", False),
        ("price", "gt", "100.5", False),
        ("price", "gte", "100.5", True),
        ("price", "lte", "100.5", True),
        ("price", "lt", "99", False),
        ("sign", "lt", "0", True),
        ("sign", "gt", "-4.0", True),
        ("ticker", "gt", "0", False),
        ("ticker", "lt", "0", False),
        ("none", "lt", "0", False),
    ],
)
def test_a_comparison_means(key: str, cmp: str, val: str, matches: bool) -> None:
    assert CompiledFilter(node(key=key, cmp=cmp, val=val))(TAGS) is matches


@pytest.mark.parametrize(
    ("cmp", "key", "matches"), [("in", "ticker", True), ("in", "none", False), ("nin", "none", True)]
)
def test_a_choice_means(cmp: str, key: str, matches: bool) -> None:
    assert CompiledFilter(node(key=key, cmp=cmp, vals=["IBM", "AAPL"]))(TAGS) is matches


def test_what_has_no_tags_has_none_of_them() -> None:
    assert not CompiledFilter(node(key="a", cmp="ex"))(None)
    assert CompiledFilter(node(key="a", cmp="nex"))(None)


def test_equal_filters_are_one() -> None:
    one, two = (CompiledFilter(node(op="and", nodes=[{"key": "a", "cmp": "in", "vals": ["1"]}])) for _ in range(2))
    assert len({one, two, CompiledFilter(node(key="a", cmp="ex"))}) == 2
    assert one != "one"


LEAVES = st.builds(
    lambda key, cmp, val: {"key": key, "cmp": cmp, "val": val, "vals": [val]},
    st.sampled_from(["a", "b", "c"]),
    st.sampled_from(COMPARISONS),
    st.sampled_from(["0", "1", "10"]),
)
OPERATIONS = st.sampled_from(["and", "or"])
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(lambda op, nodes: {"op": op, "nodes": nodes}, OPERATIONS, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda each: {"op": "not", "nodes": [each]}, inner),
    ),
    max_leaves=8,
)


def meaning(tree: dict[str, Any], tags: dict[str, str]) -> bool:
    """What a filter means, said in another way than the filter does it."""
    nodes = [meaning(each, tags) for each in tree.get("nodes", ())]
    match tree.get("op", ""), tree.get("cmp"):
        case "not", _:
            return nodes == [False]
        case "and", _:
            return False not in nodes
        case "or", _:
            return True in nodes
        case "", ("in" | "eq") as cmp:
            return tags.get(tree["key"]) in ([tree["val"]] if cmp == "eq" else tree["vals"])
        case "", "neq" | "nin" | "nex" as cmp:
            return not meaning({**tree, "cmp": cmp.replace("n", "", 1)}, tags)
        case _, "ex":
            return tags.get(tree["key"]) is not None
        case _, ("sw" | "ew" | "ct") as cmp:
            text = tags.get(tree["key"], "\0")
            found = {"sw": text[: len(tree["val"])], "ew": text[-len(tree["val"]) :]}
            return found[cmp] == tree["val"] if cmp != "ct" else text.find(tree["val"]) >= 0
        case _, cmp:
            compare = {"gt": operator.gt, "gte": operator.ge, "lt": operator.lt, "lte": operator.le}[str(cmp)]
            return tree["key"] in tags and bool(compare(float(tags[tree["key"]]), float(tree["val"])))


@given(TREES, st.dictionaries(st.sampled_from(["a", "b", "c"]), st.sampled_from(["0", "1", "5", "10", "100"])))
def test_filters_of_filters_mean_what_they_say(tree: dict[str, Any], tags: dict[str, str]) -> None:
    assume(depth(tree) <= DEPTH)
    wanted = CompiledFilter(msgspec.convert(tree, TagFilter))
    assert wanted(tags) is meaning(tree, tags)


def depth(tree: dict[str, Any]) -> int:
    return 1 + max(map(depth, tree.get("nodes", ())), default=0)


def deep(levels: int) -> dict[str, Any]:
    tree: dict[str, Any] = {"key": "a", "cmp": "ex"}
    for _ in range(levels - 1):
        tree = {"op": "not", "nodes": [tree]}
    return tree


@pytest.mark.parametrize(
    ("tree", "reason"),
    [
        ({}, "a comparison without a key"),
        ({"cmp": "ex"}, "a comparison without a key"),
        ({"key": "a"}, "cmp '': expected one of ct, eq,"),
        ({"key": "a", "cmp": "like"}, "cmp 'like': expected one of ct, eq,"),
        ({"key": "a", "cmp": "in"}, "a choice without vals"),
        ({"key": "a", "cmp": "nin"}, "a choice without vals"),
        ({"key": "a", "cmp": "gt", "val": "many"}, "val 'many': expected a number"),
        ({"key": "a", "cmp": "gt", "val": "1e9"}, "val '1e9': expected a number"),
        ({"key": "a", "cmp": "lt", "val": "9" * 10_000}, "expected a number"),
        ({"op": "xor", "nodes": [{"key": "a", "cmp": "ex"}]}, "op 'xor': expected and, or, or not with one node"),
        ({"op": "and"}, "op 'and' without nodes"),
        ({"op": "not"}, "expected and, or, or not with one node"),
        ({"op": "not", "nodes": [{"key": "a", "cmp": "ex"}] * 2}, "expected and, or, or not with one node"),
        ({"key": "a", "cmp": "in", "vals": ["x"] * SIZE}, f"{SIZE + 1} comparisons and values: at most {SIZE}"),
        (deep(DEPTH + 1), f"at most {DEPTH} deep"),
    ],
)
def test_a_filter_that_makes_no_sense_is_refused(tree: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=r".") as raised:
        CompiledFilter(msgspec.convert(tree, TagFilter))
    assert reason in str(raised.value)


def test_a_filter_may_be_as_deep_and_as_large_as_is_said() -> None:
    assert CompiledFilter(msgspec.convert(deep(DEPTH), TagFilter))({"a": ""}) is (DEPTH % 2 == 1)
    assert CompiledFilter(node(key="a", cmp="in", vals=["x"] * (SIZE - 1)))({"a": "x"})
