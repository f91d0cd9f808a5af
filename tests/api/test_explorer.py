"""The page to try the server API, in headless Chromium."""

import json
import re
from collections.abc import Callable, Iterator
from uuid import uuid4

import httpx
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from freshet.api.explorer import FILES
from freshet.api.table import METHODS
from tests.tools.accessibility import load_axe, violations
from tests.tools.browser import console_errors
from tests.tools.clients import CONFIG, Listener, connected, soon
from tests.tools.patience import wait_until
from tests.tools.serving import Server, serving

Serve = Callable[..., Server]
KEY = "a key that is typed"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    config = tmp_path_factory.mktemp("explorer") / "freshet.toml"
    config.write_text(f'{CONFIG}\n[api]\nkey = "{KEY}"\n')
    with serving("--config", str(config)) as server:
        yield server


class Page:
    """What a visitor of the page sees and does."""

    def __init__(self, browser: webdriver.Chrome) -> None:
        self.browser = browser

    def open(self, url: str) -> "Page":
        self.browser.get("about:blank")
        self.browser.get(url)
        wait_until(lambda: self.text("method"), 10, "a method")
        return self

    def text(self, name: str) -> str:
        return self.browser.find_element(By.ID, name).text

    def write(self, name: str, text: str) -> None:
        field = self.browser.find_element(By.ID, name)
        field.clear()
        field.send_keys(text)

    def click(self, name: str) -> None:
        self.browser.find_element(By.ID, name).click()

    def choose(self, method: str) -> None:
        self.browser.find_element(By.LINK_TEXT, method).click()
        wait_until(lambda: self.text("method").endswith(f"/{method}"), 5, method)

    def send(self) -> str:
        """Send the request; gives what is said about its answer."""
        self.click("send")
        wait_until(lambda: self.text("verdict"), 10, "an answer")
        return self.text("verdict")


@pytest.fixture
def page(browser: webdriver.Chrome) -> Iterator[Page]:
    yield Page(browser)
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


async def test_what_is_sent_from_the_page_reaches_clients(server: Server, page: Page) -> None:
    channel = f"room-{uuid4().hex}"
    async with connected(server) as client:
        listener = Listener(client, channel)
        await listener.start()
        page.open(server.http("/api/"))
        page.write("key", KEY)
        page.write("body", json.dumps({"channel": channel, "data": {"text": "it's"}}))
        assert page.send() == "Done"
        assert (await soon(listener.publications.get())).pub.data == {"text": "it's"}
    assert json.loads(page.text("answer"))["result"]["offset"] == 1
    assert console_errors(page.browser) == []


def test_the_example_of_each_method_is_understood(server: Server, page: Page) -> None:
    page.open(server.http("/api/"))
    page.write("key", KEY)
    for name in [*METHODS, "batch"]:
        page.choose(name)
        page.send()
        assert page.text("took").startswith("Status 200"), (name, page.text("answer"))
    assert console_errors(page.browser) == []


def test_who_has_no_key_is_told_so_where_it_is_typed(server: Server, page: Page) -> None:
    page.open(server.http("/api/#info"))
    assert page.send() == "Refused: status 401"
    assert "a key is required" in page.text("answer")
    assert page.browser.switch_to.active_element.get_attribute("id") == "key"


def test_what_was_not_done_says_why(server: Server, page: Page) -> None:
    page.open(server.http("/api/"))
    page.write("key", KEY)
    page.write("body", '{"channel": "x"}')
    assert page.send() == "Not done: error 107"
    page.write("body", '{"channel": ')
    assert page.text("body-note").startswith("Not JSON")
    assert page.send() == "Refused: status 400"


def test_the_key_stays_in_the_page(server: Server, page: Page) -> None:
    page.open(server.http("/api/"))
    page.write("key", KEY)
    page.send()
    kept = page.browser.execute_script(
        "return JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, location.href])"
    )
    assert KEY not in kept
    assert KEY not in page.text("curl")
    page.open(server.http("/api/"))
    assert page.browser.find_element(By.ID, "key").get_attribute("value") == ""


def test_where_no_key_is_needed_none_is_asked_for(serve: Serve, page: Page) -> None:
    page.open(serve("--dev").http("/api/#presence_stats"))
    assert not page.browser.find_element(By.ID, "key").is_displayed()
    assert page.send() == "Done"
    assert console_errors(page.browser) == []


def test_a_server_that_is_gone_is_said_to_be(serve: Serve, page: Page) -> None:
    server = serve("--dev")
    page.open(server.http("/api/#info"))
    server.stop()
    assert page.send() == "No answer"
    assert "Is the server up" in page.text("answer")


def test_it_works_by_keyboard_alone(server: Server, page: Page) -> None:
    page.open(server.http("/api/#channels"))
    page.browser.find_element(By.ID, "key").send_keys(KEY, Keys.TAB, Keys.TAB, Keys.TAB)
    field = page.browser.switch_to.active_element
    assert field.get_attribute("id") == "body"
    field.send_keys(Keys.CONTROL, Keys.ENTER)
    wait_until(lambda: page.text("verdict") == "Done", 5, "an answer")


def test_what_was_typed_is_there_when_one_comes_back(server: Server, page: Page) -> None:
    page.open(server.http("/api/#publish"))
    page.write("body", "{}")
    page.choose("history")
    page.choose("publish")
    field = page.browser.find_element(By.ID, "body")
    assert field.get_attribute("value") == "{}"
    page.click("reset")
    assert json.loads(field.get_attribute("value") or "")["channel"] == "news"


def test_below_a_prefix_it_asks_the_server_there(serve: Serve, page: Page) -> None:
    server = serve("tests.api.mounted:api")
    page.open(server.http("/live/api/#info"))
    assert page.text("method") == "POST /live/api/info"
    assert page.send() == "Done"
    assert "/live/api/info" in page.text("curl")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_fits_a_phone_and_a_desk_and_is_accessible(server: Server, page: Page, theme: str) -> None:
    page.browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": theme}]}
    )
    page.open(server.http("/api/"))
    page.write("key", KEY)
    page.send()
    load_axe(page.browser)
    for width in (360, 1440):
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 800}
        page.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        assert page.browser.execute_script("return document.documentElement.scrollWidth") <= width
        assert violations(page.browser) == []
    assert console_errors(page.browser) == []


def test_the_page_loads_nothing_from_elsewhere(server: Server) -> None:
    for name in FILES:
        answer = httpx.get(server.http(f"/api/{name}"))
        assert answer.status_code == 200
        assert not re.search(r"""(?:src|href|url|from|import)\W{1,3}(?:https?:)?//""", answer.text)
        assert "default-src 'self'" in answer.headers["content-security-policy"]


def test_the_address_without_its_last_slash_leads_there(server: Server) -> None:
    answer = httpx.get(server.http("/api"), follow_redirects=True)
    assert answer.status_code == 200
    assert "<title>Server API" in answer.text
