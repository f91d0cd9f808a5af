"""An auction as a room."""

from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta

from freshet import HttpRequest, Refusal, Room, RoomSession
from freshet.kits.commerce.bidding import Bidding, LogEntry, Terms, verify

HIGHEST = 10**12
PAGE = 100  # entries of the log


class Bid(msgspec.Struct):
    """amount: the most that the bidder would pay."""

    amount: Annotated[int, Meta(ge=1, le=HIGHEST)]


class Auction(Room):
    """One lot: `@live.room("auction:{lot}")` over a class that derives from this.

    Clients call the room with `{"amount": 1200}`; who bids is the session's user. All subscribers see what is so now,
    when they come and when it changes; the bidder alone is sent its own `{"your": {"most": …, "leads": …}}`.

    start, reserve, increments, window: see `Terms`. duration: seconds from the first use on. `terms` may say otherwise.
    """

    start: ClassVar[int] = 1
    reserve: ClassVar[int] = 0
    increments: ClassVar[tuple[tuple[int, int], ...]] = ((0, 1),)
    window: ClassVar[float] = 30.0
    duration: ClassVar[float] = 3600.0

    bidding: Bidding

    async def terms(self) -> Terms:
        """Of this lot, asked once: when the room is first used. Raise `Refusal` if there is no such lot."""
        return Terms(self.start, self.now + self.duration, self.reserve, self.increments, self.window)

    def name_of(self, session: RoomSession) -> str:
        """By which others know a bidder."""
        return session.user

    async def on_bid(self, session: RoomSession, entry: LogEntry) -> None:
        """A bid is about to count; raise `Refusal` to refuse it, because the bidder has no account for example."""

    async def on_sold(self, winner: str, price: int) -> None:
        """It is over, and this user has it. Called again if this fails, or the server does meanwhile."""

    async def on_unsold(self) -> None:
        """It is over, and nobody has it."""

    # ----------------------------------------------------------------------------------------------------- the room

    async def on_start(self) -> None:
        kept = await self.store.get("terms")
        if kept is None:
            await self.begin(await self.terms())
            return
        terms = msgspec.convert(kept, Terms)
        self.names: dict[str, str] = await self.store.get("names", {})
        self.log = [msgspec.convert(it, LogEntry) for it in (await self.store.list("log:")).values()]
        self.bidding = verify(terms, self.log)

    async def begin(self, terms: Terms) -> None:
        """With nothing of what was before."""
        await self.store.clear()
        await self.store.put("terms", terms)
        self.bidding, self.log, self.names = Bidding(terms), [], {}
        await self.set_alarm(terms.ends - self.now)

    async def open(self, terms: Terms) -> None:
        """Begin anew, and tell all: for hooks of a class of your own."""
        await self.begin(terms)
        await self.broadcast(self.seen)

    async def on_join(self, session: RoomSession) -> None:
        await session.send(self.seen)
        await self._tell(session)

    async def on_message(self, session: RoomSession, data: Bid) -> Any:
        before = self.bidding.leader
        entry = self.bidding.bid(session.user, data.amount, self.now)
        try:
            await self.on_bid(session, entry)
        except Refusal:
            self.bidding = verify(self.bidding.terms, self.log)
            raise
        await self._note(entry)
        if session.user not in self.names:
            self.names[session.user] = self.name_of(session)
            await self.store.put("names", self.names)
        await self.set_alarm(self.bidding.ends - self.now)
        await self.broadcast(self.seen)
        for it in await self.sessions():
            if it.user and it.user in (session.user, before):
                await self._tell(it)
        return {"leads": self.bidding.leader == session.user, "price": self.bidding.price}

    async def on_alarm(self) -> None:
        bidding = self.bidding
        if not bidding.closed:
            if self.now < bidding.ends:
                await self.set_alarm(bidding.ends - self.now)
                return
            await self._note(bidding.close(self.now))
            await self.broadcast(self.seen)
        if bidding.winner:
            await self.on_sold(bidding.winner, bidding.price)
        else:
            await self.on_unsold()

    async def on_request(self, request: HttpRequest) -> Any:
        """What is so now and, of the log, the last entries; what bidders would have paid is shown when it is over."""
        if request.method != "GET":
            raise Refusal.bad_request("expected GET")
        return {**self.seen, "log": [self._shown(it) for it in self.log[-PAGE:]]}

    # ---------------------------------------------------------------------------------------------------- what it shows

    @property
    def seen(self) -> dict[str, Any]:
        """What everybody may know. Times are milliseconds of the epoch."""
        bidding = self.bidding
        return {
            "price": bidding.price,
            "leader": self.names.get(bidding.leader, ""),
            "next": bidding.lowest,
            "bids": bidding.bids - bidding.closed,
            "reserve": "none" if not bidding.terms.reserve else "met" if bidding.reserve_met else "open",
            "ends": bidding.ends * 1000,
            "at": self.now * 1000,
            "over": bidding.closed,
            "winner": self.names.get(bidding.winner, ""),
            "recent": [self._shown(it) for it in self.log[-8:]],
        }

    def _shown(self, it: LogEntry) -> dict[str, Any]:
        name = self.names.get(it.bidder, "")
        shown = {"number": it.number, "at": it.at * 1000, "what": it.what, "by": name, "price": it.price}
        # A bid that did not lead was bid to its end: everyone has seen it. One that leads, or led, stays a secret.
        if it.bidder and (self.bidding.closed or it.what == "defended"):
            shown["amount"] = it.amount
        return shown

    async def _tell(self, session: RoomSession) -> None:
        """A bidder, of its own bid."""
        most = max((it.amount for it in self.log if it.bidder == session.user and session.user), default=0)
        if most:
            leads = self.bidding.leader == session.user
            await session.send({"your": {"most": most, "leads": leads}, "at": self.now * 1000})

    async def _note(self, entry: LogEntry) -> None:
        self.log.append(entry)
        await self.store.put(f"log:{entry.number:09}", entry)
