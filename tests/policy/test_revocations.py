"""What a node knows to be taken back: what it concerns, how long, and what it keeps."""

import pytest

from freshet.policy import revocations
from freshet.policy.revocations import Revocation, Revocations
from freshet.testing import ManualClock


@pytest.fixture
def known(freshet_clock: ManualClock) -> Revocations:
    return Revocations(freshet_clock.wall)


def test_a_token_is_taken_back_by_its_id(known: Revocations) -> None:
    known.add(Revocation("1", token="t1"))
    assert known.revoked("alice", "t1", 5.0)
    assert not known.revoked("alice", "t2", 5.0)
    assert not known.revoked("alice", None, None)


def test_all_tokens_of_a_user_that_were_issued_until_then_are_taken_back(known: Revocations) -> None:
    known.add(Revocation("1", user="alice", before=100.0))
    assert known.revoked("alice", None, 100.0)
    assert known.revoked("alice", "t1", 7)
    assert not known.revoked("alice", None, 100.001)
    assert not known.revoked("bob", None, 7)


def test_a_token_that_does_not_say_when_it_was_issued_counts_as_older(known: Revocations) -> None:
    known.add(Revocation("1", user="alice", before=100.0))
    assert known.revoked("alice", None, None)


def test_all_that_were_issued_before_a_time_are_taken_back_whosever_they_are(known: Revocations) -> None:
    known.add(Revocation("1", before=100.0))
    assert known.revoked("alice", None, 99.0)
    assert known.revoked("", None, None)
    assert not known.revoked("alice", None, 101.0)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_an_older_word_takes_nothing_from_a_newer_one(known: Revocations, order: tuple[int, int]) -> None:
    words = [Revocation("1", user="alice", before=100.0), Revocation("2", user="alice", before=50.0)]
    for number in order:
        known.add(words[number])
    assert known.revoked("alice", None, 80.0)


async def test_what_is_over_is_forgotten(known: Revocations, freshet_clock: ManualClock) -> None:
    end = freshet_clock.now + 60
    known.add(Revocation("1", token="t1", until=end))
    known.add(Revocation("2", user="alice", before=freshet_clock.now, until=end))
    known.add(Revocation("3", user="bob", until=end, blocked=True))
    known.add(Revocation("4", token="t4"))
    assert known.blocked("bob")
    assert not known.blocked("alice")
    await freshet_clock.advance(61)
    assert not known.revoked("alice", "t1", 0.0)
    assert not known.blocked("bob")
    assert known.revoked("x", "t4", None)
    known.sweep()
    assert [it.id for it in known] == ["4"]
    assert (known._blocks, known._users, list(known._tokens)) == ({}, {}, ["t4"])


def test_what_is_over_when_it_comes_is_not_taken(known: Revocations, freshet_clock: ManualClock) -> None:
    known.add(Revocation("1", token="t1", until=freshet_clock.now - 1))
    assert len(known) == 0


def test_what_comes_twice_is_kept_once(known: Revocations) -> None:
    for _ in range(2):
        known.add(Revocation("1", token="t1"))
    assert len(known) == 1


def test_there_is_an_end_to_what_is_kept(known: Revocations, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revocations, "ENTRIES", 3)
    for number in range(3):
        assert not known.is_full
        known.add(Revocation(str(number), token=str(number)))
    assert known.is_full
