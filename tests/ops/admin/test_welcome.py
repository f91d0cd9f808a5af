"""The page at the root of a server in development: the first thing that a newcomer sees."""

from collections.abc import Callable

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

from tests.tools.accessibility import load_axe, violations
from tests.tools.browser import console_errors
from tests.tools.need import ROOT
from tests.tools.patience import wait_until
from tests.tools.serving import Server


@pytest.mark.parametrize(("arguments", "prefix"), [(["--dev"], "/"), (["tests.api.mounted:api"], "/live/")])
def test_a_newcomer_publishes_and_finds_the_admin_page(
    serve: Callable[..., Server], browser: webdriver.Chrome, arguments: list[str], prefix: str
) -> None:
    server = serve(*arguments, cwd=ROOT)
    browser.get(server.http(prefix))

    def text(selector: str) -> str:
        return browser.find_element(By.CSS_SELECTOR, selector).text

    wait_until(lambda: text("#state") == "Live", 15, "the page to be live")
    field = browser.find_element(By.ID, "text")
    field.clear()
    field.send_keys("<b>my first message</b>")
    browser.find_element(By.CSS_SELECTOR, "#publish button").click()
    wait_until(lambda: "<b>my first message</b>" in text("#messages"), 10, "the message")
    assert f"{server.http(prefix)}channels/news" in text("#snippet")
    for tab in browser.find_elements(By.CSS_SELECTOR, "#kinds button"):
        tab.click()
        assert text("#snippet")
    load_axe(browser)
    assert violations(browser) == []
    browser.find_element(By.CSS_SELECTOR, ".ways a").click()
    wait_until(lambda: text("#state") == "Live", 15, "the admin page")
    wait_until(lambda: "ready" in text("main"), 10, "its node")
    assert console_errors(browser) == []
