"""The chat of the quick start, built from the page alone, with two users in Chromium and a network that is cut."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver

from tests.docs.blocks import blocks
from tests.docs.reader import Reader, reading
from tests.tools.browser import console_errors
from tests.tools.need import ROOT
from tests.tools.pages import Window, windows
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


class Chatter:
    """A user of the chat, and the window that is open."""

    def __init__(self, window: Window) -> None:
        self.window = window

    def shows(self, name: str, text: str, within: float = 10) -> None:
        """Until the element `name` reads exactly `text`."""
        wait_until(lambda: self.window.text(f"#{name}") == text, within, f"{name} to be {text!r}")

    def write(self, text: str) -> None:
        self.window.find("#text").send_keys(text + "\n")
        wait_until(lambda: not self.window.find("#text").get_property("value"), 5, "the line to be sent")


@pytest.fixture
def chatters(browser: webdriver.Chrome, chat: Reader, network: Relay) -> Iterator[tuple[Chatter, Chatter]]:
    """Alice and Bob, both there."""
    with windows(browser) as opened:
        alice = Chatter(opened(f"http://127.0.0.1:{network.port}/?user=alice"))
        bob = Chatter(opened(f"http://127.0.0.1:{chat.port()}/?user=bob"))
        for each in (alice, bob):
            each.shows("state", "connected")
            each.shows("here", "alice, bob")
        yield alice, bob


def test_two_users_talk_in_order_and_a_cut_connection_loses_nothing(
    chatters: tuple[Chatter, Chatter], network: Relay, browser: webdriver.Chrome
) -> None:
    alice, bob = chatters
    alice.write("hello")
    bob.write("hello, <b>you</b>")
    said = ["alice: hello", "bob: hello, <b>you</b>"]
    for each in chatters:
        each.shows("lines", "\n".join(said))
    assert console_errors(browser) == []

    network.cut()
    alice.shows("state", "connecting")
    for number in range(1, 4):
        bob.write(f"missed {number}")
    alice.shows("lines", "\n".join(said))
    said += [f"bob: missed {number}" for number in range(1, 4)]
    bob.shows("lines", "\n".join(said))
    network.mend()
    alice.shows("state", "back, and nothing was missed", 30)
    alice.write("I am back")
    said += ["alice: I am back"]
    for each in chatters:
        each.shows("lines", "\n".join(said))
        each.shows("here", "alice, bob")


def test_who_comes_later_reads_what_was_said_and_the_button_cuts(
    chatters: tuple[Chatter, Chatter], browser: webdriver.Chrome
) -> None:
    alice, bob = chatters
    alice.write("early")
    bob.window.reload()
    bob.shows("lines", "alice: early")
    bob.window.find("#cut").click()
    bob.shows("state", "cut off")
    alice.shows("here", "alice")
    alice.write("while you were away")
    bob.shows("state", "back, and nothing was missed", 15)
    bob.shows("lines", "alice: early\nalice: while you were away")
    assert console_errors(browser) == []


def test_a_restarted_server_is_not_passed_over_in_silence(chatters: tuple[Chatter, Chatter], chat: Reader) -> None:
    alice, bob = chatters
    alice.write("forgotten")
    bob.shows("lines", "alice: forgotten")
    chat.follow([block for block in blocks(PAGE) if "freshet serve" in block.code])
    bob.shows("state", "back, but some lines are gone", 30)
    bob.shows("lines", "")
