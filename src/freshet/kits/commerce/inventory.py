"""A stock of goods as a room: who reserves gets it, or is told that there is none, and nothing is sold twice."""

import secrets
from collections.abc import Awaitable
from typing import Annotated, Any, ClassVar, TypeAlias

import msgspec
from msgspec import Meta

from freshet import HttpRequest, Refusal, Room, RoomSession
from freshet.kits.commerce.stock import Hold, Stock

Id: TypeAlias = Annotated[str, Meta(max_length=64)]


class Reserve(msgspec.Struct, tag_field="do", tag="reserve"):
    """id: of the client's choice, so that to ask again after an error reserves once; empty: the room chooses."""

    quantity: int = 1
    id: Id = ""


class Release(msgspec.Struct, tag_field="do", tag="release"):
    id: Id


class Commit(msgspec.Struct, tag_field="do", tag="commit"):
    id: Id


class Inventory(Room):
    """One article: `@live.room("stock:{article}")` over a class that derives from this.

    Clients call the room with `{"do": "reserve", "quantity": 2}`, and get the reservation; then with `release` or
    `commit` and its id. All subscribers see `{"left", "reserved", "sold", "total", "low", "at"}` when it changes, and
    when they come; `at` is the server's time in milliseconds.

    total: how much there is, unless `count` says otherwise. hold: seconds for which a reservation is kept. low: at so
    many or fewer, what all see has `low: true`, and `on_low` is called. most: that one user may hold at a time.
    """

    total: ClassVar[int] = 0
    hold: ClassVar[float] = 120.0
    low: ClassVar[int] = 5
    most: ClassVar[int] = 10

    stock: Stock

    async def count(self) -> int:
        """How much there is, asked once: when the room is used for the first time. May raise `Refusal`."""
        return self.total

    async def on_reserve(self, session: RoomSession, reservation: Hold) -> None:
        """Something is about to be reserved; raise `Refusal` to refuse it."""

    async def on_commit(self, session: RoomSession, reservation: Hold) -> None:
        """Something is about to be sold; raise `Refusal` to refuse it, because it was not paid for example."""

    async def on_low(self, left: int) -> None:
        """There were more than `low`, now there are not."""

    # ----------------------------------------------------------------------------------------------------- the room

    async def on_start(self) -> None:
        total = await self.store.get("total")
        if total is None:
            total = await self.count()
            await self.store.put("total", total)
        kept = await self.store.list("reserved:")
        reservations = [msgspec.convert(it, Hold) for it in kept.values()]
        self.stock = Stock(total, await self.store.get("sold", 0), {it.id: it for it in reservations})

    async def on_join(self, session: RoomSession) -> None:
        await self._expire()
        await session.send(self.seen)

    async def on_message(self, session: RoomSession, data: Reserve | Release | Commit) -> Any:
        who = session.user or session.id
        await self._expire()
        before, stock = self.stock.left, self.stock
        if isinstance(data, Reserve):
            if data.id in stock.reservations:
                return stock.reserve(data.id, who, data.quantity, 0)
            held = sum(it.quantity for it in stock.reservations.values() if it.by == who)
            if held + data.quantity > self.most:
                raise Refusal.bad_request(f"at most {self.most} for each")
            it = stock.reserve(data.id or secrets.token_hex(8), who, data.quantity, self.now + self.hold)
            await self._allow(self.on_reserve(session, it))
            await self.store.put(f"reserved:{it.id}", it)
        else:
            if isinstance(data, Release):
                it = stock.release(data.id, who)
            else:
                it = stock.commit(data.id, who)
                await self._allow(self.on_commit(session, it))
                await self.store.put("sold", stock.sold)
            await self.store.delete(f"reserved:{it.id}")
        await self._changed(before)
        return it

    async def _allow(self, hook: Awaitable[None]) -> None:
        """What the stock has done already is taken back if a hook refuses it."""
        try:
            await hook
        except Refusal:
            await self.on_start()
            raise

    async def on_request(self, request: HttpRequest) -> Any:
        if request.method != "GET":
            raise Refusal.bad_request("expected GET")
        return self.seen

    async def on_alarm(self) -> None:
        await self._expire()

    # ----------------------------------------------------------------------------------------------------- what it does

    @property
    def seen(self) -> dict[str, Any]:
        """What everybody may know."""
        stock = self.stock
        return {
            "left": stock.left,
            "reserved": stock.reserved,
            "sold": stock.sold,
            "total": stock.total,
            "low": 0 < stock.left <= self.low,
            "at": self.now * 1000,
        }

    async def restock(self, more: int) -> None:
        """So much more is there, for hooks of a class of your own."""
        before = self.stock.left
        self.stock.total += more
        await self.store.put("total", self.stock.total)
        await self._changed(before)

    async def reset(self, total: int) -> None:
        """Begin anew with so many, for hooks of a class of your own: nothing is reserved, nothing is sold."""
        before, self.stock = self.stock.left, Stock(total)
        await self.store.clear()
        await self.store.put("total", total)
        await self._changed(before)

    def next_alarm(self) -> float | None:
        """When the alarm has to ring next, epoch seconds; a class of your own may want it earlier."""
        return self.stock.next_expiry()

    async def _expire(self) -> None:
        before = self.stock.left
        over = self.stock.expire(self.now)
        if over:
            await self.store.delete(*(f"reserved:{it.id}" for it in over))
            await self._changed(before)

    async def _changed(self, before: int) -> None:
        at = self.next_alarm()
        await self.set_alarm(None if at is None else at - self.now)
        if before > self.low >= self.stock.left:
            await self.on_low(self.stock.left)
        await self.broadcast(self.seen)
