"""A real browser: headless Chromium, driven by the ChromeDriver of the same Debian version."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

from tests.tools.need import require
from tests.tools.patience import seconds
from tests.tools.ports import free_port

# Chromium's own traffic is off: a test's browser talks to the test's server and to nobody else.
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,900",
]


@contextmanager
def chromium(profile: Path, *more: str) -> Iterator[webdriver.Chrome]:
    """Start Chromium with `profile`, an empty folder, as its user data. more: flags."""
    options = Options()
    options.binary_location = require("chromium")
    for flag in [*FLAGS, *more, f"--user-data-dir={profile}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, Service(require("chromedriver"), port=free_port()))
    driver.set_page_load_timeout(seconds(20))
    driver.set_script_timeout(seconds(20))
    try:
        yield driver
    finally:
        driver.quit()


def console(browser: webdriver.Chrome, level: str | None = None) -> list[str]:
    """What pages wrote to the console since the last call, oldest first.

    level: only that one, such as "SEVERE": errors, uncaught exceptions and requests that failed.
    """
    return [entry["message"] for entry in browser.get_log("browser") if level in (None, entry["level"])]


def console_errors(browser: webdriver.Chrome) -> list[str]:
    return console(browser, "SEVERE")
