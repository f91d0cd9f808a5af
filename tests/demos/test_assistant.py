"""The assistant: an answer that goes on whoever watches, and what visitors may do with it."""

import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from freshet.demos.model import RUNS
from tests.demos.clients import subscribed, visiting
from tests.demos.pages import Page
from tests.tools.patience import eventually, wait_until
from tests.tools.serving import Server, serving, workers_of

TALK = "0123456789abcdef" * 2
LAST = "Closing a tab stops nothing."


def begin(page: Page, question: str) -> Page:
    """Open a new talk, and ask."""
    page.browser.get("about:blank")
    page.open("/assistant/")
    ask(page, question)
    return page


def writers(server: Server) -> set[int]:
    return set(workers_of(server.pid))


@contextmanager
def held(server: Server) -> Iterator[None]:
    """Who writes stands still meanwhile: else an answer is over before a busy machine has shown it in two windows."""
    still = writers(server)
    for process in still:
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in still & writers(server):
            os.kill(process, signal.SIGCONT)


def is_there(process: int) -> bool:
    """Whether it has not ended, though nobody may have asked how."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def ask(page: Page, question: str) -> None:
    asked = len(page.texts(".bubble"))
    page.element("text").send_keys(question)
    wait_until(lambda: page.element("send").is_displayed(), 5, "that the last answer is over")
    page.element("send").click()
    wait_until(lambda: page.texts(".bubble")[asked:] == [question], 5, "the question")


def answer(page: Page) -> str:
    return (page.texts(".answer") or [""])[-1]


def plain(text: str) -> str:
    """What of Markdown one reads, without what is only form."""
    return re.sub(r"[\s`*#>|-]|```python", "", re.sub(r"^\d+\.", "", text, flags=re.MULTILINE))


def wait_for_end(page: Page) -> None:
    wait_until(lambda: page.run("return document.getElementById('stop').hidden"), 30, "the end of the answer")


@pytest.mark.timeout(90)
def test_an_answer_goes_on_while_its_page_is_loaded_again_and_is_whole_in_the_end(gallery: Server, page: Page) -> None:
    begin(page, "Explain runs")
    wait_until(lambda: "Nothing is lost" in answer(page), 10, "a part of the answer")
    with held(gallery):
        page.browser.refresh()
        wait_until(lambda: "Nothing is lost" in answer(page), 10, "what was written before")
        assert not page.run("return document.getElementById('stop').hidden")
    wait_for_end(page)
    shown = plain(answer(page)).replace("pythonCopy", "python")
    assert shown == plain(RUNS).replace("```", "")
    assert len(page.texts(".bubble")) == 1


@pytest.mark.timeout(90)
def test_a_second_window_sees_the_same_and_its_stop_is_everybodys(gallery: Server, page: Page, other: Page) -> None:
    begin(page, "Explain runs")
    wait_until(lambda: "reload" in answer(page), 10, "a part of the answer")
    with held(gallery):
        other.browser.get(page.browser.current_url)
        wait_until(lambda: "reload" in answer(other), 10, "the same in the second window")
    other.element("stop").click()
    for each in (page, other):
        wait_until(lambda each=each: each.texts(".fate") == ["Stopped. What was written is kept."], 5, "the stop")
    assert answer(page) == answer(other)
    assert LAST not in answer(page)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("button", "outcome"), [("Approve", "table 7"), ("Decline", "I booked nothing")])
def test_a_tool_waits_for_a_decision_and_goes_by_it(page: Page, other: Page, button: str, outcome: str) -> None:
    begin(page, "Book a table")
    waits = "Waits for you, as long as it takes."
    wait_until(lambda: page.texts(".outcome") == [waits], 10, "the question")
    other.browser.get(page.browser.current_url)
    wait_until(lambda: other.texts(".outcome") == [waits], 10, "the question, in the second window")
    other.browser.find_element("xpath", f"//button[text()='{button}']").click()
    wait_until(lambda: outcome in answer(page), 10, "the rest of the answer")
    assert not page.run("return [...document.querySelectorAll('.decide')].some((one) => !one.hidden)")


@pytest.mark.timeout(60)
def test_a_question_that_is_edited_begins_a_branch_beside_the_old_one(page: Page) -> None:
    begin(page, "Who are you?")
    wait_for_end(page)
    ask(page, "And what else?")
    wait_for_end(page)
    page.run("[...document.querySelectorAll('.under button')].find((one) => one.textContent === 'Edit').click()")
    page.browser.find_element("css selector", ".editing textarea").send_keys(" Say it again")
    page.browser.find_element("css selector", ".editing .primary").click()
    wait_until(lambda: page.texts(".bubble") == ["Who are you? Say it again"], 5, "the new branch alone")
    assert page.texts(".branches span") == ["2 of 2"]
    wait_for_end(page)
    page.browser.find_element("css selector", "[aria-label='Earlier version']").click()
    assert page.texts(".bubble") == ["Who are you?", "And what else?"]


@pytest.mark.timeout(90)
@pytest.mark.parametrize(
    ("button", "reason"),
    [("break", "the connection to the model broke"), ("kill", "the process that wrote it was killed")],
)
def test_an_answer_that_breaks_says_so_in_every_window_and_goes_on_from_any(
    gallery: Server, page: Page, other: Page, button: str, reason: str
) -> None:
    begin(page, "Explain runs")
    wait_until(lambda: "reload" in answer(page), 10, "a part of the answer")
    with held(gallery):
        other.browser.get(page.browser.current_url)
        wait_until(lambda: "reload" in answer(other), 10, "the same in the second window")
    page.element(button).click()
    failed = f"Failed: {reason}. What was written is kept, and it can go on."
    for each in (page, other):
        wait_until(lambda each=each: each.texts(".fate") == [failed], 5, "the failure")
    kept = answer(page)
    assert kept == answer(other)
    assert LAST not in kept
    other.browser.find_element("css selector", ".again").click()
    for each in (page, other):
        wait_for_end(each)
        wait_until(lambda each=each: LAST in answer(each), 30, "the rest of the answer")
        assert plain(answer(each)).replace("pythonCopy", "python") == plain(RUNS).replace("```", "")
        assert each.texts(".fate") == [""]


@pytest.mark.timeout(60)
def test_an_answer_is_written_by_a_process_of_its_own_that_ends_with_it(gallery: Server, page: Page) -> None:
    before = writers(gallery)
    begin(page, "Explain runs")
    wait_until(lambda: "reload" in answer(page), 10, "a part of the answer")
    (first,) = writers(gallery) - before
    page.element("kill").click()
    wait_until(lambda: first not in writers(gallery), 5, "that it is gone")
    page.browser.find_element("css selector", ".again").click()
    wait_until(lambda: writers(gallery) - before, 5, "another process")
    assert first not in writers(gallery)
    page.element("stop").click()
    wait_until(lambda: writers(gallery) == before, 5, "that none is left")


@pytest.mark.timeout(60)
async def test_a_process_that_writes_an_answer_ends_with_a_server_that_is_killed() -> None:
    with serving(command="demo") as server:
        assert writers(server) == set()
        async with visiting(server, "assistant") as client:
            await subscribed(client, f"talk:{TALK}")
            await client.rpc("ask", {"talk": TALK, "ask": {"text": "Explain runs"}})
            await eventually(lambda: len(writers(server)) == 1, 10)
            (writer,) = writers(server)
            server.process.kill()
        await eventually(lambda: not is_there(writer), 10)


@pytest.mark.timeout(90)
def test_nothing_that_was_read_moves_while_the_answer_grows(gallery: Server, page: Page) -> None:
    """Where the first lines of an answer stand in the talk, at each time that it is looked at."""
    page.use_width(360)
    begin(page, "Explain runs")
    wait_until(lambda: page.texts(".markdown p"), 10, "the first paragraph")
    with held(gallery):
        page.run(
            "window.seen = new Set(); new MutationObserver(() => "
            "seen.add(document.querySelector('.markdown h3').offsetTop)).observe("
            "document.getElementById('log'), { childList: true, subtree: true, characterData: true })"
        )
    overflow = "const log = document.getElementById('log'); return log.scrollHeight - log.clientHeight"
    wait_until(lambda: page.run(overflow) > 300, 20, "more than fits")
    page.run("document.getElementById('log').scrollTop = 0")
    wait_for_end(page)
    assert page.run("return seen.size") == 1
    assert page.run("return document.getElementById('log').scrollTop") < 200  # who reads above is left there
