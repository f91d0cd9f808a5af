"""Paper boats: two visitors on one pond, which is the same after a restart."""

from pathlib import Path
from typing import Any

import pytest
from centrifuge import CentrifugeError
from selenium import webdriver

from tests.demos.clients import subscribed
from tests.demos.pages import Page
from tests.tools.clients import connected
from tests.tools.patience import wait_until
from tests.tools.ports import free_port
from tests.tools.serving import Server, serving

POINT = """
const stage = document.getElementById('stage');
const { left, top, width, height } = stage.getBoundingClientRect();
const [kind, x, y] = arguments;
const at = { clientX: left + x * width, clientY: top + y * height, pointerType: 'mouse', bubbles: true };
stage.dispatchEvent(new PointerEvent(kind, at));
"""


def boats(page: Page) -> list[str]:
    return page.texts("#board li span")


def place(page: Page) -> tuple[int, int]:
    x, _, y = (page.element("stage").get_attribute("data-at") or "0,0").partition(",")
    return int(x), int(y)


def name(page: Page) -> str:
    return page.element("name").get_attribute("value") or ""


def sail(page: Page, x: float) -> None:
    page.run(POINT, "pointermove", x, 0.5)


@pytest.mark.timeout(120)
def test_each_boat_goes_where_its_visitor_points_and_all_see_all(page: Page, other: Page) -> None:
    page.open("/ships/")
    other.open("/ships/")
    wait_until(lambda: {name(page), name(other)} <= set(boats(page)) & set(boats(other)), 10, "both boats")
    wait_until(lambda: place(page) != (0, 0), 5, "a place")

    def at_the_right() -> bool:
        sail(page, 0.98)
        return place(page)[0] > 1300

    wait_until(at_the_right, 15, "the right side")

    def at_the_left() -> bool:
        sail(page, 0.02)
        return place(page)[0] < 300

    wait_until(at_the_left, 15, "the left side")
    other.leave()
    wait_until(lambda: len(boats(page)) == 3, 5, "the other boat to be gone")


@pytest.mark.timeout(120)
def test_the_arrow_keys_steer_too(page: Page) -> None:
    page.open("/ships/")
    wait_until(lambda: place(page) != (0, 0), 5, "a place")
    before = place(page)
    page.run("document.getElementById('stage').dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowRight' }))")
    wait_until(lambda: place(page) != before, 10, "a move")


@pytest.mark.timeout(120)
def test_no_two_boats_have_one_colour(page: Page) -> None:
    page.open("/")
    page.run("sessionStorage.setItem('freshet.name', 'Calm Trout')")  # that of Robot Pike would be its own
    page.open("/ships/")
    wait_until(lambda: {"Calm Trout", "Robot Pike", "Robot Perch"} <= set(boats(page)), 10, "three boats")
    dots = "return [...document.querySelectorAll('#board i')].map((it) => getComputedStyle(it).backgroundColor)"
    wait_until(lambda: len(colours := page.run(dots)) == len(set(colours)) >= 3, 5, "as many colours")
    page.run("sessionStorage.clear()")


@pytest.mark.timeout(120)
def test_points_are_kept_over_a_restart_of_the_server(browser: webdriver.Chrome, tmp_path: Path) -> None:
    port, env = free_port(), {"XDG_STATE_HOME": str(tmp_path)}
    with serving(command="demo", port=port, env=env) as server:
        page = Page(browser, server).open("/ships/")

        def collected() -> bool:
            for x in (0.05, 0.35, 0.65, 0.95):
                sail(page, x)
            page.run(POINT, "pointermove", page.number("points") % 3 / 2, place(page)[0] % 10 / 10)
            return page.number("points") > 0

        wait_until(collected, 60, "a drop")
        page.leave()
        wait_until(lambda: True)
        page.open("/ships/")
        wait_until(lambda: page.number("points") > 0, 10, "the points of the visitor who came back")
    with serving(command="demo", port=port, env=env):
        page.open("/ships/")
        wait_until(lambda: page.number("points") > 0, 10, "the points of before")
    page.leave()
    browser.get_log("browser")


@pytest.mark.parametrize("do", [{"x": 2, "y": 0}, {"x": 0}, {"x": "0", "y": 0}, [], None])
async def test_what_cannot_be_rowed_is_refused(gallery: Server, do: Any) -> None:
    data = {"name": "Nobody", "key": "k" * 16}
    async with connected(gallery, path="/live/ships/connection/websocket", token="", data=data) as client:
        pond = await subscribed(client, "pond:home")
        with pytest.raises(CentrifugeError) as refusal:
            await pond.publish({"do": do})
        assert refusal.value.code == 107
