"""A stock of one article, without I/O: what is reserved, for whom and until when, and what is sold."""

import msgspec

from freshet import Refusal


class Hold(msgspec.Struct, frozen=True):
    """quantity: of the article. by: whose it is. until: epoch seconds; from then on it is void."""

    id: str
    by: str
    quantity: int
    until: float


class Stock:
    """total: how much there ever was. At every moment `left` + reserved + `sold` = total, and `left` is never below 0.

    Reservations that are over count no longer, from the moment at which they are, whoever notices.
    """

    def __init__(self, total: int, sold: int = 0, reservations: dict[str, Hold] | None = None) -> None:
        self.total = total
        self.sold = sold
        self.reservations = dict(reservations or {})

    @property
    def reserved(self) -> int:
        return sum(it.quantity for it in self.reservations.values())

    @property
    def left(self) -> int:
        return self.total - self.sold - self.reserved

    def expire(self, now: float) -> list[Hold]:
        """Take back what is over; these are they."""
        over = [it for it in self.reservations.values() if it.until <= now]
        for it in over:
            del self.reservations[it.id]
        return over

    def next_expiry(self) -> float | None:
        return min((it.until for it in self.reservations.values()), default=None)

    def reserve(self, id: str, by: str, quantity: int, until: float) -> Hold:
        """The same id of the same owner again changes nothing. Raises `Refusal` 107."""
        if (known := self.reservations.get(id)) is not None:
            if known.by != by or known.quantity != quantity:
                raise Refusal.bad_request("there is another reservation of this id")
            return known
        if quantity < 1:
            raise Refusal.bad_request("quantity: expected 1 or more")
        if quantity > self.left:
            raise Refusal.bad_request("sold out" if self.left == 0 else f"only {self.left} left")
        it = self.reservations[id] = Hold(id, by, quantity, until)
        return it

    def release(self, id: str, by: str) -> Hold:
        """Give back what was reserved. Raises `Refusal` 107."""
        self._owned(id, by)
        return self.reservations.pop(id)

    def commit(self, id: str, by: str) -> Hold:
        """What was reserved is sold. Raises `Refusal` 107."""
        it = self._owned(id, by)
        del self.reservations[id]
        self.sold += it.quantity
        return it

    def _owned(self, id: str, by: str) -> Hold:
        it = self.reservations.get(id)
        if it is None or it.by != by:
            raise Refusal.bad_request("there is no such reservation of yours; it may have expired")
        return it
