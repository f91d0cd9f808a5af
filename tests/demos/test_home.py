"""The home page: three clients of one channel, each of which is cut and comes back to all that it missed."""

import pytest

from tests.demos.pages import NAMES, Page
from tests.tools.patience import wait_until

CLIENTS = ["centrifuge", "socketio", "curl"]


@pytest.fixture
def home(page: Page) -> Page:
    """While none is cut but by the test."""
    page.hold_still()
    page.open("/")
    assert page.text("show") == "Cut one after the other", "who wants less motion starts it by hand"
    wait_until(lambda: page.texts(".pane .state") == ["Live"] * 3, 10, "three clients")
    wait_until(lambda: page.number("received") >= 12, 10, "messages")
    return page


def places(home: Page, client: str, kind: str) -> list[str]:
    return home.texts(f"#pane-{client} .place.{kind}")


@pytest.mark.parametrize("client", CLIENTS)
def test_one_is_cut_and_comes_back_to_all_that_it_missed_while_the_others_went_on(home: Page, client: str) -> None:
    home.run("document.querySelector(`#pane-${arguments[0]} button`).click()", client)
    wait_until(lambda: len(places(home, client, "missed")) >= 5, 10, "what it misses")
    assert sorted(home.texts(".pane .state")) == ["Cut", "Live", "Live"]
    missed = places(home, client, "missed")
    for other in {*CLIENTS} - {client}:
        assert {*missed} <= {*places(home, other, "received")}
    wait_until(lambda: home.texts(".pane .state") == ["Live"] * 3, 15, "it to be back")
    wait_until(lambda: {*missed} <= {*places(home, client, "recovered")}, 5, "what it missed")
    wait_until(lambda: home.number("missed") == home.number("recovered") > 4, 5, "all of it")
    assert places(home, client, "missed") == []
    assert home.texts(f"#pane-{client} .verdict") == ["Back: nothing is missing"]
    assert home.number("wrong") == 0


def test_one_after_the_other_is_cut_until_a_visitor_stops_it(page: Page) -> None:
    page.open("/")
    wait_until(lambda: "Cut" in page.texts(".pane .state"), 10, "the first cut")
    page.element("show").click()
    wait_until(lambda: page.texts(".pane .state") == ["Live"] * 3, 15, "all three")
    assert page.text("show") == "Cut one after the other"
    page.element("show").click()
    wait_until(lambda: "Cut" in page.texts(".pane .state"), 2, "another one")


def test_each_shows_what_it_prints_in_its_own_protocol(home: Page) -> None:
    centrifuge, socketio, curl = (lines.split("\n")[-1] for lines in home.texts(".pane pre"))
    assert centrifuge.startswith("publication  offset ")
    assert socketio.startswith('message  {"n":')
    assert curl.startswith("id: ")


def test_it_leads_to_every_demo_the_documentation_and_the_source(home: Page) -> None:
    links = home.run("return [...document.querySelectorAll('.cards a')].map((link) => link.getAttribute('href'))")
    assert links == [*(f"{name}/" for name in NAMES), "/docs/"]
    hrefs = home.run("return [...document.querySelectorAll('.ways a')].map((link) => link.getAttribute('href'))")
    assert hrefs == ["/docs/", "/source/", "#demos"]
    wait_until(lambda: home.text("p50").endswith("ms"), 10, "a latency")
