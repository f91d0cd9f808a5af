"""The transport lab: three ways to hear one flow, measured, cut and recovered."""

import re

import pytest

from tests.demos.pages import Page
from tests.tools.patience import wait_until

WAYS = ["WebSocket", "Server-sent events", "Long polling"]


@pytest.fixture
def lab(page: Page) -> Page:
    page.open("/lab/")
    wait_until(lambda: min(figures(page, "Messages")) > 10, 15, "messages")
    return page


def texts(lab: Page, figure: str) -> list[str]:
    return lab.texts(f'.way [data-figure="{figure}"]')


def figures(lab: Page, figure: str) -> list[int]:
    """Of each way."""
    return [int(re.sub(r"\D", "", text) or 0) for text in texts(lab, figure)]


def alike(counts: list[int]) -> bool:
    """Of one flow, but for what is on its way."""
    return max(counts) - min(counts) <= 3


def choose(lab: Page, rate: int) -> None:
    lab.run("document.querySelector(`input[name=rate][value='${arguments[0]}']`).click()", rate)


def test_all_three_hear_the_same_flow_and_what_it_costs_is_measured(lab: Page) -> None:
    assert lab.texts(".way h2") == WAYS
    for figure in ("Latency p50", "Latency p95", "Latency p99"):
        wait_until(lambda figure=figure: all(re.fullmatch(r"\d+\.\d ms", it) for it in texts(lab, figure)), 10)
    wait_until(lambda: alike(figures(lab, "Messages")), 10, "the same number of messages")
    choose(lab, 1)  # so slow that also a busy machine has an answer for each message
    wait_until(lambda: 3 <= min(figures(lab, "Messages")) < 10, 20, "a slower flow")
    socket, events, polls = figures(lab, "Bytes per message")
    assert min(socket, events) > 60
    assert max(socket, events) < polls < 600  # the first two are within a few bytes of each other
    assert figures(lab, "Requests")[:2] == [1, 1]
    assert figures(lab, "Requests")[2] >= min(figures(lab, "Messages")) / 2
    assert figures(lab, "Lost or repeated") == [0, 0, 0]
    drawn = """return [...document.querySelectorAll('.way canvas')].filter((canvas) =>
        canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some((value) => value > 0)
    ).length"""
    wait_until(lambda: lab.run(drawn) == 3, 5, "three strips")


def test_the_busier_the_flow_the_more_messages_share_a_poll(lab: Page) -> None:
    choose(lab, 50)
    wait_until(lambda: min(figures(lab, "Messages")) > 200, 20, "a faster flow")
    assert figures(lab, "Requests")[2] <= figures(lab, "Messages")[2] + 1
    choose(lab, 1)
    wait_until(lambda: 2 <= min(figures(lab, "Messages")) < 10, 10, "a slower flow")
    assert figures(lab, "Lost or repeated") == [0, 0, 0]


def test_each_is_cut_by_itself_and_goes_on_where_it_was(lab: Page) -> None:
    for index in range(3):
        lab.browser.find_elements("css selector", ".way button")[index].click()
        wait_until(lambda index=index: lab.texts(".way .state")[index] == "Cut", 5, "the cut")
        assert lab.texts(".way .state").count("Live") == 2
        wait_until(lambda: lab.text("state") == "Live", 15, "it to be back")
    wait_until(lambda: min(figures(lab, "Missed, then recovered")) > 20, 5, "what was missed")
    assert figures(lab, "Reconnects") == [1, 1, 1]
    assert figures(lab, "Lost or repeated") == [0, 0, 0]


def test_all_are_cut_at_once(lab: Page) -> None:
    lab.element("cut").click()
    wait_until(lambda: lab.text("state") == "Cut", 5, "the cut")
    assert not lab.element("cut").is_enabled()
    wait_until(lambda: lab.text("state") == "Live", 15, "all to be back")
    wait_until(lambda: min(figures(lab, "Missed, then recovered")) > 20, 5, "what was missed")
    assert figures(lab, "Lost or repeated") == [0, 0, 0]
