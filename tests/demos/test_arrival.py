"""How still a page stands while it arrives, a piece at a time."""

from collections.abc import Iterator
from copy import copy

import pytest
from selenium import webdriver

from tests.demos.pages import PATHS, Page
from tests.demos.test_vitals import WIDTHS
from tests.tools.relay import Relay, relaying
from tests.tools.serving import Server
from tests.tools.vitals import layout_shifts


@pytest.fixture
def slowly(gallery: Server, page: Page) -> Iterator[tuple[Relay, Page]]:
    """A visitor behind a line that can be a slow one."""
    with relaying(gallery.port) as relay:
        behind = copy(gallery)
        behind.port = relay.port
        yield relay, Page(page.browser, behind)
        page.leave()


@pytest.mark.timeout(180)
@pytest.mark.parametrize("path", PATHS)
def test_nothing_jumps_however_slowly_a_page_arrives(
    browser: webdriver.Chrome, slowly: tuple[Relay, Page], path: str
) -> None:
    """Its styles are there at once, from another visit; and what is painted of it before its end might move."""
    relay, page = slowly
    page.open(path)
    relay.trickle(160, 0.01)
    for width in WIDTHS:
        page.use_width(width)
        page.open(f"{path}{'&' if '?' in path else '?'}slowly={width}")
        assert layout_shifts(browser) == []
