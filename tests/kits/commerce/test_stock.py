"""A stock of one article: whatever is reserved, given back, sold and left to expire, nothing is there twice."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from freshet import Refusal
from freshet.kits.commerce import Stock

IDS = st.sampled_from("vwxyz")
USERS = st.sampled_from("ab")


class Stocks(RuleBasedStateMachine):
    """The model: a list of those items that are held, each by one, and those that are sold."""

    def __init__(self) -> None:
        super().__init__()
        self.stock = Stock(6)
        self.now = 0.0
        self.held: dict[str, tuple[str, int, float]] = {}
        self.sold = 0

    def expected_left(self) -> int:
        return 6 - self.sold - sum(quantity for _, quantity, _ in self.held.values())

    @rule(id=IDS, by=USERS, quantity=st.integers(-1, 7), hold=st.integers(1, 5))
    def reserve(self, id: str, by: str, quantity: int, hold: int) -> None:
        known = self.held.get(id)
        fits = known[:2] == (by, quantity) if known else 1 <= quantity <= self.expected_left()
        try:
            it = self.stock.reserve(id, by, quantity, self.now + hold)
        except Refusal:
            assert not fits
            return
        assert fits
        self.held.setdefault(id, (by, quantity, self.now + hold))
        assert (it.by, it.quantity, it.until) == self.held[id]

    @rule(id=IDS, by=USERS, sale=st.booleans())
    def end(self, id: str, by: str, sale: bool) -> None:
        mine = id in self.held and self.held[id][0] == by
        try:
            (self.stock.commit if sale else self.stock.release)(id, by)
        except Refusal:
            assert not mine
            return
        assert mine
        quantity = self.held.pop(id)[1]
        self.sold += quantity * sale

    @rule(later=st.integers(0, 4))
    def wait(self, later: int) -> None:
        self.now += later
        over = {id for id, (_, _, until) in self.held.items() if until <= self.now}
        assert {it.id for it in self.stock.expire(self.now)} == over
        for id in over:
            del self.held[id]

    @invariant()
    def all_are_accounted_for(self) -> None:
        assert self.stock.left == self.expected_left() >= 0
        assert (self.stock.sold, self.stock.left + self.stock.reserved + self.stock.sold) == (self.sold, 6)
        assert self.stock.next_expiry() == min((until for *_, until in self.held.values()), default=None)


TestStocks = Stocks.TestCase
