"""How quickly a page is there, and how still it stands while data flows: what Lighthouse measures."""

from collections.abc import Iterator

import pytest

from tests.demos.pages import PATHS, Page
from tests.demos.test_lab import figures
from tests.tools.patience import seconds, wait_until
from tests.tools.vitals import NOTE, layout_shifts, moved_by_longer_figures, note_figures, painted_within

WIDTHS = [360, 1440]
FLOW = {  # what says that data flows on a page: an element, and its figure by then
    "/": ("received", 30),
    "/ticker/": ("total", 300),
    "/auction/": ("total", 4),
    "/ships/": ("total", 60),
    "/cursors/": ("total", 60),
}


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


@pytest.fixture
def window(page: Page, path: str, width: int) -> Iterator[Page]:
    """That page at that width, in a window that notes its figures from the first on.

    It is the only one that draws: a page on which data flows takes a third of a core.
    """
    browser = page.browser
    first = browser.current_window_handle
    browser.switch_to.new_window("window")
    note_figures(browser)
    page.use_width(width)
    yield page.open(path)
    browser.close()
    browser.switch_to.window(first)


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
