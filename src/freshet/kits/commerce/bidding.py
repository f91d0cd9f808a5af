"""The rules of an auction, without I/O: bids by proxy, increments, a reserve price, anti-sniping, and a log of it all.

A bid is the most that its bidder would pay. The room bids for them, no more than it takes to lead: the price is one
increment above the second highest bid. Of equal bids the earlier one leads. Amounts are whole numbers, such as cents.

The log has an entry for each bid that counted. What an entry says follows from its bid and the entries before, so
that `verify` finds one that does not.
"""

from collections.abc import Iterable
from typing import Literal

import msgspec

from freshet import Refusal

What = Literal["first", "outbid", "defended", "raised", "sold", "unsold"]


class Terms(msgspec.Struct, frozen=True):
    """Of one lot. start: the lowest first bid. reserve: below, it is not sold; 0: there is none.

    increments: pairs of a price and the step from there on, rising. ends: epoch seconds. window: a bid that comes
    within so many seconds of the end moves the end to so many seconds from then; 0: it does not.
    """

    start: int
    ends: float
    reserve: int = 0
    increments: tuple[tuple[int, int], ...] = ((0, 1),)
    window: float = 30.0

    def __post_init__(self) -> None:
        prices = [price for price, _ in self.increments]
        if self.start < 1 or self.reserve < 0 or self.window < 0:
            raise ValueError("start: expected 1 or more; reserve, window: 0 or more")
        if not prices or prices[0] != 0 or prices != sorted(set(prices)) or any(by < 1 for _, by in self.increments):
            raise ValueError("increments: expected (price, step) from price 0 on, rising, with steps of 1 or more")

    def step(self, price: int) -> int:
        """From this price to the next."""
        return next(by for at, by in reversed(self.increments) if at <= price)


class LogEntry(msgspec.Struct, frozen=True):
    """What happened, and what was so afterwards. at, ends: epoch seconds. amount: the bidder's most; secret.

    what: `first`; `outbid`: the bidder leads now; `defended`: the leader's own bid was as high or higher; `raised`: the
    leader has bid more; `sold` to `leader`; `unsold`.
    """

    number: int
    at: float
    what: What
    bidder: str
    amount: int
    price: int
    leader: str
    ends: float


class WrongLog(ValueError):
    """An entry does not follow from those before it."""


class Bidding:
    """One lot. price: what the leader would pay now; 0: nobody has bid. most: what the leader would pay, secret."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.ends = terms.ends
        self.price = 0
        self.leader = ""
        self.most = 0
        self.bids = 0
        self.closed = False

    @property
    def lowest(self) -> int:
        """That the next bid of anybody else has to be."""
        return self.price + self.terms.step(self.price) if self.leader else self.terms.start

    @property
    def reserve_met(self) -> bool:
        return bool(self.leader) and self.price >= self.terms.reserve

    @property
    def winner(self) -> str:
        """Exactly one, or empty: it was not sold, or it is not over."""
        return self.leader if self.closed and self.reserve_met else ""

    def bid(self, bidder: str, amount: int, at: float) -> LogEntry:
        """Raises `Refusal` 107, with what would do, and nothing has changed."""
        if self.closed or at >= self.ends:
            raise Refusal.bad_request("the auction is over")
        if not bidder:
            raise Refusal.permission_denied("a bid needs a user")
        what: What
        if bidder == self.leader:
            if amount <= self.most:
                raise Refusal.bad_request(f"you lead; more than {self.most}, please")
            what = "raised"
        elif amount < self.lowest:
            raise Refusal.bad_request(f"{self.lowest} or more, please")
        elif not self.leader:
            what, self.price = "first", self.terms.start
        elif amount > self.most:
            what, self.price = "outbid", min(amount, self.most + self.terms.step(self.most))
        else:
            what, self.price = "defended", min(self.most, amount + self.terms.step(amount))
        if what != "defended":
            self.leader, self.most = bidder, amount
        if self.most >= self.terms.reserve:
            self.price = max(self.price, self.terms.reserve)  # the leader's proxy meets it at once
        self.ends = max(self.ends, at + self.terms.window)
        return self._entry(what, bidder, amount, at)

    def close(self, at: float) -> LogEntry:
        """It is over. Raises ValueError when it is not, or was before."""
        if self.closed or at < self.ends:
            raise ValueError("it is not the time to close")
        self.closed = True
        return self._entry("sold" if self.winner else "unsold", "", 0, at)

    def _entry(self, what: What, bidder: str, amount: int, at: float) -> LogEntry:
        self.bids += 1
        return LogEntry(self.bids, at, what, bidder, amount, self.price, self.leader, self.ends)


def verify(terms: Terms, log: Iterable[LogEntry]) -> Bidding:
    """Where a log leads to, entry by entry. Raises `WrongLog` for one that does not follow from those before."""
    bidding, last = Bidding(terms), float("-inf")
    for entry in log:
        closes = entry.what in ("sold", "unsold")
        try:
            made = bidding.close(entry.at) if closes else bidding.bid(entry.bidder, entry.amount, entry.at)
        except (Refusal, ValueError) as why:
            raise WrongLog(f"entry {entry.number}: {why}") from None
        if made != entry or entry.at < last:
            raise WrongLog(f"entry {entry.number}: expected {made}, found {entry}")
        last = entry.at
    return bidding
