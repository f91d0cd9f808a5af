"""One gallery and two browsers for all tests of this folder."""

from collections.abc import Iterator

import pytest
from selenium import webdriver

from tests.demos.pages import Page
from tests.tools.browser import chromium, console, console_errors
from tests.tools.serving import Server, serving


@pytest.fixture(scope="session")
def gallery() -> Iterator[Server]:
    with serving(command="demo") as server:
        yield server


@pytest.fixture(scope="session")
def second_chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    with chromium(tmp_path_factory.mktemp("second")) as driver:
        yield driver


@pytest.fixture
def page(gallery: Server, browser: webdriver.Chrome) -> Iterator[Page]:
    """A visitor. The test fails if a page wrote an error to the console."""
    yield Page(browser, gallery)
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert console_errors(browser) == []


@pytest.fixture
def other(gallery: Server, second_chromium: webdriver.Chrome) -> Iterator[Page]:
    """Another visitor, in a browser of their own."""
    second_chromium.get("about:blank")
    console(second_chromium)
    yield Page(second_chromium, gallery)
    assert console_errors(second_chromium) == []
    second_chromium.get("about:blank")
