"""Shared cursors: where one visitor points, all the others see it."""

import pytest
from centrifuge import CentrifugeError, PublicationContext
from selenium.webdriver.common.keys import Keys

from tests.demos.clients import refusal_of, subscribed, visiting
from tests.demos.pages import Page
from tests.tools.patience import eventually, wait_until
from tests.tools.serving import Server

POINT = """
const stage = document.getElementById('stage');
const { left, top, width, height } = stage.getBoundingClientRect();
const [kind, x, y] = arguments;
stage.dispatchEvent(new PointerEvent(kind, { clientX: left + x * width, clientY: top + y * height }));
"""
ROBOTS = ["Robot Perch", "Robot Pike", "Robot Roach"]
WHERE = """
const cursors = [...document.querySelectorAll('.cursor.' + arguments[0])].filter((cursor) => !cursor.hidden);
return cursors.map(({ style }) => ["--x", "--y"].map((name) => Math.round(style.getPropertyValue(name))));
"""


def point(page: Page, x: float, y: float, kind: str = "pointermove") -> None:
    """Move the pointer to these shares of the stage."""
    page.run(POINT, kind, x, y)


def others(page: Page) -> list[list[int]]:
    """Where the others' cursors are, in per cent of the stage."""
    return page.run(WHERE, "other")


def robots(page: Page) -> list[list[int]]:
    return page.run(WHERE, "robot")


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
    assert sorted(page.texts("#people li")) == [*ROBOTS, "you"]


def test_robots_are_there_for_who_is_alone_and_one_of_them_follows(page: Page) -> None:
    page.open("/cursors/")
    before = wait_until(lambda: len(where := robots(page)) == 3 and where, 5, "three robots")
    wait_until(lambda: all(now != then for now, then in zip(robots(page), before, strict=True)), 5, "them to move")

    def follows() -> bool:
        point(page, 0.9, 0.1)
        return any(abs(x - 96) < 4 and abs(y - 18) < 4 for x, y in robots(page))

    wait_until(follows, 10, "one of them to follow")


async def test_no_visitor_can_say_that_it_is_a_robot(gallery: Server) -> None:
    async with visiting(gallery, "cursors") as client, visiting(gallery, "cursors") as forger:
        seen: list[object] = []
        stage = client.new_subscription("stage")

        async def published(context: PublicationContext) -> None:
            if context.pub.info is not None:
                seen.append(context.pub.data)

        stage.events.on_publication = published
        await stage.subscribe()
        await (await subscribed(forger, "stage")).publish({"x": 0.5, "y": 0.5, "robot": "Robot Perch"})
        await eventually(lambda: seen, 5, "the forged position")
        assert "robot" not in seen[0]


def test_a_cursor_glides_from_place_to_place(page: Page, other: Page) -> None:
    page.open("/cursors/")
    other.open("/cursors/")
    wait_until(lambda: not page.element("alone").is_displayed(), 5, "company")
    page.run("""
        window.places = new Set();
        const note = () => {
            const cursor = document.querySelector('.cursor.other');
            if (cursor && !cursor.hidden) places.add(cursor.style.getPropertyValue('--x'));
            requestAnimationFrame(note);
        };
        note();
    """)

    def glides() -> bool:  # a page on a busy machine may draw it at its two ends alone, now and then
        for x, place in ((0.1, 10), (0.9, 90)):
            point(other, x, 0.5)
            wait_until(lambda place=place: others(page) == [[place, 50]], 5, f"the place {place}")
        return page.run("return [...places].some((left) => parseFloat(left) > 11 && parseFloat(left) < 89)")

    wait_until(glides, 20, "a place between the two")


@pytest.mark.parametrize("width", [360, 1440])
def test_a_name_stays_on_the_stage_however_narrow_it_is(page: Page, other: Page, width: int) -> None:
    page.use_width(width)
    page.open("/cursors/")
    other.open("/cursors/")
    wait_until(lambda: not page.element("alone").is_displayed(), 5, "company")
    beyond = """const stage = document.getElementById('stage').getBoundingClientRect();
        const name = document.querySelector('.cursor.other .label').getBoundingClientRect();
        return [stage.left - name.left, name.right - stage.right].filter((over) => over > 0)"""
    for place in (10, 40, 65, 85, 95):
        point(other, place / 100, 0.5)
        wait_until(lambda place=place: others(page) == [[place, 50]], 10, f"the place {place}")
        wait_until(lambda: page.run(beyond) == [], 5, f"the whole name at {place} %")  # with the next frame


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
