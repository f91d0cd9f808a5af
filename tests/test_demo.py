"""The demo page, as a visitor meets it in a real browser."""

from collections.abc import Callable

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

from tests.tools.browser import console_errors
from tests.tools.patience import wait_until
from tests.tools.serving import Server


@pytest.fixture
def page(serve: Callable[..., Server], browser: webdriver.Chrome) -> webdriver.Chrome:
    server = serve(command="demo")
    browser.get(server.http("/"))
    wait_until(lambda: number(browser, "total") > 100, 15, "a hundred updates")
    return browser


def text(page: webdriver.Chrome, name: str) -> str:
    return page.find_element(By.ID, name).text


def number(page: webdriver.Chrome, name: str) -> int:
    return int("".join(filter(str.isdigit, text(page, name))) or 0)


def test_the_ticker_shows_twenty_moving_prices_and_a_measured_latency(page: webdriver.Chrome) -> None:
    rows = page.find_elements(By.CSS_SELECTOR, "tbody tr")
    prices = [row.find_element(By.CLASS_NAME, "price") for row in rows]
    before = [price.text for price in prices]
    assert len(rows) == 20
    wait_until(lambda: sum(price.text != old for price, old in zip(prices, before, strict=True)) > 15, 10, "moves")
    wait_until(lambda: text(page, "p50").endswith("ms"), 10, "a latency")
    assert text(page, "state") == "Live"
    assert text(page, "transport") == "websocket"
    assert console_errors(page) == []


def test_what_a_cut_connection_missed_is_recovered(page: webdriver.Chrome) -> None:
    page.find_element(By.ID, "cut").click()
    wait_until(lambda: "cut" in text(page, "state"), 5, "the news that it is cut")
    wait_until(lambda: "recovered" in text(page, "state"), 10, "recovery")
    missed = number(page, "state")
    assert missed > 200  # 3 s of 200 updates a second, less what the machine is late
    assert console_errors(page) == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_fits_a_phone_in_both_themes(page: webdriver.Chrome, theme: str) -> None:
    page.execute_script(
        "const s = document.getElementById('theme'); s.value = arguments[0]; s.dispatchEvent(new Event('change'))",
        theme,
    )
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 360, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    )
    try:
        assert page.execute_script("return document.documentElement.scrollWidth") <= 360
        assert page.execute_script("return getComputedStyle(document.documentElement).colorScheme") == theme
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
