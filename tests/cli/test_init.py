"""`freshet init`: what it writes runs as it is, with a browser in front of it."""

import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.common.by import By

from tests.tools.browser import console_errors
from tests.tools.patience import seconds, wait_until
from tests.tools.serving import Server


def freshet(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "freshet", *arguments],
        cwd=cwd,
        env={"PATH": "/usr/bin:/bin", "COLUMNS": "120", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=seconds(20),
        check=False,
    )


def texts(browser: webdriver.Chrome) -> list[str]:
    return [item.text for item in browser.find_elements(By.CSS_SELECTOR, "#messages li")]


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
    browser.get(server.http("/"))
    wait_until(lambda: "connected as" in browser.find_element(By.ID, "state").text, 10, "the page to connect")
    browser.find_element(By.ID, "text").send_keys("hello <b>there</b>\n")
    wait_until(lambda: texts(browser), 10, "the message")
    assert texts(browser)[0].endswith(": hello <b>there</b>")
    url = ["--url", server.http("/live")]
    assert freshet("publish", "chat:lobby", '{"from": "ops", "text": "news"}', *url, cwd=folder).returncode == 0
    wait_until(lambda: texts(browser)[-1] == "ops: news", 10, "what was published")
    browser.refresh()
    wait_until(lambda: len(texts(browser)) == 2, 10, "what was said before")
    assert console_errors(browser) == []


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
