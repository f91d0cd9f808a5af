"""An auction with a screen in the hall: bidders call the room, the screen listens to it."""

from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Mount, Route

from freshet import Freshet, RoomSession
from freshet.kits.commerce import Auction, LogEntry

live = Freshet.from_config("freshet.toml")


@live.room("auction:{lot}")
class Lot(Auction):
    start, reserve, window, duration = 100, 400, 30, 600
    increments = ((0, 10), (500, 25))

    def name_of(self, session: RoomSession) -> str:
        return session.claims.get("name", session.user)

    async def on_bid(self, session: RoomSession, entry: LogEntry) -> None:
        print(f"{entry.what}: {entry.bidder}, now {entry.price}")

    async def on_sold(self, winner: str, price: int) -> None:
        await self.store.put("bill", {"to": winner, "for": price})


async def screen(request: Request) -> HTMLResponse:
    return HTMLResponse(Path(__file__).with_name("screen.html").read_text())


app = Starlette(lifespan=live.lifespan, routes=[Route("/screen", screen), Mount("/", live)])
