"""The chat of the quick start, built from the page alone, with two users in Chromium and a network that is cut."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

from tests.docs.blocks import blocks
from tests.docs.reader import Reader, reading
from tests.tools.browser import console, console_errors
from tests.tools.need import ROOT
from tests.tools.patience import wait_until
from tests.tools.relay import Relay, relaying

PAGE = ROOT / "docs" / "quick-start" / "chat.md"


@pytest.fixture
def chat(tmp_path: Path) -> Iterator[Reader]:
    folder = tmp_path / "chat"
    folder.mkdir()
    with reading(folder) as reader:
        reader.follow(blocks(PAGE))
        yield reader


@pytest.fixture
def network(chat: Reader) -> Iterator[Relay]:
    """What Alice has between her and the server; Bob sits beside it."""
    with relaying(chat.port()) as relay:
        yield relay


class Window:
    """One user's window."""

    def __init__(self, browser: webdriver.Chrome, port: int, user: str) -> None:
        self.browser = browser
        browser.switch_to.new_window("window")
        self.handle = browser.current_window_handle
        browser.get(f"http://127.0.0.1:{port}/?user={user}")

    def text(self, name: str) -> str:
        self.browser.switch_to.window(self.handle)
        return self.browser.find_element(By.ID, name).text

    def lines(self) -> list[str]:
        return self.text("lines").splitlines()

    def write(self, text: str) -> None:
        self.browser.switch_to.window(self.handle)
        self.browser.find_element(By.ID, "text").send_keys(text + "\n")
        wait_until(lambda: not self.browser.find_element(By.ID, "text").get_property("value"), 5, "the line to be sent")

    def click(self, name: str) -> None:
        self.browser.switch_to.window(self.handle)
        self.browser.find_element(By.ID, name).click()

    def shows(self, name: str, text: str, within: float = 10) -> None:
        wait_until(lambda: self.text(name) == text, within, f"{name} to be {text!r}, not {self.text(name)!r}")


@pytest.fixture
def windows(browser: webdriver.Chrome, chat: Reader, network: Relay) -> Iterator[tuple[Window, Window]]:
    first = browser.current_window_handle
    opened = Window(browser, network.port, "alice"), Window(browser, chat.port(), "bob")
    yield opened
    for window in opened:
        browser.switch_to.window(window.handle)
        browser.close()
    browser.switch_to.window(first)


def test_two_users_talk_in_order_and_a_cut_connection_loses_nothing(
    windows: tuple[Window, Window], network: Relay
) -> None:
    alice, bob = windows
    for window in windows:
        window.shows("state", "connected")
        window.shows("here", "alice, bob")
    alice.write("hello")
    bob.write("hello, <b>you</b>")
    said = ["alice: hello", "bob: hello, <b>you</b>"]
    for window in windows:
        window.shows("lines", "\n".join(said))
    assert console_errors(alice.browser) == []

    network.cut()
    alice.shows("state", "connecting")
    for number in range(1, 4):
        bob.write(f"missed {number}")
    said += [f"bob: missed {number}" for number in range(1, 4)]
    assert alice.lines() == said[:2]
    network.mend()
    alice.shows("state", "back, and nothing was missed", 30)
    alice.write("I am back")
    said += ["alice: I am back"]
    for window in windows:
        window.shows("lines", "\n".join(said))
    bob.shows("here", "alice, bob")


def test_who_comes_later_reads_what_was_said_and_the_button_cuts(windows: tuple[Window, Window]) -> None:
    alice, bob = windows
    alice.shows("state", "connected")
    alice.write("early")
    bob.browser.switch_to.window(bob.handle)
    bob.browser.refresh()
    bob.shows("lines", "alice: early")
    bob.click("cut")
    alice.shows("here", "alice")
    alice.write("while you were away")
    bob.shows("state", "back, and nothing was missed", 15)
    bob.shows("lines", "alice: early\nalice: while you were away")
    assert console_errors(bob.browser) == []


def test_a_restarted_server_is_not_passed_over_in_silence(windows: tuple[Window, Window], chat: Reader) -> None:
    alice, bob = windows
    bob.shows("state", "connected")
    alice.shows("state", "connected")
    alice.write("forgotten")
    bob.shows("lines", "alice: forgotten")
    chat.follow([block for block in blocks(PAGE) if "freshet serve" in block.code])
    bob.shows("state", "back, but some lines are gone", 30)
    bob.shows("lines", "")
    console(bob.browser)
