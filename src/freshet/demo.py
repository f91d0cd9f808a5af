"""The demo: a live stock ticker. 20 symbols, each published ten times a second, over one WebSocket per visitor."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.routing import Mount, WebSocketRoute
from starlette.staticfiles import StaticFiles

from freshet.app import Freshet
from freshet.model import History
from freshet.session import Session

STATIC = Path(__file__).parent / "web" / "static"
UPDATES_PER_SECOND = 10  # of each symbol
STEPS = 4  # the symbols of one round go out in so many steps, so that the page moves evenly

COMPANIES = {
    "FRSH": "Freshet",
    "ACRN": "Acorn Foods",
    "ALDR": "Alder Timber",
    "BROK": "Brook Water",
    "CDAR": "Cedar Health",
    "CRAN": "Crane Logistics",
    "DELT": "Delta Shipping",
    "EMBR": "Ember Energy",
    "FERN": "Fern Robotics",
    "GLCR": "Glacier Cold",
    "HERN": "Heron Air",
    "IRIS": "Iris Optics",
    "LARK": "Lark Audio",
    "MESA": "Mesa Solar",
    "OSPR": "Osprey Space",
    "PINE": "Pine Paper",
    "QRRY": "Quarry Stone",
    "RIVR": "River Bank",
    "TIDE": "Tide Power",
    "WREN": "Wren Mobile",
}


class Quote(msgspec.Struct):
    """at: the server's clock in milliseconds when the quote was published."""

    symbol: str
    price: float
    open: float
    volume: int
    at: float


live = Freshet(dev=True)
live.channel("ticker:{symbol}", history=History(size=100, ttl=60))


@live.rpc("symbols")
async def symbols(session: Session, data: Any) -> dict[str, Any]:
    return {"symbols": [{"symbol": symbol, "name": name} for symbol, name in COMPANIES.items()]}


@live.rpc("clock")
async def clock(session: Session, data: Any) -> dict[str, float]:
    return {"now": time.time() * 1000}


async def trade() -> None:
    """Prices that wander, published as they change."""
    quotes = [
        Quote(symbol, price, price, 0, 0) for symbol in COMPANIES for price in [round(random.uniform(20, 400), 2)]
    ]
    while True:
        for step in range(STEPS):
            for quote in quotes[step::STEPS]:
                quote.price = round(max(1.0, quote.price * random.gauss(1.0, 0.0008)), 2)
                quote.volume += random.randrange(1, 50)
                quote.at = time.time() * 1000
                await live.publish(f"ticker:{quote.symbol}", quote)
            await asyncio.sleep(1 / UPDATES_PER_SECOND / STEPS)


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    async with live.lifespan():
        trading = asyncio.create_task(trade())
        yield
        trading.cancel()
        with suppress(asyncio.CancelledError):
            await trading


app = Starlette(
    lifespan=lifespan,
    routes=[
        WebSocketRoute("/{path:path}", live),
        Mount("/", StaticFiles(directory=STATIC, html=True)),
    ],
)
