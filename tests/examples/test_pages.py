"""The examples that are pages, in headless Chromium."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from selenium import webdriver
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect

from freshet.policy.tokens import issue
from tests.tools.browser import console_errors
from tests.tools.clients import connected
from tests.tools.need import ROOT, require, require_npm_packages
from tests.tools.pages import Opened, serving_files
from tests.tools.patience import eventually, seconds, wait_until
from tests.tools.ports import free_port
from tests.tools.relay import relaying
from tests.tools.serving import Server, serving

EXAMPLES = ROOT / "examples"
SECRET = {"FRESHET_SECRET": "change-me-to-32-random-characters"}


async def test_the_screen_of_the_auction_shows_each_bid_and_the_winner_also_after_a_restart(
    example: Callable[[str], Path], browser: webdriver.Chrome
) -> None:
    folder, port = example("auction"), free_port()
    (folder / "app.py").write_text((folder / "app.py").read_text().replace("30, 600", "5, 15"))

    def shown(id: str) -> str:
        return str(browser.execute_script("return document.getElementById(arguments[0]).textContent", id))

    with serving("app:app", cwd=folder, port=port) as server:
        browser.get(server.http("/screen"))
        tokens = [issue(SECRET["FRESHET_SECRET"], user, expires_in=60) for user in ("alice", "bob")]
        async with connected(server, token=tokens[0]) as alice, connected(server, token=tokens[1]) as bob:
            for client in (alice, bob):
                await client.new_subscription("auction:1").subscribe()
            await alice.rpc("auction:1", {"amount": 300})
            await eventually(lambda: shown("leader") == "alice leads" and shown("price") == "100")
            await bob.rpc("auction:1", {"amount": 450})
            await eventually(lambda: shown("leader") == "bob leads" and shown("price") == "400")
    with serving("app:app", cwd=folder, port=port):
        await eventually(lambda: shown("leader") == "Sold to bob", 40)
    browser.get("about:blank")
    browser.get_log("browser")  # that the server was away


def test_a_notification_reaches_its_user_in_every_tab_and_nobody_else(
    serve: Callable[..., Server], window: Opened
) -> None:
    server = serve("app:api", cwd=EXAMPLES / "fastapi_notifications", env=SECRET)
    first = window(server.http("/"))
    first.find("#name").send_keys("alice\n")
    first.shows("#state", "Listening for alice")
    second = window(server.http("/"))
    second.shows("#state", "Listening for alice")
    for user, text in {"bob": "not for alice", "alice": "your parcel has arrived"}.items():
        assert httpx.post(server.http(f"/notify/{user}"), params={"text": text}).status_code == 200
    for page in (first, second):
        page.shows("#notifications", "your parcel has arrived")
        assert "not for alice" not in page.text("#notifications")
    late = window(server.http("/"))
    late.shows("#notifications", "your parcel has arrived")


def test_nobody_listens_to_the_notifications_of_another(serve: Callable[..., Server]) -> None:
    server = serve("app:api", cwd=EXAMPLES / "fastapi_notifications", env=SECRET)
    token = httpx.get(server.http("/token"), cookies={"user": "bob"}).json()["token"]
    url = server.ws(f"/live/channels/notifications:alice?token={token}")
    with connect(url) as socket, pytest.raises(ConnectionClosedError, match="another user's"):
        socket.recv(timeout=seconds(5))


def test_an_order_in_django_appears_in_the_other_window(
    serve: Callable[..., Server], window: Opened, browser: webdriver.Chrome, example: Callable[[str], Path]
) -> None:
    folder = example("django_orders")
    subprocess.run([sys.executable, "manage.py", "migrate"], cwd=folder, env={**os.environ, **SECRET}, check=True)
    server = serve("shop.asgi:application", cwd=folder, env=SECRET)
    buyer, watcher = window(server.http("/")), window(server.http("/"))
    watcher.shows("#state", "live")
    buyer.find("[name=item]").send_keys("tea\n")
    watcher.shows("#orders", "tea")
    buyer.shows("#orders", "tea")
    assert console_errors(browser) == []


def test_the_plain_page_publishes_and_comes_back(
    serve: Callable[..., Server], window: Opened, browser: webdriver.Chrome
) -> None:
    folder = EXAMPLES / "html"
    with serving_files(folder) as url:
        server = serve("--dev", cwd=folder, env={"FRESHET_ORIGINS": url})
        with relaying(server.port) as relay:
            first = window(f"{url}?server=127.0.0.1:{relay.port}")
            second = window(f"{url}?server=127.0.0.1:{server.port}")
            for page in (first, second):
                page.shows("#state", "connected")
            second.find("#text").send_keys("<i>hello</i>\n")
            first.shows("#notes", "<i>hello</i>")
            assert console_errors(browser) == []
            relay.cut()
            first.shows("#state", "coming back")
            second.find("#text").send_keys("missed\n")
            second.shows("#notes", "missed")
            relay.mend()
            first.shows("#state", "connected", 30)
            second.find("#text").send_keys("again\n")
            first.shows("#notes", "again\nmissed\n<i>hello</i>")


@pytest.fixture
def react(example: Callable[[str], Path]) -> Path:
    """The React example, built from its sources."""
    packages = require_npm_packages(EXAMPLES / "react") / "node_modules"
    folder = example("react")
    (folder / "node_modules").symlink_to(packages)
    build = [require("npm"), "run", "build"]
    done = subprocess.run(build, cwd=folder, capture_output=True, text=True, timeout=seconds(60), check=False)
    assert done.returncode == 0, done.stderr
    return folder


def test_react_components_listen_as_long_as_they_are_there(
    serve: Callable[..., Server], window: Opened, browser: webdriver.Chrome, react: Path
) -> None:
    page = window(serve("app:app", cwd=react).http("/"))
    page.shows("#state", "connected")
    wait_until(lambda: page.text("[data-symbol=FRSH]"), 10, "a price")
    before = page.text("[data-symbol=ACRN]")
    page.find("button").click()
    assert "FRSH" not in page.text("table")
    wait_until(lambda: page.text("[data-symbol=ACRN]") != before, 10, "another price")
    assert console_errors(browser) == []


def test_the_documentation_shows_the_hook_of_the_example() -> None:
    hook = (EXAMPLES / "react" / "src" / "useSubscription.js").read_text()
    assert hook in (ROOT / "docs" / "guide" / "clients.md").read_text()


@pytest.mark.parametrize("folder", [path.parent for path in EXAMPLES.glob("*/README.md")], ids=lambda path: path.name)
def test_an_example_says_how_to_run_it_and_is_listed(folder: Path) -> None:
    assert "freshet serve" in (folder / "README.md").read_text()
    assert f"[{folder.name}]({folder.name}/README.md)" in (EXAMPLES / "README.md").read_text()
