"""The auction and the flash sale: two visitors beside each other, whose clocks need not be right."""

from pathlib import Path
from typing import Any

import pytest
from centrifuge import ReplyError
from selenium import webdriver
from websockets.sync.client import connect

from freshet.demos.auction import LOTS
from tests.demos.pages import Page
from tests.demos.test_vitals import WIDTHS
from tests.tools.clients import connected
from tests.tools.patience import seconds, wait_until
from tests.tools.ports import free_port
from tests.tools.serving import Server, serving

WRONG = 3_600_000 + 1234  # milliseconds by which a visitor's clock is wrong
SKEWED = """
Object.defineProperty(performance, 'timeOrigin', { value: performance.timeOrigin + arguments[0] });
const now = Date.now; Date.now = () => now() + arguments[0];
"""
LAST = "return [document.getElementById('timer').textContent, document.getElementById('phase').dataset.phase]"


HEIGHT = """
const title = document.getElementById('title');
title.textContent = arguments[0];
return title.getBoundingClientRect().height;
"""


def bid(page: Page, amount: int) -> None:
    page.run(
        "document.getElementById('amount').value = arguments[0]; document.getElementById('submit').click()", str(amount)
    )


def price(page: Page) -> int:
    return page.number("price")


def wait_for_a_lot(page: Page) -> None:
    """That is open, and long enough for what a test does with it."""

    def long_enough() -> bool:
        minutes, _, rest = page.text("left").partition(":")
        return rest.isdigit() and int(minutes) * 60 + int(rest) > 25

    wait_until(long_enough, 60, "an open lot")


def wait_for_a_sale(page: Page, seconds: float = 22) -> None:
    def open_long_enough() -> bool:
        timer, phase = page.run(LAST)
        minutes, _, rest = timer.partition(":")
        return phase == "open" and int(minutes) * 60 + float(rest) > seconds

    wait_until(open_long_enough, 90, "an open sale")


@pytest.mark.timeout(180)
def test_two_bidders_see_each_other_outbid_and_neither_sees_the_others_limit(page: Page, other: Page) -> None:
    page.open("/auction/")
    other.open("/auction/")
    wait_for_a_lot(page)
    start = price(page)
    bid(page, start + 1000)
    wait_until(lambda: "You lead" in page.text("mine"), 5, "the lead")
    assert page.element("name").get_attribute("value") in other.text("leader")
    now = price(other)
    assert start <= now < start + 1000, "the room bids no more than it takes"
    assert str(start + 1000) not in other.run("return document.body.textContent").replace(",", "")
    bid(other, now)
    wait_until(lambda: "or more, please" in other.text("mine"), 5, "the refusal")
    bid(other, start + 2000)
    wait_until(lambda: "You lead" in other.text("mine"), 5, "the other one to lead")
    wait_until(lambda: "outbid" in page.text("mine"), 5, "the first one to know")
    assert price(page) == price(other) > start + 1000
    assert page.texts("#log li span")[0].endswith("takes the lead")


@pytest.mark.timeout(240)
def test_what_one_reserves_the_other_cannot_have_until_it_is_given_back(page: Page, other: Page) -> None:
    page.open("/auction/")
    other.open("/auction/")
    wait_for_a_sale(page)
    left = page.number("few")
    page.element("reserve").click()
    wait_until(lambda: other.number("few") == left - 1, 5, "one lamp less")
    assert len(other.browser.find_elements("css selector", "#stock .reserved")) == 1
    page.element("buy").click()
    wait_until(lambda: "bought a lamp" in page.text("hold"), 5, "the sale")
    other.element("reserve").click()
    wait_until(lambda: other.element("release").is_displayed(), 5, "the hold")
    wait_until(lambda: page.number("few") == left - 2, 5, "two lamps less")
    other.element("release").click()
    wait_until(lambda: page.number("few") == left - 1, 5, "one lamp back")


@pytest.mark.timeout(180)
def test_a_screen_whose_clock_is_wrong_shows_the_same_time_left(page: Page, other: Page) -> None:
    script = {"source": SKEWED.replace("arguments[0]", str(WRONG))}
    added = other.browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", script)
    try:
        page.open("/auction/")
        other.open("/auction/")
        wait_until(lambda: other.text("offset").startswith("-36"), 10, "the difference of the clocks")
        assert other.run("return Date.now()") - page.run("return Date.now()") > WRONG - 60_000
        wait_until(lambda: apart(page, other) < 1.0, 10, "the same time on both")
        assert page.run(LAST)[1] == other.run(LAST)[1]
    finally:
        other.browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)


def apart(page: Page, other: Page) -> float:
    """By how many seconds the two timers differ, read one after the other."""
    one, two = (page.run(LAST)[0].partition(":")[2], other.run(LAST)[0].partition(":")[2])
    return abs(float(one) - float(two)) if one[0].isdigit() and two[0].isdigit() else 60.0


@pytest.mark.timeout(180)
def test_bids_are_there_when_the_server_has_been_started_anew(browser: webdriver.Chrome, tmp_path: Path) -> None:
    port, env = free_port(), {"XDG_STATE_HOME": str(tmp_path)}
    with serving(command="demo", port=port, env=env) as server:
        page = Page(browser, server).open("/auction/")
        wait_for_a_lot(page)
        bid(page, price(page) + 500)
        wait_until(lambda: "You lead" in page.text("mine"), 5, "the lead")
        before = (page.text("price"), page.text("title"))
    with serving(command="demo", port=port, env=env):
        wait_until(lambda: page.text("state") == "Live", 20, "the page to be back")
        wait_until(lambda: "You lead" in page.text("mine"), 5, "the bidder to be known again")
        assert (page.text("price"), page.text("title")) == before
    page.leave()
    browser.get_log("browser")  # that the server was away is in the console


@pytest.mark.parametrize("data", [{"amount": 0}, {"amount": "much"}, {}, None])
async def test_what_is_no_bid_is_refused(gallery: Server, data: Any) -> None:
    async with connected(
        gallery, path="/live/auction/connection/websocket", token="", data={"name": "Nobody", "key": "k" * 16}
    ) as client:
        subscription = client.new_subscription("auction:house")
        await subscription.subscribe()
        with pytest.raises(ReplyError) as refusal:
            await client.rpc("auction:house", data)
        assert refusal.value.code == 107


def test_who_has_no_key_does_not_come_in(gallery: Server) -> None:
    with connect(gallery.ws("/live/auction/connection/websocket")) as socket:
        socket.send('{"id": 1, "connect": {"data": {"name": "Nobody"}}}')
        assert '"code":107' in str(socket.recv(timeout=seconds(5)))


@pytest.mark.parametrize("width", WIDTHS)
def test_no_lot_moves_the_page_by_its_title(page: Page, width: int) -> None:
    page.use_width(width)
    page.open("/auction/")
    titles = ["The next lot", *(lot["title"] for lot in LOTS)]
    assert len({page.run(HEIGHT, title) for title in titles}) == 1
