"""How quickly a page is there, and how still it stands while data flows: what Lighthouse measures."""

from collections.abc import Iterator
from contextlib import closing

import pytest
from selenium import webdriver

from tests.demos.pages import PATHS, Page
from tests.demos.test_lab import figures
from tests.tools.patience import seconds, wait_until
from tests.tools.serving import Server
from tests.tools.vitals import NOTE, layout_shifts, moved_by_longer_figures, note_figures, painted_within

WIDTHS = [360, 1440]
FLOW = {  # what says that data flows on a page: an element, and its figure by then
    "/": ("received", 30),
    "/ticker/": ("total", 300),
    "/auction/": ("total", 4),
    "/ships/": ("total", 60),
    "/cursors/": ("total", 60),
}
BESIDE = [*FLOW, "/lab/"]  # what needs nobody to begin


def begin(page: Page, path: str) -> None:
    """Do what data waits for on that page."""
    if path == "/auction/":
        page.run("document.getElementById('submit').click()")
    elif path.startswith("/chat/"):
        page.cut()
    elif path == "/assistant/":
        page.run("document.querySelector('#begin button').click()")


def wait_for_data(page: Page, path: str) -> None:
    """As it comes on that page."""
    if path in FLOW:
        name, many = FLOW[path]
        # Also where there is no room to show it.
        wait_until(lambda: int(page.texts(f"#{name}")[0].replace(",", "")) >= many, 20, "data")
    elif path.startswith("/chat/"):
        page.wait_for_return()
        wait_until(lambda: page.number("recovered") >= 8, 10, "what a robot wrote")
    elif path == "/lab/":
        wait_until(lambda: min(figures(page, "Messages")) >= 30, 20, "messages")
    else:
        wait_until(lambda: len(page.texts(".answer h3")) > 0, 20, "an answer")


class Windows:
    """Pages in windows of their own, where their data comes while others are looked at.

    They stay until the end: who goes moves a list of people in other windows, as it may.
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        self.first = page.browser.current_window_handle
        self._opened: dict[tuple[str, int], str] = {}

    def open(self, path: str, width: int) -> None:
        """It goes on loading while the next one is opened."""
        self.page.browser.switch_to.new_window("window")
        self._opened[path, width] = self.page.browser.current_window_handle
        note_figures(self.page.browser)
        self.page.use_width(width)
        self.page.run("window.location = arguments[0]", self.page.url(path))

    def show(self, path: str, width: int) -> Page:
        if (path, width) not in self._opened:
            self.open(path, width)
        self.page.browser.switch_to.window(self._opened[path, width])
        wait_until(lambda: self.page.texts("#state") == ["Live"], 15, f"{path} to be live")
        return self.page

    def show_none(self) -> None:
        self.page.browser.switch_to.window(self.first)

    def close(self) -> None:
        for window in self._opened.values():
            self.page.browser.switch_to.window(window)
            self.page.browser.close()
        self.show_none()


@pytest.fixture(scope="module")
def windows(gallery: Server, chromium_process: webdriver.Chrome) -> Iterator[Windows]:
    with closing(Windows(Page(chromium_process, gallery))) as windows:
        for path in BESIDE:
            for width in WIDTHS:
                windows.open(path, width)
        windows.show_none()
        yield windows


@pytest.fixture
def window(page: Page, windows: Windows, path: str, width: int) -> Iterator[Page]:
    """The one with this page at this width."""
    yield windows.show(path, width)
    windows.show_none()


@pytest.mark.parametrize("path", PATHS)
def test_a_page_is_painted_within_200_milliseconds(page: Page, path: str) -> None:
    limit = seconds(0.2) * 1000
    assert painted_within(page.browser, page.url(path), limit) < limit


@pytest.mark.timeout(180)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("path", PATHS)
def test_nothing_jumps_while_a_page_opens_and_data_flows_however_long_a_figure_gets(
    window: Page, path: str, width: int
) -> None:
    begin(window, path)
    wait_for_data(window, path)
    assert layout_shifts(window.browser) == []
    assert moved_by_longer_figures(window.browser) == []


def test_what_jumps_is_noticed(page: Page) -> None:
    page.open("/lab/")
    page.run(
        "document.getElementById('main').prepend(Object.assign(document.createElement('p'), { textContent: 'new' }))"
    )
    assert layout_shifts(page.browser) != []


def test_what_would_jump_for_a_longer_figure_is_noticed(page: Page) -> None:
    page.open("/lab/").run(NOTE)
    page.run(
        "document.querySelector('.controls').prepend(Object.assign(document.createElement('b'), { id: 'short' }));"
        "document.getElementById('short').textContent = '2'"
    )
    assert [line.split(" moves ")[0] for line in moved_by_longer_figures(page.browser)] == ['"888,888" in b#short.']
