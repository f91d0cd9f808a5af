"""The rules of an auction: single cases, and a model that tries what nobody thought of."""

from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from freshet import Refusal
from freshet.kits.commerce import Bidding, LogEntry, Terms, WrongLog, verify

STEPS = ((0, 1), (10, 5), (100, 10))


def terms(**options: Any) -> Terms:
    return Terms(**{"start": 5, "ends": 100.0, "increments": STEPS, "window": 10.0, **options})


@pytest.mark.parametrize(
    ("bids", "price", "leader"),
    [
        ([("a", 5)], 5, "a"),
        ([("a", 50)], 5, "a"),
        ([("a", 50), ("b", 20)], 25, "a"),
        ([("a", 50), ("b", 48)], 50, "a"),
        ([("a", 50), ("b", 50)], 50, "a"),
        ([("a", 50), ("b", 52)], 52, "b"),
        ([("a", 50), ("b", 90)], 55, "b"),
        ([("a", 50), ("a", 90), ("b", 60)], 65, "a"),
        ([("a", 9), ("b", 9)], 9, "a"),
    ],
)
def test_the_room_bids_for_whoever_offers_most_one_step_above_the_second(
    bids: list[tuple[str, int]], price: int, leader: str
) -> None:
    bidding = Bidding(terms())
    for bidder, amount in bids:
        bidding.bid(bidder, amount, 1.0)
    assert (bidding.price, bidding.leader) == (price, leader)


@pytest.mark.parametrize(
    ("bidder", "amount", "at", "why"),
    [
        ("b", 10, 1.0, "15 or more"),
        ("a", 20, 1.0, "you lead; more than 20"),
        ("b", 50, 100.0, "over"),
        ("", 50, 1.0, "needs a user"),
    ],
)
def test_what_does_not_count_is_refused_with_what_would(bidder: str, amount: int, at: float, why: str) -> None:
    bidding = Bidding(terms(start=10))
    bidding.bid("a", 20, 0.0)
    before = vars(bidding).copy()
    with pytest.raises(Refusal, match=why):
        bidding.bid(bidder, amount, at)
    assert vars(bidding) == before


def test_below_the_reserve_price_nobody_wins_and_the_proxy_meets_it_at_once() -> None:
    low, high = Bidding(terms(reserve=60)), Bidding(terms(reserve=60))
    low.bid("a", 59, 1.0)
    assert (low.close(100.0).what, low.winner) == ("unsold", "")
    high.bid("a", 70, 1.0)
    assert (high.price, high.close(100.0).what, high.winner) == (60, "sold", "a")


def test_a_bid_in_the_last_seconds_gives_the_others_time() -> None:
    bidding = Bidding(terms())
    assert bidding.bid("a", 5, 89.0).ends == 100.0
    assert bidding.bid("b", 50, 99.5).ends == 109.5
    assert bidding.bid("a", 60, 109.0).ends == 119.0
    with pytest.raises(ValueError, match="not the time"):
        bidding.close(118.9)
    bidding.close(119.0)
    with pytest.raises(ValueError, match="not the time"):
        bidding.close(120.0)


@pytest.mark.parametrize(
    "wrong",
    [{"start": 0}, {"reserve": -1}, {"window": -1.0}, {"increments": ()}, {"increments": ((5, 1),)},
     {"increments": ((0, 0),)}, {"increments": ((0, 1), (0, 2))}],
)  # fmt: skip
def test_terms_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        terms(**wrong)


@pytest.mark.parametrize(
    "change",
    [{"price": 99}, {"leader": "a"}, {"what": "defended"}, {"amount": 4}, {"number": 3}, {"ends": 1.0}, {"at": 101.0}],
)
def test_an_entry_that_was_changed_is_found(change: dict[str, Any]) -> None:
    bidding = Bidding(terms())
    log = [bidding.bid("a", 50, 1.0), bidding.bid("b", 60, 2.0), bidding.close(100.0)]
    assert vars(verify(terms(), log)) == vars(bidding)
    log[1] = msgspec.structs.replace(log[1], **change)
    with pytest.raises(WrongLog, match="entry"):
        verify(terms(), log)


class Auctions(RuleBasedStateMachine):
    """Bids in any order. The model is the definition: who offered most, first, pays what it took to lead."""

    def __init__(self) -> None:
        super().__init__()
        self.terms = terms(reserve=40)
        self.bidding = Bidding(self.terms)
        self.log: list[LogEntry] = []
        self.offers: dict[str, tuple[int, int]] = {}  # the most of each, and which bid that was
        self.now = 0.0

    @rule(bidder=st.sampled_from("abcd"), amount=st.integers(1, 150), later=st.floats(0, 30))
    def bid(self, bidder: str, amount: int, later: float) -> None:
        self.now += later
        price, leader, ends = self.bidding.price, self.bidding.leader, self.bidding.ends
        try:
            entry = self.bidding.bid(bidder, amount, self.now)
        except Refusal:
            too_low = amount <= self.offers[leader][0] if bidder == leader else amount < self.bidding.lowest
            assert self.now >= ends or too_low or self.bidding.closed
            return
        assert self.now < ends
        self.log.append(entry)
        if bidder not in self.offers or amount > self.offers[bidder][0]:
            self.offers[bidder] = (amount, len(self.log))
        assert entry.price >= price, "a price never falls"

    @precondition(lambda self: not self.bidding.closed)
    @rule()
    def close(self) -> None:
        self.now = max(self.now, self.bidding.ends)
        self.log.append(self.bidding.close(self.now))

    @invariant()
    def the_one_who_offered_most_first_leads(self) -> None:
        if self.offers:
            leader = max(self.offers, key=lambda it: (self.offers[it][0], -self.offers[it][1]))
            assert self.bidding.leader == leader

    @invariant()
    def the_leader_pays_no_more_than_offered_and_no_more_than_it_took(self) -> None:
        if not self.offers:
            return
        most = self.offers[self.bidding.leader][0]
        second = max((amount for it, (amount, _) in self.offers.items() if it != self.bidding.leader), default=0)
        took = max(self.terms.start, second + self.terms.step(second) if second else 0, self.terms.reserve)
        assert self.terms.start <= self.bidding.price <= min(most, took)
        assert self.bidding.price >= second

    @invariant()
    def there_is_one_winner_or_none(self) -> None:
        sold = self.bidding.closed and bool(self.offers) and max(it for it, _ in self.offers.values()) >= 40
        assert self.bidding.winner == (self.bidding.leader if sold else "")

    @invariant()
    def the_log_explains_every_bid(self) -> None:
        assert vars(verify(self.terms, self.log)) == vars(self.bidding)
        assert [it.number for it in self.log] == list(range(1, len(self.log) + 1))
        assert all(before.ends <= after.ends for before, after in pairwise(self.log))


TestAuctions = Auctions.TestCase
