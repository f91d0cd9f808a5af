"""Every page of the gallery, as anybody meets it: whatever the width, the theme, and the way to look at it."""

import re
from pathlib import Path

import httpx
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from freshet.demos.gallery import DEMOS, Demo
from tests.demos.pages import PATHS, Page
from tests.tools.accessibility import load_axe, violations
from tests.tools.need import ROOT
from tests.tools.patience import wait_until
from tests.tools.serving import Server, serving

BOTH_THEMES = ["light", "dark"]
WIDTHS = [360, 768, 1440]
SCRIPTS = ROOT / "frontend" / "pages"
ROWS = """
const middle = (it) => it.getBoundingClientRect().top + it.getBoundingClientRect().bottom;
return new Set([...document.querySelectorAll('.top > *, .top nav a')].map((it) => Math.round(middle(it) / 60))).size
"""
SMALL = """
const fields = document.querySelectorAll('input:not([type=range], [type=checkbox], [type=radio]), textarea, select');
return [...fields].filter((it) => parseFloat(getComputedStyle(it).fontSize) < 16).map((it) => it.id)
"""
CUT_OFF = """
const wanted = [...document.querySelectorAll('#install, .call, .verdict, td.name, .tabs, #shown pre')];
return wanted.filter((it) => it.scrollWidth > it.clientWidth + 1).map((it) => it.textContent)
"""


@pytest.mark.parametrize("path", PATHS)
def test_a_page_fits_a_phone_and_a_desk_and_is_accessible_in_both_themes(page: Page, path: str) -> None:
    page.open(path)
    if path in ("/", "/ticker/"):
        wait_until(lambda: page.text("p50").endswith("ms"), 10, "a latency")
    if path == "/":
        page.run("document.getElementById('show').click()")  # looked at while none of the three is cut
        wait_until(lambda: page.texts(".pane .state") == ["Live"] * 3, 10, "all three")
    load_axe(page.browser)
    page.hold_still()
    for theme in BOTH_THEMES:
        page.use_theme(theme)
        assert page.run("return getComputedStyle(document.documentElement).colorScheme") == theme
        for width in WIDTHS:
            page.use_width(width)
            assert page.run("return document.documentElement.scrollWidth") <= width
            assert page.run(ROWS) == (2 if width < 760 else 1), "the navigation does not wrap"
            assert violations(page.browser) == []
            assert width > 760 or page.run(SMALL) == [], "a phone zooms in when one touches a smaller field"


@pytest.mark.parametrize("path", PATHS)
def test_code_commands_and_names_are_whole_at_every_width(page: Page, path: str) -> None:
    page.open(path)
    for width in [*WIDTHS, 1000]:
        page.use_width(width)
        assert page.run("return document.querySelectorAll('#install, #shown pre').length") == 1
        assert page.run(CUT_OFF) == [], f"at {width} pixels"


def test_the_theme_that_was_chosen_stays_on_the_next_page(page: Page) -> None:
    page.open("/").use_theme("dark")
    page.open("/chat/")
    assert page.element("theme").get_attribute("value") == "dark"
    assert page.run("return getComputedStyle(document.documentElement).colorScheme") == "dark"
    page.use_theme("auto")
    assert page.run("return getComputedStyle(document.documentElement).colorScheme") == "light dark"


@pytest.mark.parametrize("demo", DEMOS, ids=lambda demo: demo.name)
def test_a_page_says_in_twenty_lines_how_it_is_made(page: Page, demo: Demo) -> None:
    page.open(f"/{demo.name}/")
    excerpt = page.texts("#shown code")[0].split("\n")
    assert 5 <= len(excerpt) <= 20
    written = Path(demo.file).read_text().split("\n")
    assert [line for line in excerpt if line not in written] == []
    code = page.browser.find_element(By.ID, "shown")
    page.use_width(1440)
    assert code.rect["x"] > 900, "beside the demo"
    assert code.rect["y"] + code.rect["height"] < 900, "on the first screen"


@pytest.mark.parametrize("demo", DEMOS, ids=lambda demo: demo.name)
def test_behind_its_tabs_are_the_very_files(page: Page, demo: Demo) -> None:
    page.open(f"/{demo.name}/")
    scripts = sorted((SCRIPTS / demo.name).glob("*.ts"), key=lambda path: (path.stem != demo.name, path.name))
    files = [Path(demo.file), *scripts]
    tabs = page.browser.find_elements(By.CSS_SELECTOR, "#code [role=tab]")
    assert [tab.text for tab in tabs] == ["In short", *(file.name for file in files)]
    tabs[0].send_keys(Keys.ARROW_RIGHT)
    for tab, file in zip(tabs[1:], files, strict=True):
        if file is not files[0]:
            tab.click()
        assert tab.get_attribute("aria-selected") == "true"
        wait_until(lambda file=file: page.texts("#shown code") == [file.read_text()], 10, file.name)


def test_the_source_is_there_to_read(gallery: Server) -> None:
    source = httpx.get(gallery.http("/source/"))
    names = re.findall(r'<a href="([^"]+[.]py)">', source.text)
    assert names == sorted(names, key=lambda name: name.rpartition("/")[::2])
    assert len(names) > 200
    for name in ("demos/home.py", "hub/hub.py"):
        assert name in names
        assert httpx.get(gallery.http(f"/source/{name}")).text == (ROOT / "src/freshet" / name).read_text()
    for path in ("/nothing", "/source/nothing.py"):
        nothing = httpx.get(gallery.http(path))
        assert (nothing.status_code, "no such page" in nothing.text) == (404, True)


def test_no_other_file_is_shown(gallery: Server) -> None:
    for name in ("..%2F..%2Fpyproject.toml", "..%2F..%2F.env", "static/index.html", "/etc/passwd", "nothing.py"):
        for place in ("source", "docs"):
            assert httpx.get(gallery.http(f"/{place}/{name}")).status_code == 404


def test_a_page_may_load_nothing_from_elsewhere(gallery: Server) -> None:
    for path in [*PATHS, "/assets/shared.js", "/source/demos/chat.py"]:
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
