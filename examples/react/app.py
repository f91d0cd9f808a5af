"""Serves the built page, and publishes made-up prices. See README.md."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from freshet import Freshet, History

DIST = Path(__file__).with_name("dist")

live = Freshet(dev=True)  # everything open, for your own machine
live.channel("price:{symbol}", history=History(size=10, ttl=60))


async def trade() -> None:
    prices = {"ACRN": 41.0, "BROK": 87.0, "FRSH": 120.0}
    while True:
        for symbol, price in prices.items():
            prices[symbol] = price * random.gauss(1, 0.002)
            await live.publish(f"price:{symbol}", {"price": round(prices[symbol], 2)})
        await asyncio.sleep(0.5)


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
    routes=[Mount("/live", live), Mount("/", StaticFiles(directory=DIST, html=True))],
)
