"""The chat, with two visitors: what they see of each other, and what a cut makes them miss."""

import pytest
from centrifuge import CentrifugeError, Client
from selenium.webdriver.common.keys import Keys

from tests.demos.clients import subscribed, visiting
from tests.demos.pages import Page
from tests.tools.patience import eventually, seconds, wait_until
from tests.tools.serving import Server


def enter(page: Page, room: str, name: str, path: str = "/chat/") -> Page:
    """Open the chat under a name, and go into a room."""
    page.browser.get(page.url(path))
    page.run("sessionStorage.setItem('freshet.name', arguments[0])", name)
    page.open(path)
    wait_until(lambda: page.texts("#rooms button"), 5, "the rooms")
    page.browser.find_element("xpath", f"//button[text()='{room}']").click()
    wait_until(lambda: page.text("room") == room and name in page.texts("#people .name"), 5, f"{name} in {room}")
    return page


def say(page: Page, text: str) -> None:
    page.element("text").send_keys(text, Keys.ENTER)
    wait_until(lambda: text in said(page), 5, f"{text!r} on the page of who said it")


def said(page: Page) -> list[str]:
    return page.texts("#log .text")


def without_robot(page: Page) -> None:
    if page.element("robot").is_selected():
        page.element("robot").click()


def test_two_visitors_talk_and_see_each_other_come_type_and_go(page: Page, other: Page) -> None:
    enter(page, "tea", "Ada")
    enter(other, "tea", "Bob")
    wait_until(lambda: sorted(page.texts("#people .name")) == ["Ada", "Bob"], 5, "both names")
    assert page.text("count") == "2"
    other.element("text").send_keys("Good mor")
    wait_until(lambda: page.text("typing") == "Bob is typing…", 5, "that Bob is typing")
    assert other.text("typing") == ""
    other.element("text").send_keys("ning", Keys.ENTER)
    wait_until(lambda: said(page)[-1:] == ["Good morning"], 5, "what Bob said")
    assert page.text("typing") == ""
    say(page, "Hello, Bob")
    wait_until(lambda: said(other)[-1:] == ["Hello, Bob"], 5, "what Ada said")
    wait_until(lambda: page.text("p50").endswith("ms"), 5, "a latency")
    other.leave()
    wait_until(lambda: page.texts("#people .name") == ["Ada"], 5, "Bob to be gone")


def test_who_comes_in_reads_what_was_said_before(page: Page, other: Page) -> None:
    enter(page, "lobby", "Ada")
    for text in ("first", "second", "third"):
        say(page, text)
    enter(other, "lobby", "Bob")
    wait_until(lambda: said(other)[-3:] == ["first", "second", "third"], 5, "the history")
    offsets = [int(text.removeprefix("#")) for text in other.texts("#log .offset")]
    assert offsets == list(range(offsets[0], offsets[0] + len(offsets)))


def test_what_was_published_while_the_connection_was_cut_comes_back(page: Page, other: Page) -> None:
    enter(page, "tea", "Ada")
    enter(other, "tea", "Bob")
    without_robot(page)
    page.cut()
    meanwhile = [f"while you were away {number}" for number in range(4)]
    for text in meanwhile:
        say(other, text)
    report = page.wait_for_return()
    wait_until(lambda: page.texts("#log .recovered .text")[-4:] == meanwhile, 5, "what was missed")
    assert (page.number("missed"), page.number("recovered")) == (4, 4)
    assert "4 messages were published meanwhile; all of them came from the log, in order." in page.text("report"), (
        report
    )
    assert said(page) == said(other)


def test_a_robot_writes_meanwhile_and_only_the_goldfish_has_forgotten_some_of_it(page: Page, other: Page) -> None:
    enter(page, "lobby", "Ada")
    enter(other, "goldfish", "Bob")
    say(other, "before")
    page.cut()
    other.cut()
    page.wait_for_return()
    wait_until(lambda: page.number("recovered") == 8, 5, "eight messages")
    assert page.number("missed") == 8
    assert page.texts("#log .recovered .text")[-1] == "That was the eighth. Welcome back!"

    assert "recovered: false" in other.wait_for_return()
    wait_until(lambda: other.texts("#log .divider.lost"), 5, "the gap to be shown")
    assert (other.number("missed"), other.number("recovered")) == (8, 0)
    assert other.texts("#log .divider.lost") == ['3 messages are gone: the log of "goldfish" no longer had them.']
    assert len(said(other)[said(other).index("before") + 1 :]) == 5


@pytest.mark.parametrize("client", ["", "?client=socketio"])
def test_a_second_window_is_in_the_same_room_with_the_same_library(page: Page, client: str) -> None:
    enter(page, "tea", "Ada", f"/chat/{client}")
    for link, leads_to in (("again", client), ("with-the-other", "" if client else "?client=socketio")):
        assert page.element(link).get_attribute("href") == page.url(f"/chat/{leads_to}#tea")
    page.open(f"/chat/{client}#goldfish")
    page.browser.refresh()
    wait_until(lambda: page.text("room") == "goldfish", 5, "the room that the address names")
    page.browser.find_element("xpath", "//button[text()='lobby']").click()
    wait_until(lambda: page.text("room") == "lobby", 5, "the lobby")
    page.browser.back()
    wait_until(lambda: page.text("room") == "goldfish", 5, "the room of before")


def test_what_people_write_is_text_and_nothing_else(page: Page, other: Page) -> None:
    hostile = "<img src=x onerror=document.title='broken'>"
    enter(page, "tea", "<b>Ada</b>")
    enter(other, "tea", "Bob")
    say(page, hostile)
    wait_until(lambda: said(other)[-1:] == [hostile], 5, "the text")
    assert other.texts("#log strong")[-1] == "<b>Ada</b>"
    assert other.run("return document.querySelectorAll('#log img, #log b').length") == 0
    assert other.browser.title == "Chat · Freshet"


def write_too_fast(page: Page) -> None:
    """All at once: on a busy machine a driver that is asked for every key is within the pace."""
    page.run(
        """
        for (let number = 0; number < 12; number++) {
            document.getElementById("text").value = `quick ${number}`;
            document.getElementById("form").requestSubmit();
        }
        """
    )


def test_whoever_writes_too_fast_is_told_to_wait(page: Page) -> None:
    enter(page, "tea", "Ada")
    write_too_fast(page)
    wait_until(lambda: "slower, please" in page.text("problem"), 5, "the refusal")


def test_a_new_name_is_seen_by_the_others(page: Page, other: Page) -> None:
    enter(page, "tea", "Ada")
    enter(other, "tea", "Bob")
    page.element("name").send_keys(Keys.CONTROL, "a", Keys.NULL, "Ada Lovelace", Keys.TAB)
    wait_until(lambda: sorted(other.texts("#people .name")) == ["Ada Lovelace", "Bob"], 5, "the new name")


HELLOS = [None, {}, [], *({"name": name} for name in ("", "   ", "x" * 25, "a\u202eb", "a\x00b", 7, None))]


@pytest.mark.parametrize("demo", ["chat", "cursors"])
@pytest.mark.parametrize("hello", HELLOS, ids=repr)
async def test_a_visitor_without_a_name_or_with_one_that_misleads_is_refused(
    gallery: Server, demo: str, hello: object
) -> None:
    client = Client(gallery.ws(f"/live/{demo}/connection/websocket"), data=hello)
    await client.connect()
    try:
        with pytest.raises(CentrifugeError):
            await client.ready(timeout=seconds(5))
        await eventually(lambda: client.state.value == "disconnected")
    finally:
        await client.disconnect()


@pytest.mark.parametrize("data", [{}, {"text": ""}, {"text": " \n"}, {"text": "x" * 501}, {"text": 1}, "text", None])
async def test_a_message_that_is_none_is_refused(gallery: Server, data: object) -> None:
    async with visiting(gallery, "chat") as client:
        room = await subscribed(client, "room:tea")
        with pytest.raises(CentrifugeError) as refusal:
            await room.publish(data)
        assert refusal.value.code == 107


async def test_nobody_signs_with_another_name(gallery: Server) -> None:
    async with visiting(gallery, "chat", "Eve") as client:
        room = await subscribed(client, "room:tea")
        await room.publish({"text": "It is me", "info": {"name": "Ada"}, "name": "Ada", "at": 1})
        last = (await room.history(limit=1, reverse=True)).publications[0]
        assert last.data.keys() == {"text", "at", "by"}
        assert last.data["at"] > 1
        assert last.info is not None
        assert last.info.conn_info == {"name": "Eve"}


@pytest.mark.parametrize("channel", ["room:attic", "typing:attic", "other"])
async def test_there_are_no_rooms_but_those(gallery: Server, channel: str) -> None:
    async with visiting(gallery, "chat") as client:
        with pytest.raises(CentrifugeError):
            await subscribed(client, channel)


SOCKETIO = "/chat/?client=socketio"


def types(page: Page, other: Page) -> str:
    """Type a letter; gives who types on the other page. A page does not say so with every letter."""
    page.element("text").send_keys("a")
    return other.text("typing")


def test_visitors_with_either_library_talk_in_one_room(page: Page, other: Page) -> None:
    enter(page, "tea", "Ada", SOCKETIO)
    enter(other, "tea", "Bob")
    assert page.text("transport") == "Socket.IO"
    assert other.text("transport") == "WebSocket"
    wait_until(lambda: sorted(page.texts("#people .name")) == ["Ada", "Bob"], 10, "both names")
    assert sorted(other.texts("#people .name")) == ["Ada", "Bob"]
    for number in range(3):
        say(page, f"by Socket.IO {number}")
        wait_until(lambda: said(other)[-1:] == said(page)[-1:], 5, "it on the other page")
        say(other, f"by Centrifuge {number}")
        wait_until(lambda: said(other)[-1:] == said(page)[-1:], 5, "it on the other page")
    assert said(page) == said(other)
    assert page.texts("#log .offset") == other.texts("#log .offset")
    assert page.texts("#log .head strong")[-2:] == other.texts("#log .head strong")[-2:] == ["Ada", "Bob"]
    for who, name, sees in ((other, "Bob", page), (page, "Ada", other)):
        wait_until(
            lambda who=who, name=name, sees=sees: types(who, sees) == f"{name} is typing…", 10, f"{name}'s typing"
        )
    wait_until(lambda: page.text("p50").endswith("ms"), 5, "a latency")
    other.leave()
    wait_until(lambda: page.texts("#people .name") == ["Ada"], 10, "Bob to be gone")


def test_a_socketio_visitor_reads_what_was_said_before_and_is_told_of_a_refusal(page: Page, other: Page) -> None:
    enter(other, "lobby", "Bob")
    for text in ("first", "second", "third"):
        say(other, text)
    enter(page, "lobby", "Ada", SOCKETIO)
    wait_until(lambda: said(page)[-3:] == ["first", "second", "third"], 5, "the history")
    write_too_fast(page)
    wait_until(lambda: page.text("problem") == "Not sent: slower, please", 5, "the refusal")


def test_a_socketio_visitor_whose_connection_was_cut_comes_back_to_what_was_missed(page: Page, other: Page) -> None:
    enter(page, "tea", "Ada", SOCKETIO)
    enter(other, "tea", "Bob")
    without_robot(page)
    say(page, "here I am")
    page.cut()
    meanwhile = [f"while you were away {number}" for number in range(4)]
    for text in meanwhile:
        say(other, text)
    page.wait_for_return()
    wait_until(lambda: page.texts("#log .recovered .text")[-4:] == meanwhile, 5, "what was missed")
    assert (page.number("missed"), page.number("recovered")) == (4, 4)
    assert said(page) == said(other)


def test_a_socketio_visitor_is_told_what_the_goldfish_forgot(page: Page) -> None:
    enter(page, "goldfish", "Ada", SOCKETIO)
    say(page, "before")
    page.cut()
    assert "recovered: false" in page.wait_for_return()
    wait_until(lambda: page.texts("#log .divider.lost"), 5, "the gap to be shown")
    assert (page.number("missed"), page.number("recovered")) == (8, 0)
    assert len(said(page)[said(page).index("before") + 1 :]) == 5
