"""The stock ticker: what moves, how fast, and what a cut makes it miss."""

import re

import pytest
from centrifuge import CentrifugeError

from tests.demos.clients import refusal_of, visiting
from tests.demos.pages import Page
from tests.tools.patience import seconds, wait_until
from tests.tools.serving import Server


@pytest.fixture
def ticker(page: Page) -> Page:
    page.open("/ticker/")
    wait_until(lambda: page.number("total") > 20, 15, "updates")
    return page


def slide(page: Page, rate: int) -> None:
    script = "const s = document.getElementById('speed'); s.value = arguments[0]; s.dispatchEvent(new Event('input'))"
    page.run(script, rate)


def test_twenty_prices_move_with_their_sparklines_and_latency_is_measured(ticker: Page) -> None:
    before = ticker.texts("tbody .price")
    assert len(before) == 20
    moved = lambda: sum(old != new for old, new in zip(before, ticker.texts("tbody .price"), strict=True))  # noqa: E731
    wait_until(lambda: moved() > 15, 10, "moves")
    for name in ("p50", "p95"):
        wait_until(lambda name=name: re.fullmatch(r"(< )?\d+\.\d ms", ticker.text(name)), 10, "a latency")
    assert ticker.text("transport") == "WebSocket"
    drawn = """return [...document.querySelectorAll('canvas')].filter((canvas) => {
        const {data} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
        return data.some((value) => value > 0);
    }).length"""
    wait_until(lambda: ticker.run(drawn) == 20, 5, "twenty lines")


def test_the_slider_turns_the_market_for_everyone(ticker: Page, other: Page) -> None:
    other.open("/ticker/")
    slide(ticker, 1)
    wait_until(lambda: other.text("speed-value") == "1", 5, "the other slider")
    assert other.element("speed").get_attribute("value") == "1"
    wait_until(lambda: other.number("rate") < 60, 15, "a slower market")
    slide(other, 30)
    wait_until(lambda: ticker.text("speed-value") == "30", 5, "the first slider")
    wait_until(lambda: ticker.number("rate") > 250, 15, "a faster market")
    slide(other, 10)
    wait_until(lambda: ticker.text("speed-value") == "10", 5, "the first slider")


def test_what_a_cut_connection_missed_is_recovered(ticker: Page) -> None:
    ticker.cut()
    ticker.wait_for_return()
    wait_until(lambda: "all of them came from the log" in ticker.text("report"), 10, "all that was missed")
    assert ticker.number("missed") == ticker.number("recovered") > 100


@pytest.mark.parametrize("rate", [0, 51, 10.5, "10", None])
async def test_a_rate_that_the_slider_does_not_have_is_refused(gallery: Server, rate: object) -> None:
    async with visiting(gallery, "ticker") as client:
        with pytest.raises(CentrifugeError) as refusal:
            await client.rpc("rate", rate)
        assert refusal.value.code == 107


async def test_nobody_turns_the_market_all_the_time(gallery: Server) -> None:
    async with visiting(gallery, "ticker") as client:
        assert await refusal_of(lambda: client.rpc("rate", 10), 100) == 111


async def test_a_symbol_that_is_not_traded_is_refused(gallery: Server) -> None:
    async with visiting(gallery, "ticker") as client:
        subscription = client.new_subscription("ticker:NONE")
        await subscription.subscribe()
        with pytest.raises(CentrifugeError):
            await subscription.ready(timeout=seconds(5))
