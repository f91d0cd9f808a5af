"""Entries of a state on their way: as publications that any client can read, and as entries again."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freshet.errors import Refusal
from freshet.model.entries import EntryResult, StateEntry, entry_of, snapshot_of
from freshet.model.log import Publication

TEXT = st.text(min_size=1, max_size=20)
VALUES = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda it: st.lists(it, max_size=3))
TAGS = st.dictionaries(TEXT.filter(lambda name: name not in ("event", "key")), TEXT, max_size=3)


@given(key=TEXT, value=VALUES, tags=TAGS)
def test_a_change_is_an_object_for_all_and_an_entry_for_who_knows_it(key: str, value: object, tags: dict) -> None:
    entry = StateEntry(key, json.dumps(value).encode(), tags or None)
    publication = entry.publication()
    assert json.loads(publication.data) == {"key": key, "value": value}
    assert publication.tags == {**tags, "event": "state", "key": key}
    assert entry_of(publication) == entry


@given(key=TEXT, tags=TAGS)
def test_a_removal_is_one_too(key: str, tags: dict) -> None:
    removed = StateEntry(key, b"", tags or None)
    assert json.loads(removed.publication().data) == {"key": key, "removed": True}
    assert entry_of(removed.publication()) == removed


@pytest.mark.parametrize("tags", [None, {}, {"key": "a"}, {"event": "state"}, {"event": "other", "key": "a"}])
def test_any_other_publication_is_no_entry(tags: dict | None) -> None:
    assert entry_of(Publication(b'{"key":"a","value":1}', tags=tags)) is None


def test_a_publication_that_only_looks_like_a_change_removes_nothing_but_its_key() -> None:
    """An application may publish with these tags by itself: nothing is read that is not there."""
    found = entry_of(Publication(b"1", tags={"event": "state", "key": "a"}))
    assert found == StateEntry("a", b"")


@given(values=st.dictionaries(TEXT, VALUES, max_size=5))
def test_a_snapshot_has_all_entries(values: dict[str, object]) -> None:
    entries = [StateEntry(key, json.dumps(value).encode()) for key, value in values.items()]
    snapshot = snapshot_of(entries)
    assert json.loads(snapshot.data) == {"state": values}
    assert snapshot.tags == {"event": "snapshot"}


def test_what_was_not_done_is_refused_with_the_value_that_is_there() -> None:
    EntryResult(changed=False).check()
    with pytest.raises(Refusal, match='value_mismatch: the entry is "x"') as why:
        EntryResult(why="value_mismatch", value=b'"x"').check()
    assert why.value.code == 120
    with pytest.raises(Refusal, match="not there"):
        EntryResult(why="key_not_found").check()
