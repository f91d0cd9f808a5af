"""The views of the admin page in a real browser: a channel's tail, the lists, the search, and gaps in the charts."""

import time
from collections.abc import Callable, Iterator

import httpx
import pytest
from selenium import webdriver
from selenium.webdriver.common.keys import Keys

from tests.ops.admin.desk import KEY, Desk
from tests.tools.browser import console_errors
from tests.tools.patience import wait_until
from tests.tools.serving import Server

UNSEEN = 8  # seconds without anybody who looks; frontend/admin/series.ts takes 5 for a gap


@pytest.fixture
def publish(busy: Server) -> Callable[[str, object], None]:
    def publish(channel: str, data: object) -> None:
        request = {"channel": channel, "data": data}
        assert "result" in httpx.post(busy.http("/api/publish"), json=request, headers={"X-API-Key": KEY}).json()

    return publish


@pytest.fixture
def alone(serve: Callable[..., Server], browser: webdriver.Chrome) -> Iterator[Desk]:
    """The page of a server at which nobody else looks."""
    yield Desk(browser, serve("--dev"))
    assert console_errors(browser) == []


def lines(desk: Desk) -> list[str]:
    """What is shown of a tail, the newest first."""
    script = """return [...document.querySelectorAll(".tail li")].filter((it) => !it.hidden).map((it) =>
        it.querySelector("code").textContent)"""
    found: list[str] = desk.browser.execute_script(script)
    return found


def drawn(desk: Desk) -> list[tuple[float, float]]:
    """From where to where the line of the first chart goes, as shares of its width."""
    script = """const canvas = document.querySelector(".plot canvas");
        if (!canvas) return [];
        const probe = document.createElement("i");
        probe.style.color = "var(--accent)";
        document.body.append(probe);
        const [r, g, b] = getComputedStyle(probe).color.match(/\\d+/g).map(Number);
        probe.remove();
        const { data, width, height } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        const near = (at) => Math.abs(data[at] - r) + Math.abs(data[at + 1] - g) + Math.abs(data[at + 2] - b) < 60;
        const parts = [];
        for (let x = 0; x < width; x++) {
            let found = false;
            for (let y = 0; y < height && !found; y++) found = near(4 * (y * width + x));
            if (!found) continue;
            if (parts.at(-1)?.[1] === x - 1) parts.at(-1)[1] = x;
            else parts.push([x, x]);
        }
        return parts.map(([from, to]) => [from / width, to / width])"""
    found: list[list[float]] = desk.browser.execute_script(script)
    return [(begin, end) for begin, end in found if end > begin]


def test_the_charts_have_a_gap_where_nobody_looked(alone: Desk) -> None:
    browser, first = alone.browser, alone.browser.current_window_handle
    browser.switch_to.new_window("window")
    alone.open(key="")
    wait_until(lambda: len(drawn(alone)) == 1, 15, "a line")
    browser.close()  # of a page that was only left, the browser may keep the connection
    browser.switch_to.window(first)
    time.sleep(UNSEEN)  # there is nothing to wait for but that nobody looks
    alone.open(key="")
    wait_until(lambda: len(drawn(alone)) == 2, 15, "a line from before, and one of now")
    (_, left), (back, _) = drawn(alone)
    assert back - left > 0.05  # five seconds of the minute that is shown are a twelfth


def test_a_tail_begins_with_the_log_and_can_be_sifted_and_held(
    desk: Desk, publish: Callable[[str, object], None]
) -> None:
    for number in (1, 2):
        publish("room:21", {"n": number})
    desk.open("#/channel/room%3A21")
    wait_until(lambda: lines(desk) == ['{"n":2}', '{"n":1}'], 10, "the log")
    desk.shows("0 so far", ".tail")
    publish("room:21", {"n": 3})
    wait_until(lambda: lines(desk)[:2] == ['{"n":3}', '{"n":2}'], 10, "what is published")
    desk.find(".tail input")[0].send_keys('"n":2')
    assert lines(desk) == ['{"n":2}']
    publish("room:21", {"n": 4})
    desk.shows("2 so far", ".tail")
    assert lines(desk) == ['{"n":2}']
    desk.find(".tail input")[0].send_keys(Keys.CONTROL, "a", Keys.BACKSPACE)
    wait_until(lambda: len(lines(desk)) == 4, 5, "all of them")
    desk.click("Pause")
    publish("room:21", {"n": 5})
    desk.shows("Paused. Listening to publications in room:21: 3 so far", ".tail")
    assert lines(desk)[0] == '{"n":4}'
    desk.click("Go on")
    publish("room:21", {"n": 6})
    wait_until(lambda: lines(desk)[0] == '{"n":6}', 10, "what follows")


def test_a_search_finds_clients_and_channels_and_says_where_there_are_none(desk: Desk) -> None:
    desk.open("#/search/user-012")
    wait_until(lambda: len(desk.find("tbody tr")) == 10, 10, "ten clients")
    desk.shows("No channel with a subscriber has that in its name.")
    desk.open("#/search/room%3A3")
    wait_until(lambda: len(desk.find("tbody tr")) == 11, 10, "room:3 and room:30 to room:39")
    desk.shows("No client that is connected has that in its user or id.")
    desk.open("#/search/nobody%20has%20this")
    desk.shows("No client that is connected has that in its user or id.")
    desk.shows("No channel with a subscriber has that in its name.")


def test_the_list_of_clients_says_that_it_is_not_all_of_them(desk: Desk) -> None:
    desk.open("#/clients")
    desk.shows(
        "200 of the clients that are connected, at most 100 of each node. Search finds the others, by user or id."
    )
    assert len(desk.find("tbody tr")) == 200


def test_the_list_of_channels_has_them_by_their_subscribers(desk: Desk) -> None:
    desk.open("#/channels")
    desk.shows("41 channels have a subscriber")
    assert desk.find("tbody tr")[0].text.split()[0] == "everybody"
