"""The example with the AI SDK's `useChat`, unmodified, on a page that Vite builds, in headless Chromium."""

import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import copytree, ignore_patterns
from typing import Any

import httpx
import pytest
from selenium import webdriver

from tests.tools.browser import console_errors
from tests.tools.need import ROOT, require, require_npm_packages
from tests.tools.pages import Opened, Window
from tests.tools.patience import seconds
from tests.tools.serving import Server, serving

EXAMPLE = ROOT / "examples" / "use_chat"
SLOWLY = "        await asyncio.sleep(0.1)\n"
HELD = """\
        await asyncio.sleep(0.03)
        while number == 20 and Path("held").exists():
            await asyncio.sleep(0.01)
"""
ANSWER = "You asked: Ready? Let me count to sixty before I answer. " + "".join(f"{n + 1} " for n in range(60))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, its page built by Vite, and an answer that `held` holds: a busy machine may be slow to reload."""
    packages = require_npm_packages(EXAMPLE) / "node_modules"
    folder = tmp_path_factory.mktemp("use_chat") / "app"
    copytree(EXAMPLE, folder, ignore=ignore_patterns("node_modules", "dist"))
    (folder / "node_modules").symlink_to(packages)
    app = (folder / "app.py").read_text()
    assert app.count(SLOWLY) == 1
    (folder / "app.py").write_text(app.replace(SLOWLY, HELD))
    build = [require("npm"), "run", "build"]
    done = subprocess.run(build, cwd=folder, capture_output=True, text=True, timeout=seconds(60), check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module", params=["1", "2"], ids=["one worker", "two workers"])
def server(request: pytest.FixtureRequest, built: Path) -> Iterator[Server]:
    with serving("app:api", "--workers", request.param, cwd=built) as server:
        yield server


@contextmanager
def held(built: Path) -> Iterator[None]:
    """An answer stands still in its middle meanwhile."""
    (built / "held").touch()
    try:
        yield
    finally:
        (built / "held").unlink()


@pytest.fixture(params=["", "?socket"], ids=["http", "websocket"])
def address(request: pytest.FixtureRequest) -> str:
    """The page, with a chat of its own."""
    return f"/{request.param}#{secrets.token_hex(8)}"


def kept(server: Server, address: str) -> list[dict[str, Any]]:
    chat = address.partition("#")[2]
    messages: list[dict[str, Any]] = httpx.get(server.http(f"/live/ai/chat/{chat}/messages")).json()["messages"]
    return messages


def said(page: Window, *, of: str = "assistant") -> str:
    return page.text(f"p.{of}") + " "


def asks(page: Window) -> None:
    page.shows("#status", "ready")
    page.find("input").send_keys("Ready?\n")
    page.shows("p.assistant", " 5 ")


def test_a_question_is_answered_and_a_reload_in_the_middle_goes_on(
    server: Server, built: Path, address: str, window: Opened, browser: webdriver.Chrome
) -> None:
    page = window(server.http(address))
    with held(built):
        asks(page)
        assert page.text("#status") == "streaming"
        page.reload()
        page.shows("p.assistant", " 20 ")
    page.shows("p.assistant", " 60", within=20)
    page.shows("#status", "ready")
    assert (said(page, of="user"), said(page)) == ("Ready? ", ANSWER)
    assert [it["role"] for it in kept(server, address)] == ["user", "assistant"]
    assert console_errors(browser) == []


def test_a_second_tab_follows_and_its_stop_ends_the_answer_in_both(
    server: Server, built: Path, address: str, window: Opened, browser: webdriver.Chrome
) -> None:
    first = window(server.http(address))
    with held(built):
        asks(first)
        second = window(server.http(address))
        second.shows("#status", "streaming")
        second.shows("p.assistant", " 7 ")
        second.find("#stop").click()
        for page in (first, second):
            page.shows("#status", "ready")
    answer = kept(server, address)[-1]
    text = "".join(part["text"] for part in answer["parts"])
    assert answer["metadata"]["run"]["state"] == "stopped"
    assert said(first) == said(second) == text != ANSWER
    assert ANSWER.startswith(text)
    second.reload()
    second.shows("#status", "ready")
    assert said(second) == text
    assert console_errors(browser) == []


@pytest.mark.parametrize("file", ["Chat.jsx", "main.jsx"])
def test_the_tutorial_shows_the_page_of_the_example(file: str) -> None:
    page = (ROOT / "docs" / "quick-start" / "use-chat.md").read_text()
    assert (EXAMPLE / "src" / file).read_text() in page
