"""Differences of a state: nobody gets one to a value that it does not have, however it came in."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from freshet.hub.last_values import LastValues
from freshet.model.entries import StateEntry
from freshet.model.events import Delivery, Joined, Published
from freshet.model.log import ClientInfo, Publication

KEYS = st.sampled_from("abc")
VALUES = st.sampled_from([b"1", b"2", b"3"])
ENTRIES = st.dictionaries(KEYS, VALUES)
CHANGES = st.dictionaries(KEYS, VALUES | st.just(b""))
SPOKEN: Delivery = Published("a", Publication(b'"said"'))
CAME: Delivery = Joined("a", ClientInfo("bob", "client"))


def change(key: str, value: bytes) -> Delivery:
    return Published("a", StateEntry(key, value).publication())


def after(has: dict[str, bytes], changes: dict[str, bytes]) -> dict[str, bytes]:
    return {key: value for key, value in (has | changes).items() if value}


STEPS = st.one_of(
    st.tuples(st.just("sent"), st.lists(st.tuples(KEYS, VALUES | st.just(b"")), min_size=1, max_size=4)),
    st.tuples(st.just("comes"), ENTRIES, CHANGES),
    st.tuples(st.just("returns"), ENTRIES, CHANGES),
)


@given(CHANGES, st.lists(STEPS, max_size=30))
def test_nobody_gets_a_difference_to_a_value_that_it_does_not_have(
    first: dict[str, bytes], steps: list[tuple[Any, ...]]
) -> None:
    """Whatever those who come in have seen before, which may be older or newer than what was sent here."""
    last, clients = LastValues(1000, first), [after({}, first)]
    for what, *given_ in steps:
        if what == "sent":
            befores = last.note([change(key, value) for key, value in given_[0]])
            for (key, value), before in zip(given_[0], befores, strict=True):
                for has in clients:
                    assert before is None or has[key] == before.data
                    has |= {key: value}
        else:
            before, changes = given_
            along = last.admit(changes if what == "returns" else before | changes, returns=what == "returns")
            clients.append(after(before, changes) | {entry.key: entry.value for entry in along})


def test_a_value_is_known_from_its_first_change_until_it_is_removed() -> None:
    last = LastValues(1000, {})
    events = [
        change("a", b"1"),
        SPOKEN,
        change("a", b"2"),
        CAME,
        change("b", b"3"),
        change("a", b""),
        change("a", b"4"),
    ]
    assert last.note(events) == [None, None, Publication(b"1"), None, None, Publication(b"2"), None]
    assert last.note([change("a", b"5"), change("b", b"6")]) == [Publication(b"4"), Publication(b"3")]


def test_who_has_the_same_changes_nothing_and_who_has_another_value_is_waited_for() -> None:
    last = LastValues(1000, {})
    last.note([change("a", b"1"), change("b", b"2"), change("c", b"3")])
    assert last.admit({"a": b"1", "b": b"2", "c": b"3", "d": b"4"}, returns=False) == []
    assert last.note([change("a", b"5")]) == [Publication(b"1")]
    assert last.admit({"a": b"5", "b": b"9"}, returns=False) == []
    changes = [change(key, b"6") for key in "abc"]
    assert last.note(changes) == [Publication(b"5"), None, None]
    assert last.note(changes) == [Publication(b"6")] * 3


def test_who_returns_gets_along_what_differences_will_be_to() -> None:
    last = LastValues(1000, {})
    last.note([change("a", b"1"), change("b", b"2")])
    assert last.admit({"b": b"2"}, returns=True) == [StateEntry("a", b"1")]
    assert last.note([change("a", b"3"), change("b", b"4")]) == [Publication(b"1"), Publication(b"2")]


def test_what_the_first_has_is_known_and_is_forgotten_for_one_who_returns_unless_it_has_changed() -> None:
    for key, before in (("a", None), ("b", Publication(b"2"))):
        last = LastValues(1000, {"a": b"1", "b": b"2", "c": b""})
        assert last.note([change("b", b"3"), change("b", b"2"), change("c", b"4")]) == [
            Publication(b"2"),
            Publication(b"3"),
            None,
        ]
        assert last.admit({"c": b"4"}, returns=True) == [StateEntry("b", b"2")]
        assert last.note([change(key, b"5")]) == [before]
    assert LastValues(1, {"a": b"1", "b": b"2"}).note([change("b", b"3")]) == [None]


def test_it_holds_no_more_than_a_state_may() -> None:
    last = LastValues(100, {})
    for number in range(1000):
        last.note([change(f"k{number}", b"1")])
        assert sum(len(entry.key + "1") for entry in last.admit({}, returns=True)) <= 100
    last.note([change("a", b"1"), change("a", b"2")])
    assert last.note([change("a", b'"%b"' % (b"x" * 200)), change("a", b"3")]) == [Publication(b"2"), None]
    assert last.note([change("a", b"4")]) == [Publication(b"3")]
