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
CHOOSE = "[...document.querySelectorAll('#rooms button')].find((it) => it.textContent === arguments[0]).click()"
ROOMS = {360: "lobby", 1440: "tea"}  # of the chat: who is cut is gone for the others in the room, and moves their list
LATER = "/chat/?client=socketio"  # when the other one in its room has been looked at


def begin(page: Page, path: str, width: int) -> None:
    """Do what data waits for on that page."""
    if path == "/auction/":
        page.run("document.getElementById('submit').click()")
    elif path.startswith("/chat/"):
        page.run(CHOOSE, ROOMS[width])
        wait_until(lambda: page.texts("#room") == [ROOMS[width]] and page.number("count") > 0, 10, "the room")
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
    """Every page at every width, each in a window of its own, where its data comes while others are looked at.

    They stay until the end: where people are listed, one that goes moves others, as it may.
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        self.first = page.browser.current_window_handle
        self._opened: dict[tuple[str, int], str] = {}

    def show(self, path: str, width: int) -> None:
        if (path, width) in self._opened:
            self.page.browser.switch_to.window(self._opened[path, width])
            return
        self.page.browser.switch_to.new_window("window")
        self._opened[path, width] = self.page.browser.current_window_handle
        note_figures(self.page.browser)
        self.page.use_width(width)
        begin(self.page.open(path), path, width)

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
        for path in PATHS:
            for width in WIDTHS:
                if path != LATER:
                    windows.show(path, width)
        windows.show_none()
        yield windows


@pytest.fixture
def window(page: Page, windows: Windows, path: str, width: int) -> Iterator[Page]:
    """The one with this page at this width."""
    windows.show(path, width)
    yield page
    windows.show_none()


@pytest.mark.parametrize("path", PATHS)
def test_a_page_is_painted_within_200_milliseconds(page: Page, path: str) -> None:
    limit = seconds(0.2) * 1000
    assert painted_within(page.browser, page.url(path), limit) < limit


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("path", PATHS)
def test_nothing_jumps_while_a_page_opens_and_data_flows_however_long_a_figure_gets(
    window: Page, path: str, width: int
) -> None:
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
