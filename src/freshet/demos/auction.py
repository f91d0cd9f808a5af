"""An auction, and beside it a flash sale: three rooms of the kit, with what is special about them here."""

import random
from typing import Any

from freshet import Freshet, Refusal, RoomSession
from freshet.demos.kept import kept, name_of, welcome
from freshet.kits.commerce import Auction, Countdown, Hold, Inventory, Terms

live = Freshet(environment=kept("auction"))
live.on_connect(welcome)

LOTS = [
    {"title": "The Brass Heron", "about": "Weather vane, about 1890", "art": "heron"},
    {"title": "Moon over Mill Pond", "about": "Woodcut, 3 of 40", "art": "moon"},
    {"title": "The Ferryman's Lantern", "about": "Copper and glass, about 1910", "art": "lantern"},
]
PAUSE = 12.0  # seconds between two lots
SALE, EVERY = 50.0, 75.0  # seconds for which a sale is open, and from one to the next


@live.room("auction:{house}")
class SaleRoom(Auction):
    """One lot after the other. The house bids for itself, up to what nobody knows, so that nobody is alone."""

    start, window, duration = 100, 10.0, 90.0
    increments = ((0, 10), (500, 25), (1000, 50))

    async def on_start(self) -> None:
        await super().on_start()
        self.number: int = await self.store.get("number", 0)

    def name_of(self, session: RoomSession) -> str:
        return name_of(session.info)

    async def on_join(self, session: RoomSession) -> None:
        if self.bidding.closed and self.now > self.bidding.ends + PAUSE:
            await self.next_lot()  # the last visitor left long ago
        await super().on_join(session)

    async def on_alarm(self) -> None:
        if not self.bidding.closed:
            await super().on_alarm()
        elif await self.sessions():
            await self.next_lot()

    async def on_sold(self, winner: str, price: int) -> None:
        await self.set_alarm(PAUSE)

    async def next_lot(self) -> None:
        self.number += 1
        await self.open(await self.terms())
        await self.store.put("number", self.number)  # behind `open`, which clears the store

    async def begin(self, terms: Terms) -> None:
        await super().begin(terms)
        self.names["house"] = "The house"
        await self.store.put("names", self.names)
        await self._note(self.bidding.bid("house", random.randrange(150, 400, 10), self.now))

    @property
    def seen(self) -> dict[str, Any]:
        number: int = getattr(self, "number", 0)
        return {**super().seen, "lot": number + 1, **LOTS[number % len(LOTS)]}


def sale(now: float) -> tuple[float, float]:
    """The sale that is open at a moment, or the next one: when it starts and ends. All rooms agree, by the clock."""
    starts = now // EVERY * EVERY
    return (starts, starts + SALE) if now < starts + SALE else (starts + EVERY, starts + EVERY + SALE)


@live.room("sale:{name}")
class FlashSale(Countdown):
    """One sale after the other."""

    async def schedule(self) -> tuple[float, float]:
        return sale(self.now)

    async def on_join(self, session: RoomSession) -> None:
        if self.phase == "over":
            await self.set_schedule(*sale(self.now))
        await super().on_join(session)

    async def on_phase(self, phase: str) -> None:
        if phase == "over" and await self.sessions():
            await self.set_schedule(*sale(self.now))


@live.room("stock:{article}")
class Lamps(Inventory):
    """Twelve lamps for each sale. Who reserves one has 15 seconds to buy it."""

    total, hold, low, most = 12, 15.0, 3, 3

    async def on_start(self) -> None:
        await super().on_start()
        self.ends: float = await self.store.get("ends", 0.0)

    async def on_join(self, session: RoomSession) -> None:
        await self.renew()
        await super().on_join(session)

    async def on_reserve(self, session: RoomSession, reservation: Hold) -> None:
        starts, ends = sale(self.now)
        if not starts <= self.now < ends:
            raise Refusal.bad_request("the sale is over")

    async def on_alarm(self) -> None:
        await super().on_alarm()
        if await self.sessions():
            await self.renew()

    async def renew(self) -> None:
        """New lamps when the next sale has begun."""
        starts, ends = sale(self.now)
        if starts <= self.now and ends != self.ends:
            self.ends = ends
            await self.reset(self.total)
            await self.store.put("ends", ends)

    def next_alarm(self) -> float | None:
        starts, ends = sale(self.now)
        follows = starts if starts > self.now else ends - SALE + EVERY
        return min(follows, super().next_alarm() or follows)
