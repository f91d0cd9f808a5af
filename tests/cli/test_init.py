"""`freshet init`: what it writes runs as it is, with a browser in front of it."""

import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.tools.browser import console_errors
from tests.tools.patience import seconds, wait_until
from tests.tools.plugins import USERS
from tests.tools.ports import free_port
from tests.tools.serving import Server, serving
from tests.transports.shells import shell

KEPT = {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
TEMPLATES = ["chat", "ai", "dashboard", "api"]


def freshet(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "freshet", *arguments],
        cwd=cwd,
        env={**KEPT, "PATH": "/usr/bin:/bin", "COLUMNS": "120", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=seconds(20),
        check=False,
    )


def texts(browser: webdriver.Chrome) -> list[str]:
    script = "return [...document.querySelectorAll('#messages li')].map((item) => item.innerText.replace('\\n', ': '))"
    return [str(text) for text in browser.execute_script(script)]


def assert_fits_a_phone(browser: webdriver.Chrome) -> None:
    metrics = {"width": 360, "height": 700, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    beyond = "return [...document.querySelectorAll('body *')].filter((it) => it.getBoundingClientRect().right > 360)"
    assert [it.get_attribute("outerHTML") for it in browser.execute_script(beyond)] == []
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_what_init_writes_is_a_chat_that_runs(
    tmp_path: Path, browser: webdriver.Chrome, serve: Callable[..., Server]
) -> None:
    done = freshet("init", "hello", cwd=tmp_path)
    assert done.returncode == 0
    assert "freshet serve app:api" in done.stdout
    folder = tmp_path / "hello"
    assert stat.S_IMODE((folder / ".env").stat().st_mode) == 0o600
    assert ".env" in (folder / ".gitignore").read_text()
    assert freshet("check", cwd=folder).returncode == 0

    server = serve("app:api", cwd=folder)
    server.wait_for_log(f"Serving app:api on {server.http('')}, with Freshet at {server.http('/live/')}")
    browser.get(server.http("/"))
    wait_until(lambda: "live, as" in browser.find_element(By.ID, "state").text, 10, "the page to connect")
    browser.find_element(By.ID, "text").send_keys("  \n")  # which says nothing
    browser.find_element(By.ID, "text").send_keys("hello <b>there</b>\n")
    wait_until(lambda: texts(browser), 10, "the message")
    assert texts(browser)[0].endswith(": hello <b>there</b>")
    assert_fits_a_phone(browser)
    url = ["--url", server.http("/live")]
    assert freshet("publish", "chat:lobby", '{"from": "ops", "text": "news"}', *url, cwd=folder).returncode == 0
    wait_until(lambda: texts(browser)[-1] == "ops: news", 10, "what was published")
    browser.refresh()
    wait_until(lambda: len(texts(browser)) == 2, 10, "what was said before")
    wait_until(lambda: "guest-" in browser.find_element(By.ID, "people").text, 10, "who is there")
    browser.find_element(By.ID, "cut").click()
    wait_until(lambda: "connection lost" in browser.find_element(By.ID, "state").text, 10, "the cut")
    assert freshet("publish", "chat:lobby", '{"from": "ops", "text": "missed"}', *url, cwd=folder).returncode == 0
    wait_until(lambda: len(texts(browser)) == 3, 15, "what was missed")
    assert console_errors(browser) == []


def test_its_page_comes_back_after_a_restart_of_the_server(tmp_path: Path, browser: webdriver.Chrome) -> None:
    """Also when the server is away for longer than one attempt, and under a server that is not ours."""
    assert freshet("init", "hello", cwd=tmp_path).returncode == 0
    folder, port = tmp_path / "hello", free_port()
    with serving("app:api", cwd=folder, port=port) as server:
        browser.get(server.http("/"))
        wait_until(lambda: "live, as" in browser.find_element(By.ID, "state").text, 10, "the page to connect")
    wait_until(lambda: "does not answer" in browser.find_element(By.ID, "state").text, 10, "a second attempt")
    with shell("uvicorn", "app:api", tmp_path, "--app-dir", str(folder), port=port):
        wait_until(lambda: "live, as" in browser.find_element(By.ID, "state").text, 10, "the page to be back")


def initialized(template: str, tmp_path: Path) -> Path:
    done = freshet("init", "--template", template, "hello", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert freshet("check", cwd=tmp_path / "hello").returncode == 0
    return tmp_path / "hello"


@pytest.mark.parametrize("template", ["chat", "ai", "dashboard"])
def test_its_page_runs_nothing_that_is_brought_into_it_and_is_in_nobodys_frame(
    tmp_path: Path, browser: webdriver.Chrome, serve: Callable[..., Server], template: str
) -> None:
    server = serve("app:api", cwd=initialized(template, tmp_path))
    first, second = (httpx.get(server.http("/")).headers for _ in range(2))
    policy = first["content-security-policy"]
    assert {"object-src 'none'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"} <= {
        *policy.split("; ")
    }
    assert "unsafe" not in policy
    assert policy != second["content-security-policy"]  # a nonce is for once
    assert (first["x-content-type-options"], first["referrer-policy"]) == ("nosniff", "no-referrer")
    browser.get(server.http("/"))
    wait_until(lambda: "live" in browser.find_element(By.ID, "state").text, 10, "the page to connect")
    assert console_errors(browser) == []
    brought = "<img src=x onerror='window.brought = 1'><iframe srcdoc='<script>parent.brought = 1</script>'></iframe>"
    browser.execute_script("document.body.insertAdjacentHTML('beforeend', arguments[0])", brought)
    wait_until(lambda: console_errors(browser), 10, "what the browser says of it")
    assert browser.execute_script("return window.brought") is None


def test_the_dashboard_has_its_charts_at_once_and_they_move(
    tmp_path: Path, browser: webdriver.Chrome, serve: Callable[..., Server]
) -> None:
    server = serve("app:api", cwd=initialized("dashboard", tmp_path))
    path = "return document.querySelector('#load path').getAttribute('d').split('L').length"
    browser.get(server.http("/"))
    wait_until(lambda: browser.execute_script(path) > 4, 15, "a chart that grows")
    browser.refresh()
    wait_until(lambda: browser.execute_script(path) > 4, 1.5, "the past, which is there at once")
    assert browser.find_element(By.ID, "state").text.endswith("live")
    assert_fits_a_phone(browser)
    assert console_errors(browser) == []


def test_an_answer_goes_on_while_the_page_is_reloaded(
    tmp_path: Path, browser: webdriver.Chrome, serve: Callable[..., Server]
) -> None:
    server = serve("app:api", cwd=initialized("ai", tmp_path))
    asked = "return [...document.querySelectorAll('#talk .user')].map((it) => it.textContent)"
    answer = "return document.querySelector('#talk .assistant')?.textContent ?? ''"
    browser.get(server.http("/"))
    wait_until(lambda: "live" in browser.find_element(By.ID, "state").text, 10, "the page to connect")
    browser.find_element(By.ID, "text").send_keys("  \n")  # which asks nothing
    browser.find_element(By.ID, "text").send_keys("why?\n")
    wait_until(lambda: "Reload this page now" in browser.execute_script(answer), 10, "half an answer")
    browser.refresh()
    wait_until(lambda: browser.execute_script(answer).endswith("of this talk. "), 10, "all of it")
    assert browser.execute_script(answer).count("You asked: why?") == 1
    assert browser.execute_script(asked) == ["why?"]
    assert_fits_a_phone(browser)
    assert console_errors(browser) == []


def test_an_api_without_a_page_says_how_its_changes_are_seen(tmp_path: Path, serve: Callable[..., Server]) -> None:
    said = freshet("init", "--template", "api", "orders", cwd=tmp_path).stdout
    command = re.search(r"^ *freshet (tail .*)$", said, re.MULTILINE)
    assert command is not None, said
    folder = tmp_path / "orders"
    server = serve("app:api", cwd=folder)
    httpx.post(server.http("/orders"), json={"user": "alice", "item": "lamp"}).raise_for_status()
    arguments = command[1].replace("http://127.0.0.1:8000/", server.http("/")).split()
    done = freshet(*arguments, "--since", "oldest", "--limit", "1", cwd=folder)
    assert '"item": "lamp"' in done.stdout, done.stderr


async def test_each_change_of_an_order_reaches_its_user_and_nobody_else(
    tmp_path: Path, serve: Callable[..., Server]
) -> None:
    server = serve("app:api", cwd=initialized("api", tmp_path))
    async with httpx.AsyncClient(base_url=server.http("/")) as http:
        assert (await http.get("/")).headers["location"] == "/docs", "where one places an order"
        tokens = {user: (await http.get("/token", params={"user": user})).json() for user in ("alice", "bob")}
        url = server.ws("/live/channels/orders:alice?since=oldest&token=")
        async with connect(url + tokens["alice"]) as alice:
            placed = await http.post("/orders", json={"user": "alice", "item": "lamp"})
            assert placed.status_code == 201
            assert (await http.post(f"/orders/{placed.json()['number']}/ship")).status_code == 204
            assert [json.loads(await alice.recv())["state"] for _ in range(2)] == ["placed", "shipped"]
        async with connect(url + tokens["bob"]) as bob:
            with pytest.raises(ConnectionClosed):
                await bob.recv()
        assert (await http.post("/orders/77/ship")).status_code == 404


def test_what_goes_into_the_image_is_what_was_written(tmp_path: Path) -> None:
    for template in TEMPLATES:
        (tmp_path / template).mkdir()
        folder = initialized(template, tmp_path / template)
        copied = re.search(r"^COPY (.*freshet[.]toml) [.]/$", (folder / "Dockerfile").read_text(), re.MULTILINE)
        assert copied is not None
        assert all((folder / name).exists() for name in copied[1].split())
        assert ".env" not in copied[1]
        assert "test_app.py" not in copied[1]


def test_freshet_is_installed_from_its_wheel_and_nothing_by_a_name_that_is_another_projects(tmp_path: Path) -> None:
    folder = initialized("chat", tmp_path)
    lines = (folder / "requirements.txt").read_text().splitlines()
    assert [line for line in lines if not line.startswith("#")] == ["fastapi"]
    dockerfile = (folder / "Dockerfile").read_text()
    assert "COPY requirements.txt freshet-*.whl ./" in dockerfile  # which fails where there is no wheel
    assert "-r requirements.txt ./freshet-*.whl" in dockerfile


def test_a_template_that_is_none_is_answered_with_those_that_are(tmp_path: Path) -> None:
    done = freshet("init", "--template", "game", "hello", cwd=tmp_path)
    assert done.returncode == 2
    assert all(template in done.stderr for template in TEMPLATES)
    assert not (tmp_path / "hello").exists()


@pytest.mark.parametrize("template", TEMPLATES)
def test_its_own_tests_pass(tmp_path: Path, template: str) -> None:
    initialized(template, tmp_path)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        command,
        cwd=tmp_path / "hello",
        env={**os.environ, **USERS},
        capture_output=True,
        text=True,
        timeout=seconds(60),
        check=False,
    )
    assert "2 passed" in done.stdout, done.stdout


def test_two_folders_have_two_secrets(tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert freshet("init", name, cwd=tmp_path).returncode == 0
    assert (tmp_path / "one/.env").read_text() != (tmp_path / "two/.env").read_text()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("mine")
    done = freshet("init", cwd=tmp_path)
    assert done.returncode == 1
    assert "app.py is there already" in done.stderr
    assert (tmp_path / "app.py").read_text() == "mine"
    assert not (tmp_path / ".env").exists()


def test_a_folder_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = freshet("init", "file/inside", cwd=tmp_path)
    assert done.returncode == 1
    assert "file/inside" in done.stderr
    assert "Traceback" not in done.stderr
