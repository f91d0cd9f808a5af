"""Every page of the gallery, as anybody meets it: whatever the width, the theme, and the way to look at it."""

from pathlib import Path

import httpx
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

from freshet.demos.gallery import DEMOS, Demo
from tests.demos.pages import NAMES, PATHS, Page
from tests.tools.accessibility import load_axe, violations
from tests.tools.need import ROOT
from tests.tools.patience import wait_until
from tests.tools.serving import Server, serving

BOTH_THEMES = ["light", "dark"]
WIDTHS = [360, 1440]
SCRIPTS = ROOT / "frontend" / "pages"


@pytest.mark.parametrize("path", PATHS)
def test_a_page_fits_a_phone_and_a_desk_and_is_accessible_in_both_themes(page: Page, path: str) -> None:
    page.open(path)
    if path in ("/", "/ticker/"):
        wait_until(lambda: page.text("p50").endswith("ms"), 10, "a latency")
    if path != "/":
        page.browser.find_element(By.CSS_SELECTOR, "#code summary").click()
        wait_until(lambda: all(code != "Loading…" for code in page.texts("#files code")), 5, "the code")
    load_axe(page.browser)
    page.hold_still()
    for theme in BOTH_THEMES:
        page.use_theme(theme)
        assert page.run("return getComputedStyle(document.documentElement).colorScheme") == theme
        for width in WIDTHS:
            page.use_width(width)
            assert page.run("return document.documentElement.scrollWidth") <= width
            assert violations(page.browser) == []


def test_the_theme_that_was_chosen_stays_on_the_next_page(page: Page) -> None:
    page.open("/").use_theme("dark")
    page.open("/chat/")
    assert page.element("theme").get_attribute("value") == "dark"
    assert page.run("return getComputedStyle(document.documentElement).colorScheme") == "dark"
    page.use_theme("auto")
    assert page.run("return getComputedStyle(document.documentElement).colorScheme") == "light dark"


def test_the_landing_page_leads_to_every_demo_and_shows_moving_numbers(page: Page) -> None:
    page.open("/")
    links = page.run("return [...document.querySelectorAll('.cards a')].map((link) => link.getAttribute('href'))")
    assert links == [f"{name}/" for name in NAMES]
    wait_until(lambda: len(page.texts("tbody .price")) == 9, 10, "prices")
    before = page.texts("tbody .price")
    wait_until(lambda: page.texts("tbody .price") != before, 10, "other prices")
    wait_until(lambda: page.text("p50").endswith("ms"), 10, "a latency")


@pytest.mark.parametrize("demo", DEMOS, ids=lambda demo: demo.name)
def test_show_me_the_code_shows_the_very_files(page: Page, demo: Demo) -> None:
    page.open(f"/{demo.name}/")
    page.browser.find_element(By.CSS_SELECTOR, "#code summary").click()
    scripts = sorted((SCRIPTS / demo.name).glob("*.ts"), key=lambda path: (path.stem != demo.name, path.name))
    files = [Path(demo.file), *scripts]
    expected = [file.read_text() for file in files]
    wait_until(lambda: page.texts("#files code") == expected, 10, "the files")
    assert [name.rpartition("/")[2] for name in page.texts("#files figcaption span")] == [file.name for file in files]


def test_no_other_file_is_shown(gallery: Server) -> None:
    for name in ("gallery", "visitors", "..%2Fapp", "nothing"):
        answer = httpx.get(gallery.http(f"/source/{name}.py"))
        assert answer.status_code == 404
        assert answer.text == "There are ticker, auction, ships, chat, assistant, cursors, lab.\n" or "%2F" in name


def test_a_page_may_load_nothing_from_elsewhere(gallery: Server) -> None:
    for path in [*PATHS, "/assets/shared.js", "/source/chat.py"]:
        headers = httpx.get(gallery.http(path)).headers
        assert headers["content-security-policy"].startswith("default-src 'self';")
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-cache"


def test_who_only_looks_at_the_pages_makes_the_server_warn_of_nothing(browser: webdriver.Chrome) -> None:
    with serving(command="demo") as gallery:
        page = Page(browser, gallery)
        for path in PATHS:
            page.open(path)
            wait_until(lambda: page.run("return document.readyState") == "complete", 10, "the page")
        browser.get("about:blank")
        assert "WARNING" not in gallery.log()
        assert "ERROR" not in gallery.log()
