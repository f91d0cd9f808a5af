"""The admin page as an operator uses it, in a real browser, with 1,000 clients behind it."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from selenium import webdriver
from selenium.webdriver.common.keys import Keys

from tests.ops.admin.conftest import HOSTILE, KEY
from tests.ops.admin.crowd import SECRET
from tests.ops.admin.desk import Desk
from tests.tools.accessibility import load_axe, violations
from tests.tools.browser import console_errors
from tests.tools.need import ROOT, require, require_npm_packages
from tests.tools.patience import seconds, wait_until
from tests.tools.serving import Server

FILES = ROOT / "src" / "freshet" / "ops" / "admin" / "pages"
VIEWS = ["#/", "#/channels", "#/channel/room%3A3", "#/clients", "#/user/alice", "#/search/user-01", "#/log"]


def test_the_overview_shows_all_clients_of_all_nodes(desk: Desk) -> None:
    desk.open()
    wait_until(lambda: desk.figure("Connections") >= 999, 20, "the connections")
    desk.shows("in 4", ".tiles")
    desk.shows("everybody")
    assert desk.text().count("ready") == 2
    wait_until(lambda: len(desk.find(".plot canvas")) == 3, 10, "the charts")


def test_the_key_is_asked_for_and_is_in_no_url(desk: Desk, busy: Server) -> None:
    desk.open(key="")
    wait_until(lambda: desk.find("#key"), 10, "the form")
    desk.find("#key")[0].send_keys("a guess", Keys.ENTER)
    desk.shows("This is not the key.")
    desk.find("#key")[0].send_keys(KEY, Keys.ENTER)
    wait_until(lambda: desk.text("#state") == "Live", 10, "the page to be live")
    script = "return performance.getEntriesByType('resource').map(({ name }) => name).concat(location.href).join()"
    assert "key of operators" not in desk.browser.execute_script(script).replace("%20", " ")
    assert KEY not in busy.log()
    desk.browser.refresh()  # of this tab, it is kept
    wait_until(lambda: desk.text("#state") == "Live", 10, "the page to be live")
    desk.click("Lock")
    wait_until(lambda: desk.find("#key"), 10, "the form")


def test_a_user_is_found_from_the_keyboard_and_a_client_disconnected(desk: Desk) -> None:
    desk.open()
    webdriver.ActionChains(desk.browser).send_keys("/").send_keys("mallory").send_keys(Keys.ENTER).perform()
    desk.shows("websocket")
    desk.click("mallory")
    desk.shows("1 client")
    client = desk.find("td a.mono")[0]
    client.click()
    desk.shows("room:10")
    desk.click("Disconnect")
    desk.click("Really disconnect? It will not come back by itself")
    desk.shows("This client is not connected any more.")


def test_a_channel_is_tailed_and_a_test_message_comes(desk: Desk) -> None:
    desk.open("#/channel/room%3A5")
    desk.shows("25 clients of 25 users")
    desk.shows("Listening to publications in room:5")
    desk.find("textarea")[0].clear()
    desk.find("textarea")[0].send_keys('{"a": "test"}')
    desk.click("Publish")
    desk.shows('{"a":"test"}', ".tail")
    desk.shows("Published, offset")
    desk.find("textarea")[0].send_keys("}")
    desk.click("Publish")
    desk.shows("This is not JSON.")


def test_names_that_want_to_be_html_are_shown_as_text(desk: Desk, busy: Server) -> None:
    desk.open("#/search/img%20src")
    desk.shows(HOSTILE)
    desk.click(HOSTILE)
    desk.shows("1 client")
    httpx.post(busy.http("/api/publish"), json={"channel": "everybody", "data": HOSTILE}, headers={"X-API-Key": KEY})
    desk.shows("onerror", ".tail")
    for view in ("#/channel/everybody", "#/channel/%3Cimg%20src=x%3E", "#/client/%E0%A4%A"):
        desk.open(view)
        desk.shows("onerror" if "everybody" in view else "img src=x" if "img" in view else "%E0%A4%A")
    assert not desk.find("main img")
    assert "owned" not in desk.browser.title


def test_the_page_says_when_the_server_is_away_and_goes_on_when_it_is_back(
    serve: Callable[..., Server], browser: webdriver.Chrome
) -> None:
    first = serve("--dev")
    desk = Desk(browser, first).open(key="")
    wait_until(lambda: desk.text("#state") == "Live", 10, "the page")
    first.stop()
    desk.shows("Connection lost", "#state")
    serve("--dev", port=first.port)
    wait_until(lambda: desk.text("#state") == "Live", 15, "its return")
    wait_until(lambda: desk.figure("Connections") == 0 and desk.find("td .badge"), 10, "the new node")
    console_errors(browser)  # of the attempts in between


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_view_is_accessible_and_as_wide_as_a_phone(desk: Desk, theme: str) -> None:
    desk.open()
    desk.browser.execute_script("document.documentElement.dataset.theme = arguments[0]", theme)
    for width in (360, 1440):
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        desk.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        for view in VIEWS:
            desk.browser.execute_script("location.hash = arguments[0]", view)
            wait_until(lambda: desk.find("main h1"), 10, view)
            load_axe(desk.browser)
            assert violations(desk.browser) == [], view
            assert desk.browser.execute_script("return document.documentElement.scrollWidth") <= width, view


@pytest.mark.parametrize("width", [360, 768, 1024, 1440])
def test_nothing_covers_what_the_header_leads_to(desk: Desk, width: int) -> None:
    desk.open()
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    desk.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    covered = """return [...document.querySelectorAll("header a, header input, header select, header button")]
        .filter((it) => it.checkVisibility()).filter((it) => {
            const { left, top, width, height } = it.getBoundingClientRect();
            const ends = [left + 2, left + width / 2, left + width - 2];
            return ends.some((x) => !it.contains(document.elementFromPoint(x, top + height / 2)));
        }).map((it) => it.innerText || it.id)"""
    assert desk.browser.execute_script(covered) == []


# --------------------------------------------------------------------------------------------------------- its files


@pytest.mark.parametrize("path", ["/admin/", "/admin/admin.js", "/"])
def test_what_is_served_loads_nothing_from_elsewhere_and_is_in_no_frame(
    serve: Callable[..., Server], path: str
) -> None:
    answer = httpx.get(serve("--dev").http(path))
    assert answer.status_code == 200
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["Referrer-Policy"] == "no-referrer"


def test_the_committed_build_is_what_the_source_gives(tmp_path: Path) -> None:
    npm, frontend = require("npm"), require_npm_packages(ROOT / "frontend")
    command = [npm, "run", "build:admin", "--", "--outDir", str(tmp_path)]
    done = subprocess.run(command, cwd=frontend, capture_output=True, text=True, timeout=seconds(50), check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    built, committed = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in (tmp_path, FILES))
    assert built.keys() == committed.keys()
    assert [name for name in built if built[name] != committed[name]] == [], "run `make frontend` and commit"


def test_the_pages_need_the_key_of_the_environment_alone(serve: Callable[..., Server]) -> None:
    server = serve(env={"FRESHET_SECRET": SECRET, "FRESHET_ADMIN_KEY": KEY})
    assert httpx.get(server.http("/admin"), follow_redirects=True).status_code == 200
    assert "admin/" in httpx.get(server.http("/")).text
