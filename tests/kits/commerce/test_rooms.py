"""The kit's rooms in one process: an inventory, a countdown, an auction, and what applications make of them."""

from typing import Any

import httpx
import pytest

from freshet import Freshet, Refusal, RoomSession
from freshet.kits.commerce import Auction, Countdown, Hold, Inventory, LogEntry, Terms
from freshet.testing import Client, ManualClock
from tests.rooms.test_rooms import application, awake
from tests.tools.patience import eventually


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


async def seen(client: Client, *names: str) -> Any:
    data = (await client.receive()).data
    return [data[name] for name in names] if len(names) > 1 else data[names[0]]


class Lamps(Inventory):
    total, hold, low, most = 4, 60, 2, 3
    lows: list[int] = []  # noqa: RUF012 - of the test
    paid = True

    async def on_low(self, left: int) -> None:
        self.lows.append(left)

    async def on_commit(self, session: RoomSession, reservation: Hold) -> None:
        if not type(self).paid:
            raise Refusal.bad_request("pay first")


@pytest.fixture
def lamps(clock: ManualClock) -> Freshet:
    Lamps.lows.clear()
    Lamps.paid = True
    live = application(clock, idle=10)
    live.room("stock:{article}")(Lamps)
    return live


def reserve(quantity: int, **more: str) -> dict[str, Any]:
    return {"do": "reserve", "quantity": quantity, **more}


async def test_what_is_reserved_is_there_for_nobody_else_until_it_is_given_back_or_its_time_is_over(
    lamps: Freshet, clock: ManualClock
) -> None:
    async with lamps.test_client("ann") as ann, lamps.test_client("bob") as bob:
        for client in (ann, bob):
            await client.subscribe("stock:lamp")
            assert await seen(client, "left", "low") == [4, False]
        held = await ann.rpc("stock:lamp", reserve(3))
        assert (held["by"], held["quantity"], held["until"]) == ("ann", 3, clock.wall() + 60)
        assert await seen(bob, "left", "reserved", "low") == [1, 3, True]
        assert Lamps.lows == [1]
        with pytest.raises(Refusal, match="only 1 left"):
            await bob.rpc("stock:lamp", reserve(2))
        with pytest.raises(Refusal, match="no such reservation of yours"):
            await bob.rpc("stock:lamp", {"do": "release", "id": held["id"]})
        await clock.advance(61)
        assert await seen(bob, "left", "reserved") == [4, 0], "the room was asleep, its alarm woke it"
        with pytest.raises(Refusal, match="may have expired"):
            await ann.rpc("stock:lamp", {"do": "commit", "id": held["id"]})
        again = await ann.rpc("stock:lamp", reserve(2))
        assert await seen(bob, "left") == 2
        await ann.rpc("stock:lamp", {"do": "release", "id": again["id"]})
        assert await seen(bob, "left") == 4


async def test_what_is_sold_stays_sold_whatever_becomes_of_the_room(lamps: Freshet, clock: ManualClock) -> None:
    async with lamps.test_client("ann") as ann:
        await ann.subscribe("stock:lamp")
        held = await ann.rpc("stock:lamp", reserve(2, id="mine"))
        assert await ann.rpc("stock:lamp", reserve(2, id="mine")) == held, "asked again, it is reserved once"
        with pytest.raises(Refusal, match="at most 3 for each"):
            await ann.rpc("stock:lamp", reserve(2))
        Lamps.paid = False
        with pytest.raises(Refusal, match="pay first"):
            await ann.rpc("stock:lamp", {"do": "commit", "id": "mine"})
        Lamps.paid = True
        await ann.rpc("stock:lamp", {"do": "commit", "id": "mine"})
        await clock.advance(15)
        await eventually(lambda: awake(lamps) == 0)
        async with lamps.test_client("bob") as bob:
            await bob.subscribe("stock:lamp")
            assert await seen(bob, "left", "reserved", "sold", "total") == [2, 0, 2, 4]


async def test_a_hook_that_refuses_a_reservation_takes_it_back(clock: ManualClock) -> None:
    class Members(Inventory):
        async def count(self) -> int:
            return 2

        async def on_reserve(self, session: RoomSession, reservation: Hold) -> None:
            if session.user != "ann":
                raise Refusal.permission_denied("members only")

    live = application(clock)
    live.room("stock:{article}")(Members)
    async with live.test_client("bob") as bob, live.test_client("ann") as ann:
        await bob.subscribe("stock:lamp")
        with pytest.raises(Refusal, match="members only"):
            await bob.rpc("stock:lamp", reserve(2))
        await ann.subscribe("stock:lamp")
        assert (await ann.rpc("stock:lamp", reserve(2)))["quantity"] == 2


async def test_a_restock_is_seen_by_all(clock: ManualClock) -> None:
    class Growing(Inventory):
        async def on_message(self, session: RoomSession, data: int) -> None:
            await self.restock(data)

    live = application(clock)
    live.room("stock:{article}")(Growing)
    async with live.test_client("ann") as ann:
        await ann.subscribe("stock:lamp")
        assert await seen(ann, "left") == 0
        await ann.publish("stock:lamp", 7)
        assert await seen(ann, "left", "total") == [7, 7]


class Sale(Countdown):
    phases: list[str] = []  # noqa: RUF012 - of the test

    async def schedule(self) -> tuple[float, float]:
        return self.now + 20, self.now + 50

    async def on_phase(self, phase: str) -> None:
        self.phases.append(phase)

    async def on_message(self, session: RoomSession, data: Any) -> Any:
        if data == "buy":
            self.check()
            return "bought"
        return await super().on_message(session, data)


async def test_a_sale_opens_and_ends_for_all_by_the_servers_clock(clock: ManualClock) -> None:
    Sale.phases.clear()
    live = application(clock, idle=5)
    live.room("sale:{name}")(Sale)
    async with live.test_client("ann") as ann:
        await ann.subscribe("sale:may")
        first = clock.wall() * 1000
        assert await seen(ann, "phase", "starts", "ends", "at") == ["soon", first + 20_000, first + 50_000, first]
        assert await ann.rpc("sale:may") == first, "who calls gets the server's time"
        with pytest.raises(Refusal, match="not yet"):
            await ann.rpc("sale:may", "buy")
        await clock.advance(20)
        assert await seen(ann, "phase") == "open"
        assert await ann.rpc("sale:may", "buy") == "bought"
        await clock.advance(30)
        assert await seen(ann, "phase") == "over"
        with pytest.raises(Refusal, match="it is over"):
            await ann.rpc("sale:may", "buy")
    assert Sale.phases == ["open", "over"]


class Lot(Auction):
    start, reserve, window, duration = 10, 50, 15.0, 60.0
    increments = ((0, 5),)
    sold: list[Any] = []  # noqa: RUF012 - of the test

    async def on_bid(self, session: RoomSession, entry: LogEntry) -> None:
        if session.user == "eve":
            raise Refusal.permission_denied("not you")

    async def on_sold(self, winner: str, price: int) -> None:
        self.sold.append((winner, price))

    async def on_unsold(self) -> None:
        self.sold.append(None)


@pytest.fixture
def lots(clock: ManualClock) -> Freshet:
    Lot.sold.clear()
    live = application(clock, idle=5)
    live.room("auction:{lot}")(Lot)
    return live


async def test_an_auction_goes_to_one_who_pays_one_step_more_than_the_second(lots: Freshet, clock: ManualClock) -> None:
    async with (
        lots.test_client("ann") as ann,
        lots.test_client("bob") as bob,
        lots.test_client("eve") as eve,
        httpx.AsyncClient(transport=httpx.ASGITransport(lots), base_url="http://127.0.0.1") as http,
    ):
        for client in (ann, bob, eve):
            await client.subscribe("auction:1")
            assert await seen(client, "price", "leader", "next", "reserve") == [0, "", 10, "open"]
        assert await ann.rpc("auction:1", {"amount": 100}) == {"leads": True, "price": 50}
        assert await seen(bob, "price", "leader", "reserve", "bids") == [50, "ann", "met", 1]
        assert await seen(ann, "price") == 50
        assert await seen(ann, "your") == {"most": 100, "leads": True}
        with pytest.raises(Refusal, match="not you"):
            await eve.rpc("auction:1", {"amount": 500})
        with pytest.raises(Refusal, match="55 or more"):
            await bob.rpc("auction:1", {"amount": 54})
        await clock.advance(50)
        assert (await bob.rpc("auction:1", {"amount": 70})) == {"leads": False, "price": 75}
        shown = (await http.get("/rooms/auction:1")).json()
        assert [(it["what"], it["by"], it.get("amount")) for it in shown["log"]] == [
            ("first", "ann", None),
            ("defended", "bob", 70),
        ], "what the leader would pay is a secret"
        assert shown["ends"] == (clock.wall() + 15) * 1000, "a late bid moves the end"
        await clock.advance(14)
        assert Lot.sold == []
        await clock.advance(2)
        assert Lot.sold == [("ann", 75)]
        with pytest.raises(Refusal, match="over"):
            await bob.rpc("auction:1", {"amount": 500})
        shown = (await http.get("/rooms/auction:1")).json()
        assert (shown["winner"], shown["over"], shown["bids"]) == ("ann", True, 2)
        assert [it.get("amount") for it in shown["log"]] == [100, 70, None]


async def test_an_auction_goes_on_after_sleep_and_unsold_is_unsold(lots: Freshet, clock: ManualClock) -> None:
    async with lots.test_client("ann") as ann:
        await ann.subscribe("auction:1")
        await ann.rpc("auction:1", {"amount": 20})
        await clock.advance(10)
        await eventually(lambda: awake(lots) == 0)
        with pytest.raises(Refusal, match="you lead; more than 20"):
            await ann.rpc("auction:1", {"amount": 20})
        await clock.advance(60)
        assert Lot.sold == [None]


async def test_who_is_nobody_cannot_bid(lots: Freshet) -> None:
    async with lots.test_client() as nobody:
        await nobody.subscribe("auction:1")
        with pytest.raises(Refusal, match="needs a user"):
            await nobody.rpc("auction:1", {"amount": 20})


async def test_a_lot_that_there_is_not_can_be_refused(clock: ManualClock) -> None:
    class Catalogue(Auction):
        async def terms(self) -> Terms:
            if self.parameters["lot"] != "1":
                raise Refusal.unknown_channel("no such lot")
            return Terms(5, self.now + 10)

    live = application(clock)
    live.room("auction:{lot}")(Catalogue)
    async with live.test_client("ann") as ann:
        await ann.subscribe("auction:1")
        with pytest.raises(Refusal, match="no such lot"):
            await ann.subscribe("auction:2")


@pytest.mark.parametrize("data", [{"amount": 0}, {"amount": 10**13}, {"amount": 1.5}, {"amount": "1"}, {}, 5])
async def test_what_is_no_bid_is_refused(lots: Freshet, data: Any) -> None:
    async with lots.test_client("ann") as ann:
        await ann.subscribe("auction:1")
        with pytest.raises(Refusal) as refusal:
            await ann.rpc("auction:1", data)
        assert refusal.value.code == 107
