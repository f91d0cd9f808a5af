"""What becomes of a roster's entries as clients come and go."""

from typing import Literal

import pytest
from msgspec import Raw

from freshet.model.entries import StateEntry
from freshet.model.log import ClientInfo
from freshet.node.roster import Roster

ALICE, AGAIN, BOB, NOBODY = (
    ClientInfo("alice", "1"),
    ClientInfo("alice", "2"),
    ClientInfo("bob", "3"),
    ClientInfo("", "4"),
)


def test_each_client_is_an_entry_that_says_who_it_is() -> None:
    roster = Roster("clients")
    info = ClientInfo("alice", "1", Raw(b'{"name": "A"}'), Raw(b"[1]"))
    entry = StateEntry("1", b'{"user":"alice","conn_info":{"name": "A"},"chan_info":[1]}', info=info)
    assert roster.note("1", info) == [entry]
    assert roster.note("4", NOBODY) == [StateEntry("4", b"{}", info=NOBODY)]
    assert [each.key for each in roster.entries()] == ["1", "4"]
    assert roster.note("1", None) == [StateEntry("1", b"")]
    assert [each.key for each in roster.entries()] == ["4"]


@pytest.mark.parametrize("of", ["clients", "users"])
def test_what_is_known_already_changes_nothing(of: Literal["clients", "users"]) -> None:
    roster = Roster(of)
    roster.note("1", ALICE)
    assert roster.note("1", ALICE) == []
    assert roster.note("9", None) == []


def test_a_user_comes_with_the_first_of_his_clients_and_goes_with_the_last() -> None:
    roster = Roster("users")
    assert roster.note("1", ALICE) == [StateEntry("alice", b"{}")]
    assert roster.note("2", AGAIN) == roster.note("4", NOBODY) == []
    assert roster.entries() == [StateEntry("alice", b"{}")]
    assert roster.note("1", None) == []
    assert roster.note("2", None) == [StateEntry("alice", b"")]
    assert roster.entries() == roster.note("4", None) == []


def test_a_client_that_has_another_user_now_counts_for_that_one() -> None:
    roster = Roster("users")
    roster.note("1", ALICE)
    assert roster.note("1", ClientInfo("bob", "1")) == [StateEntry("alice", b""), StateEntry("bob", b"{}")]


def test_a_correction_changes_what_was_wrong_and_leaves_alone_what_is_newer() -> None:
    roster = Roster("clients")
    roster.note("1", ALICE)
    roster.note("2", AGAIN)
    changes = roster.correct({"3": BOB, "4": NOBODY}, but={"2", "4"})
    assert [(it.key, bool(it.value)) for it in changes] == [("1", False), ("3", True)]
    assert [each.key for each in roster.entries()] == ["2", "3"]
