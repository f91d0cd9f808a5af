"""A stock market: 20 symbols, each a channel of its own, all over one WebSocket per visitor."""

import asyncio
import random
import time
from collections import deque
from typing import Annotated

import msgspec
from msgspec import Meta

from freshet import Freshet, History, Refusal, Session, Welcome
from freshet.demos.companies import COMPANIES
from freshet.demos.pace import Pace

live = Freshet()
symbols = live.channel("ticker:{symbol}", history=History(size=500, ttl=60))
live.channel("market")

RATE = 10  # updates per second of each symbol, until a visitor wants another rate
STEPS = 4  # the symbols of one round go out in so many steps, so that the page moves evenly


class Quote(msgspec.Struct):
    """at: the server's clock in milliseconds when it was published."""

    symbol: str
    price: float
    open: float
    volume: int
    at: float


class Market:
    """The prices of now, those of the last 30 seconds for whoever comes in, and the rate that all visitors share."""

    def __init__(self, names: dict[str, str]) -> None:
        self.names = names
        self.rate = RATE
        self.left = 0.0  # when a visitor last went away
        self.quotes = {symbol: self._open(symbol) for symbol in names}
        self.past = {symbol: deque[tuple[float, float]](maxlen=60) for symbol in names}  # (at, price)

    @staticmethod
    def _open(symbol: str) -> Quote:
        price = round(random.uniform(20, 400), 2)
        return Quote(symbol, price, price, 0, 0)

    def move(self, quote: Quote) -> None:
        """The next price: it wanders, as fast at any rate."""
        quote.price = round(max(1.0, quote.price * random.gauss(1.0, 0.0025 / self.rate**0.5)), 2)
        quote.volume += random.randrange(1, 50)
        quote.at = time.time() * 1000
        past = self.past[quote.symbol]
        if not past or quote.at - past[-1][0] >= 500:
            past.append((quote.at, quote.price))


market = Market(COMPANIES)


@live.on_connect
async def welcome(session: Session) -> Welcome:
    """Everyone may come in, and gets what a page needs to begin with."""
    stocks = [
        {"symbol": symbol, "name": name, "past": list(market.past[symbol])} for symbol, name in market.names.items()
    ]
    return Welcome(user=session.id, data={"stocks": stocks, "rate": market.rate})


@symbols.on_subscribe
async def must_exist(session: Session, symbol: str) -> None:
    if symbol not in market.names:
        raise Refusal.unknown_channel(f"no symbol {symbol!r}; there are {', '.join(market.names)}")


pace = Pace(rate=10, burst=20)


@live.rpc("rate")
async def set_rate(session: Session, data: Annotated[int, Meta(ge=1, le=50)]) -> None:
    """The slider: a quote is published once for all, so that its rate is everybody's."""
    pace.check(session)
    market.rate = data
    await live.publish("market", {"rate": data})


@live.on_disconnect
async def leave(session: Session) -> None:
    market.left = time.monotonic()


def calm_down() -> None:
    """What the last visitor had turned up is turned down a minute after they left."""
    if market.rate != RATE and live.statistics().clients == 0 and time.monotonic() - market.left > 60:
        market.rate = RATE


async def trade() -> None:
    """Publish prices as they change, for as long as the server runs."""
    due = time.monotonic()
    while True:
        calm_down()
        for step in range(STEPS):
            for quote in list(market.quotes.values())[step::STEPS]:
                market.move(quote)
                await live.publish(f"ticker:{quote.symbol}", quote)
            due = max(due + 1 / market.rate / STEPS, time.monotonic())  # who is late does not hurry
            await asyncio.sleep(due - time.monotonic())
