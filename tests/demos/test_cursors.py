"""Shared cursors: where one visitor points, all the others see it."""

import pytest
from centrifuge import CentrifugeError
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.demos.clients import refusal_of, subscribed, visiting
from tests.demos.pages import Page
from tests.tools.patience import wait_until
from tests.tools.serving import Server

POINT = """
const stage = document.getElementById('stage');
const { left, top, width, height } = stage.getBoundingClientRect();
const [kind, x, y] = arguments;
stage.dispatchEvent(new PointerEvent(kind, { clientX: left + x * width, clientY: top + y * height }));
"""
WHERE = """
const cursors = [...document.querySelectorAll('.cursor:not(.mine)')].filter((cursor) => !cursor.hidden);
return cursors.map(({ style }) => [Math.round(parseFloat(style.left)), Math.round(parseFloat(style.top))]);
"""


def point(page: Page, x: float, y: float, kind: str = "pointermove") -> None:
    """Move the pointer to these shares of the stage."""
    page.run(POINT, kind, x, y)


def others(page: Page) -> list[list[int]]:
    """Where the others' cursors are, in per cent of the stage."""
    return page.run(WHERE)


def test_two_visitors_see_each_other_move_and_leave(page: Page, other: Page) -> None:
    page.open("/cursors/")
    assert page.element("alone").is_displayed()
    other.open("/cursors/")
    wait_until(lambda: not page.element("alone").is_displayed(), 5, "company")
    point(other, 0.25, 0.75)
    wait_until(lambda: others(page) == [[25, 75]], 5, "the other pointer")
    point(other, 0.5, 0.1)
    wait_until(lambda: others(page) == [[50, 10]], 5, "its move")
    point(page, 0.9, 0.9)
    wait_until(lambda: others(other) == [[90, 90]], 5, "the first pointer, on the other page")
    point(other, 0.5, 0.1, "pointerleave")
    wait_until(lambda: others(page) == [], 5, "the pointer to leave the stage")
    other.leave()
    wait_until(lambda: page.element("alone").is_displayed(), 5, "the other to be gone")
    assert len(page.browser.find_elements(By.CSS_SELECTOR, "#people li")) == 1


def test_a_cursor_glides_from_place_to_place(page: Page, other: Page) -> None:
    page.open("/cursors/")
    other.open("/cursors/")
    wait_until(lambda: not page.element("alone").is_displayed(), 5, "company")
    page.run("""
        window.places = new Set();
        const note = () => {
            const cursor = document.querySelector('.cursor:not(.mine)');
            if (cursor && !cursor.hidden) places.add(cursor.style.left);
            requestAnimationFrame(note);
        };
        note();
    """)
    point(other, 0.1, 0.5)
    wait_until(lambda: others(page) == [[10, 50]], 5, "the first place")
    point(other, 0.9, 0.5)
    wait_until(lambda: others(page) == [[90, 50]], 5, "the second place")
    assert page.run("return [...places].some((left) => parseFloat(left) > 11 && parseFloat(left) < 89)")


def test_the_arrow_keys_and_a_finger_move_it_too(page: Page, other: Page) -> None:
    page.open("/cursors/")
    other.open("/cursors/")
    other.element("stage").send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_UP)
    wait_until(lambda: others(page) == [[54, 48]], 5, "three steps")
    point(other, 0.2, 0.3, "pointerdown")
    wait_until(lambda: others(page) == [[20, 30]], 5, "where the finger is")
    assert other.run("return getComputedStyle(document.getElementById('stage')).touchAction") == "none"


def test_after_a_cut_everyone_is_there_again_and_nothing_old_is_replayed(page: Page, other: Page) -> None:
    page.open("/cursors/")
    other.open("/cursors/")
    wait_until(lambda: not page.element("alone").is_displayed(), 5, "company")
    page.cut()
    wait_until(lambda: other.element("alone").is_displayed(), 5, "the one who is cut off to be gone")
    assert "only the latest counts" in page.wait_for_return()
    wait_until(lambda: not other.element("alone").is_displayed(), 5, "both to be there again")
    point(other, 0.4, 0.4)
    wait_until(lambda: others(page) == [[40, 40]], 5, "the other pointer")


@pytest.mark.parametrize("place", [{"x": 1.1, "y": 0}, {"x": -0.1, "y": 0}, {"x": "0", "y": 0}, {"x": 0.5}, [], None])
async def test_a_place_that_is_not_on_the_stage_is_refused(gallery: Server, place: object) -> None:
    async with visiting(gallery, "cursors") as client:
        stage = await subscribed(client, "stage")
        with pytest.raises(CentrifugeError) as refusal:
            await stage.publish(place)
        assert refusal.value.code == 107


async def test_nobody_floods_the_stage(gallery: Server) -> None:
    async with visiting(gallery, "cursors") as client:
        stage = await subscribed(client, "stage")
        assert await refusal_of(lambda: stage.publish({"x": 0.5, "y": 0.5}), 500) == 111
