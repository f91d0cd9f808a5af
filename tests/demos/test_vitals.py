"""How quickly a page is there, and how still it stands while data flows: what Lighthouse measures."""

import pytest

from tests.demos.pages import PATHS, Page
from tests.demos.test_lab import figures
from tests.tools.patience import seconds, wait_until
from tests.tools.vitals import layout_shifts, painted_within

WIDTHS = [360, 1440]
FLOW = {  # what says that data flows on a page: an element, and its figure by then
    "/": ("received", 30),
    "/ticker/": ("total", 300),
    "/auction/": ("total", 2),
    "/ships/": ("total", 60),
    "/cursors/": ("total", 60),
}


def flow(page: Page, path: str) -> None:
    """Let data come, as it does on that page."""
    if path in FLOW:
        name, many = FLOW[path]
        # Also where there is no room to show it.
        wait_until(lambda: int(page.texts(f"#{name}")[0].replace(",", "")) >= many, 20, "data")
    elif path.startswith("/chat/"):
        page.cut()
        page.wait_for_return()
        wait_until(lambda: page.number("recovered") >= 8, 10, "what a robot wrote")
    elif path == "/lab/":
        wait_until(lambda: min(figures(page, "Messages")) >= 30, 20, "messages")
    else:
        page.run("document.querySelector('#begin button').click()")
        wait_until(lambda: len(page.texts(".answer h3")) > 0, 20, "an answer")


@pytest.mark.parametrize("path", PATHS)
def test_a_page_is_painted_within_200_milliseconds(page: Page, path: str) -> None:
    limit = seconds(0.2) * 1000
    assert painted_within(page.browser, page.url(path), limit) < limit


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("path", PATHS)
def test_nothing_jumps_while_a_page_opens_and_data_flows(page: Page, path: str, width: int) -> None:
    page.use_width(width)
    page.open(path)
    flow(page, path)
    assert layout_shifts(page.browser) == []


def test_what_jumps_is_noticed(page: Page) -> None:
    page.open("/lab/")
    page.run(
        "document.getElementById('main').prepend(Object.assign(document.createElement('p'), { textContent: 'new' }))"
    )
    assert layout_shifts(page.browser) != []
