"""A channel as a URL: its dialects keep the contract, and clients that know nothing but WebSocket understand it."""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from selenium import webdriver
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from freshet.dialects.base import Dialect
from freshet.dialects.channel_url import ChannelEvents, ChannelPage, ChannelUrl
from freshet.errors import Disconnect
from freshet.model.commands import Connect, Publish, Subscribe
from freshet.model.events import Accepted, Connected, Heartbeat, Published, Refused, Subscribed, Unsubscribed
from freshet.model.frame import Frame, Handshake
from freshet.model.log import NOWHERE, OLDEST, Kind, Position, Publication
from freshet.policy.tokens import issue
from tests.contracts.dialect import *  # noqa: F403 - the contract's tests are this module's
from tests.dialects.centrifuge.official import JSON_VALUES
from tests.tools.browser import console_errors
from tests.tools.patience import eventually, seconds, wait_until
from tests.tools.serving import Server, serving

SECRET = "a secret for tests, thirty-two bytes"
CONFIG = f"""
origins = ["*"]
[tokens]
secret = "{SECRET}"
[api]
anonymous = true
[[channels]]
match = "room:*"
history = {{ size = 10, ttl = 60 }}
publish = "client"
[[channels]]
match = "read-only"
"""


DIALECTS: dict[str, tuple[Dialect, list[bytes]]] = {
    "channel_url": (ChannelUrl("room:a"), [b'{"a": 1}', b"plain text", b"", b'{\n"a": 1\n}', "é".encode()]),
    "channel_events": (ChannelEvents(["room:a"]), []),
    "channels_events": (ChannelEvents(["a", "b"]), []),
    "channel_page": (ChannelPage("room:a"), []),
}


@pytest.fixture(params=DIALECTS)
def dialect(request: pytest.FixtureRequest) -> Dialect:
    return DIALECTS[request.param][0]


@pytest.fixture
def valid(dialect: Dialect) -> list[bytes]:
    return next(valid for it, valid in DIALECTS.values() if it is dialect)


@given(st.text(max_size=60) | JSON_VALUES.map(lambda value: json.dumps(value, indent=1)))
def test_a_frame_for_a_channel_is_json_in_one_line_or_what_it_was(text: str) -> None:
    frame = Frame(text.encode(errors="replace"))
    [command] = ChannelUrl("a").receive(frame)
    assert isinstance(command, Publish)
    if command.kind is Kind.JSON:
        assert b"\n" not in command.data
        assert json.loads(command.data) == json.loads(frame.data)
    else:
        assert (command.kind, command.data) == (Kind.TEXT, frame.data)


def test_bytes_stay_bytes_even_if_they_look_like_json() -> None:
    [command] = ChannelUrl("a").receive(Frame(b"{}", binary=True))
    assert command == Publish("a", b"{}", 3, Kind.BYTES)


@pytest.mark.parametrize(
    ("since", "position"),
    [("e:0", Position("e", 0)), ("a:b:12", Position("a:b", 12)), (":5", Position("", 5)), ("", None)],
)
def test_a_url_names_the_position_of_its_reader(since: str, position: Position | None) -> None:
    for request in (Handshake("", query={"since": since}), Handshake("", headers={"last-event-id": since})):
        assert ChannelUrl("a").opened(request)[1] == Subscribe("a", 2, recover=position)


@pytest.mark.parametrize("since", ["5", "e:", "e:-1", "e:x", "e:٣", "e:1.0", "e:" + "9" * 20, ":", "e:1 "])
def test_a_position_that_cannot_be_ends_the_session(since: str) -> None:
    with pytest.raises(Disconnect) as why:
        ChannelUrl("a").opened(Handshake("", query={"since": since}))
    assert why.value.code == 3501


@pytest.mark.parametrize(
    ("refused", "code"),
    [
        (Refused(1, 103, "no"), 4603),
        (Refused(1, 100, "later", temporary=True), 4100),
        (Refused(1, 4294967295, "far"), 4999),
        (Refused(1, 5000, "far, later", temporary=True), 4499),
    ],
)
def test_on_a_channels_url_a_refusal_ends_the_session_within_the_range_of_its_sort(refused: Refused, code: int) -> None:
    with pytest.raises(Disconnect) as why:
        ChannelUrl("a").encode(refused)
    assert why.value.code == code
    assert why.value.reconnect is refused.temporary


def test_on_a_channels_url_a_gap_that_cannot_be_recovered_ends_the_session() -> None:
    assert ChannelUrl("a").encode(Subscribed("a", 2, recovered=True)) is None
    with pytest.raises(Disconnect) as why:
        ChannelUrl("a").encode(Subscribed("a", 2, recovered=False))
    assert not why.value.reconnect


# ----------------------------------------------------------------------------------------------- streams and pages


def events_of(frame: Frame | None) -> list[dict[str, str]]:
    """The events of a stream, as an `EventSource` reads them."""
    text = frame.data.decode() if frame is not None else ""
    return [dict(line.split(": ", 1) for line in event.splitlines()) for event in text.split("\n\n") if event]


def test_the_events_of_a_stream_have_the_position_to_go_on_from() -> None:
    stream = ChannelEvents(["a"])
    [subscribed] = events_of(stream.encode(Subscribed("a", 2, Position("e", 7), True, True, [Publication(b"1", 7)])))
    assert (subscribed["event"], subscribed["id"]) == ("subscribed", "e:6")
    [published] = events_of(stream.encode(Published("a", Publication(b"1", 7, tags={"event": "price"}), "e")))
    assert published == {"id": "e:7", "event": "price", "data": "1"}
    [lost] = events_of(stream.encode(Subscribed("a", 2, Position("e", 9), True, False)))
    assert (lost["event"], lost["id"]) == ("unrecoverable", "e:9")


def test_a_stream_of_several_channels_has_the_position_of_each() -> None:
    stream = ChannelEvents(["a", "b c"])
    stream.encode(Subscribed("a", 2, Position("e", 1), True))
    [second] = events_of(stream.encode(Subscribed("b c", 3, Position("f", 5), True)))
    assert second["id"] == "e:1,f:5"
    again = ChannelEvents(["a", "b c"])
    commands = again.opened(Handshake("", headers={"last-event-id": second["id"]}))
    assert commands[1:] == [Subscribe("a", 2, recover=Position("e", 1)), Subscribe("b c", 3, recover=Position("f", 5))]
    for elsewhere in ("e:1", "e:1,f:5,g:1", "e:1;f:5", "e:1,f", ",,", "e:1,f:-5", "e:1," + "9" * 40, "," * 10_000):
        with pytest.raises(Disconnect) as why:
            again.opened(Handshake("", query={"since": elsewhere}))
        assert why.value.code == 3501


def test_a_channel_that_has_not_begun_or_has_no_log_is_empty_in_the_position_of_a_stream() -> None:
    stream = ChannelEvents(["a", "b", "c"])
    [first] = events_of(stream.encode(Subscribed("a", 2, NOWHERE)))
    assert "id" not in first
    [second] = events_of(stream.encode(Subscribed("b", 3, Position("f", 5), True)))
    assert second["id"] == ",f:5,"
    commands = ChannelEvents(["a", "b", "c"]).opened(Handshake("", headers={"last-event-id": ",f:5,"}))
    assert [command.recover for command in commands if isinstance(command, Subscribe)] == [
        None,
        Position("f", 5),
        None,
    ]


def opening(count: int) -> tuple[list[dict[str, str]], int]:
    """The events with which a stream of so many channels opens, and their bytes."""
    stream, events, size = ChannelEvents([f"room:{number}" for number in range(count)]), [], 0
    for number in range(count):
        frame = stream.encode(Subscribed(f"room:{number}", number + 2, Position("Abcd1234", number), True))
        events += events_of(frame)
        size += len(frame.data) if frame is not None else 0
    return events, size


@pytest.mark.parametrize("count", [2, 3, 100, 128, 1000])
def test_the_opening_of_a_stream_says_of_each_channel_that_it_began_in_bytes_that_grow_with_their_number(
    count: int,
) -> None:
    events, size = opening(count)
    assert [json.loads(event["data"])["channel"] for event in events] == [f"room:{n}" for n in range(count)]
    ids = [event["id"] for event in events if "id" in event]
    assert ids[-1] == ",".join(f"Abcd1234:{number}" for number in range(count))
    assert size < 200 * count
    assert len(ids[-1]) < len("&".join(f"channel=room:{number}" for number in range(count)))


def test_what_is_published_while_a_stream_opens_comes_behind_what_had_begun_with_an_id_for_both() -> None:
    stream = ChannelEvents(["a", "b", "c", "d", "e"])
    assert [len(events_of(stream.encode(Subscribed(name, 2, Position("e", 1), True)))) for name in "abcd"] == [
        1,
        1,
        0,
        2,
    ]
    assert stream.encode(Subscribed("e", 2, Position("e", 1), True)) is not None, "nothing else will come"
    stream = ChannelEvents(["a", "b", "c", "d", "e"])
    for name in "abc":
        stream.encode(Subscribed(name, 2, Position("e", 1), True))
    third, published = events_of(stream.encode(Published("a", Publication(b"1", 2), "e")))
    assert (third["event"], third["id"], published["id"]) == ("subscribed", "e:1,e:1,e:1,,", "e:2,e:1,e:1,,")
    stream.encode(Subscribed("d", 2, Position("e", 1), True))
    held = stream.encode(Heartbeat())
    assert held is not None
    assert held.data.endswith(b"\n\n:\n")


def test_what_happens_in_a_channel_that_the_url_does_not_name_moves_no_position() -> None:
    stream = ChannelEvents(["a", "b"])
    stream.encode(Subscribed("a", 2, Position("e", 1), True))
    stream.encode(Subscribed("b", 3, Position("f", 1), True))
    [published] = events_of(stream.encode(Published("other", Publication(b"1", 9), "g")))
    assert published["id"] == "e:1,f:1"


def test_a_refusal_of_one_of_several_channels_waits_for_a_first_subscription() -> None:
    stream = ChannelEvents(["a", "b", "c"])
    assert stream.encode(Refused(2, 103, "permission denied")) is None
    events = events_of(stream.encode(Subscribed("b", 3)))
    assert [event["event"] for event in events] == ["refused", "subscribed"]
    assert json.loads(events[0]["data"]) == {"channel": "a", "code": 103, "reason": "permission denied"}
    [refused] = events_of(stream.encode(Refused(4, 103, "permission denied")))
    assert refused["event"] == "refused"
    assert stream.encode(Unsubscribed("a")) is None, "it is no part of the stream"
    with pytest.raises(Disconnect):
        stream.encode(Unsubscribed("b"))


def test_a_stream_ends_when_every_channel_is_refused() -> None:
    stream = ChannelEvents(["a", "b"])
    assert stream.encode(Refused(2, 103, "no")) is None
    with pytest.raises(Disconnect) as why:
        stream.encode(Refused(3, 103, "no"))
    assert why.value.code == 4603


@pytest.mark.parametrize(
    ("event", "name", "lines"),
    [("price\nid: 9", None, [b"1"]), ("price", "price", [b"a", b"b", b"", b"c"])],
)
def test_a_payload_or_a_tag_cannot_write_fields_of_its_own(event: str, name: str | None, lines: list[bytes]) -> None:
    publication = Publication(b"\n".join(lines), 0, Kind.TEXT, tags={"event": event})
    frame = ChannelEvents(["a"]).encode(Published("a", publication))
    assert frame is not None
    written = frame.data.removesuffix(b"\n\n").split(b"\n")
    expected = [b"event: " + name.encode()] if name else []
    assert written == [*expected, *(b"data: " + line for line in lines)]


PAGES = [Publication(str(offset).encode(), offset) for offset in range(3, 9)]
BEGUN = Subscribed("a", 2, Position("e", 8), True, True, PAGES)


@pytest.mark.parametrize(
    ("query", "limit", "offsets", "stands"),
    [
        ({"since": "e:2"}, 2, [3, 4], 4),
        ({"since": "e:2"}, 100, [3, 4, 5, 6, 7, 8], 8),
        ({"since": "e:2"}, 0, [], 2),
        ({}, 2, [7, 8], 8),
        ({}, 0, [], 8),
        ({"since": "oldest"}, 1, [3], 3),
    ],
)
def test_a_page_ends_where_the_next_one_begins(
    query: dict[str, str], limit: int, offsets: list[int], stands: int
) -> None:
    page = ChannelPage("a", limit=limit)
    page.opened(Handshake("", query=query))
    frame = page.encode(BEGUN)
    assert frame is not None
    read = json.loads(frame.data)
    assert [each["offset"] for each in read["publications"]] == offsets
    assert (read["epoch"], read["offset"], read["recovered"]) == ("e", stands, True)


def test_a_reader_that_waits_starts_at_the_end_of_the_log() -> None:
    commands = ChannelPage("a", limit=5, waits=True).opened(Handshake("", query={"token": "t"}))
    assert commands == [Connect(1, "t", only=("a",)), Subscribe("a", 2)]
    commands = ChannelPage("a", limit=5).opened(Handshake(""))
    assert commands == [Connect(1, recover={"a": OLDEST}, only=("a",)), Subscribe("a", 2, recover=OLDEST)]


def test_a_reader_that_waits_gets_nothing_until_there_is_something() -> None:
    for waits in (False, True):
        page = ChannelPage("a", limit=5, waits=waits)
        frame = page.encode(Subscribed("a", 2, Position("e", 4), recovered=True))
        assert (frame is None) is waits
        assert page.page is not None
        assert page.page.is_empty
    for news in (
        Subscribed("a", 2, Position("e", 4), recovered=False),
        Subscribed("a", 2, Position("e", 4), recovered=True, publications=[Publication(b"1", 4)]),
    ):
        assert ChannelPage("a", limit=5, waits=True).encode(news) is not None


def test_a_request_with_a_body_publishes_it_and_is_answered_by_its_position() -> None:
    page = ChannelPage("a", Frame(b'{"a":1}'))
    assert page.opened(Handshake(""))[1:] == [Publish("a", b'{"a":1}', 3)]
    assert page.encode(Connected(1, "c", 25)) is None
    frame = page.encode(Accepted(3, Position("e", 4)))
    assert frame is not None
    assert json.loads(frame.data) == {"epoch": "e", "offset": 4}
    with pytest.raises(Disconnect):
        page.receive(Frame(b"more"))


def test_a_channel_without_a_log_has_no_position_to_go_on_from() -> None:
    [subscribed] = events_of(ChannelEvents(["a"]).encode(Subscribed("a", 2, NOWHERE)))
    assert "id" not in subscribed
    [published] = events_of(ChannelEvents(["a"]).encode(Published("a", Publication(b"1"))))
    assert published == {"data": "1"}


# ------------------------------------------------------------------------------------------------- real clients


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    config = tmp_path_factory.mktemp("channel_url") / "freshet.toml"
    config.write_text(CONFIG)
    with serving("--config", str(config)) as server:
        yield server


def url(server: Server, channel: str, since: str = "") -> str:
    query = f"?token={issue(SECRET, 'alice', expires_in=60)}" + (f"&since={since}" if since else "")
    return server.ws(f"/channels/{channel}{query}")


async def closed(socket: ClientConnection) -> tuple[int, str]:
    """The code and the reason of the close, whatever comes before it."""
    with suppress(ConnectionClosed):
        while True:
            await receive(socket)
    return socket.close_code or 0, socket.close_reason or ""


async def receive(socket: ClientConnection) -> str | bytes:
    return await asyncio.wait_for(socket.recv(), seconds(5))


async def test_text_and_bytes_come_out_as_they_went_in(server: Server) -> None:
    async with connect(url(server, "room:a")) as alice, connect(url(server, "room:a")) as bob:
        for message in ['{"a":1}', "not JSON", b"\x00\xff", "é"]:
            await alice.send(message)
            for socket in (alice, bob):
                got = await receive(socket)
                assert got == message


async def test_json_comes_out_in_one_line(server: Server) -> None:
    async with connect(url(server, "room:c")) as socket:
        await socket.send('{\n  "pretty": [1,\n 2]\n}')
        got = await receive(socket)
    assert isinstance(got, str)
    assert "\n" not in got
    assert json.loads(got) == {"pretty": [1, 2]}


async def test_a_socket_that_says_where_it_stopped_gets_what_it_missed(server: Server) -> None:
    async with connect(url(server, "room:b")) as socket:
        for index in range(3):
            await socket.send(str(index))
            await receive(socket)
    async with connect(url(server, "room:b", since=":1")) as socket:  # no epoch: of whatever log there is
        assert [await receive(socket), await receive(socket)] == ["1", "2"]


async def test_a_position_of_another_log_is_refused_instead_of_answered_in_part(server: Server) -> None:
    async with connect(url(server, "room:b", since="elsewhere:1")) as socket:
        assert await closed(socket) == (4612, "unrecoverable position")


@pytest.mark.parametrize("since", ["nonsense", "a:b", "a:-1"])
async def test_a_malformed_position_is_named(server: Server, since: str) -> None:
    async with connect(url(server, "room:b", since=since)) as socket:
        code, reason = await closed(socket)
    assert code == 3501
    assert "epoch:offset" in reason


async def test_a_channel_to_which_the_server_subscribes_is_heard_once_and_alone(server: Server) -> None:
    token = issue(SECRET, "alice", expires_in=60, channels=["room:given", "room:other"])
    async with connect(url(server, "room:given")) as publisher, connect(url(server, "room:other")) as other:
        await publisher.send("1")
        assert await receive(publisher) == "1"
        address = server.ws(f"/channels/room:given?token={token}&since=oldest")
        async with connect(address) as socket:
            assert await receive(socket) == "1"
            await other.send('"elsewhere"')
            await receive(other)
            await publisher.send("2")
            assert await receive(socket) == "2"
        async with connect(server.ws(f"/channels/room:given?token={token}&since=another:1")) as socket:
            assert (await closed(socket))[0] == 4612


async def test_a_users_personal_channel_is_a_url_too(serve: Callable[..., Server], tmp_path: Path) -> None:
    (tmp_path / "freshet.toml").write_text(CONFIG.replace("origins", "personal_channels = true\norigins", 1))
    server = serve(cwd=tmp_path, env={"FRESHET_API_KEY": "key"})
    async with connect(url(server, "%23alice")) as socket:
        request = {"channel": "#alice", "data": "yours"}
        async with httpx.AsyncClient(headers={"x-api-key": "key"}) as http:

            async def comes() -> bool:  # once it listens
                await http.post(server.http("/api/publish"), json=request)
                with suppress(TimeoutError):
                    return await asyncio.wait_for(socket.recv(), 0.1) == '"yours"'
                return False

            await eventually(comes, 10)
    async with connect(url(server, "%23bob")) as socket:
        assert (await closed(socket))[0] == 4603


async def test_who_may_not_publish_is_told_so(server: Server) -> None:
    async with connect(url(server, "read-only")) as socket:
        await socket.send("hello")
        code, reason = await closed(socket)
    assert code == 4603
    assert "read-only" in reason


async def test_a_channel_without_a_rule_is_refused_by_name(server: Server) -> None:
    async with connect(url(server, "nowhere")) as socket:
        code, reason = await closed(socket)
    assert code == 4602
    assert "nowhere" in reason


async def test_without_a_token_nobody_connects(server: Server) -> None:
    async with connect(server.ws("/channels/room:a")) as socket:
        assert await closed(socket) == (3500, "a token is required")


async def test_a_socket_is_closed_when_the_server_ends_its_subscription(server: Server) -> None:
    token = issue(SECRET, "zoe", expires_in=60)
    address = server.ws(f"/channels/room:a?token={token}")
    async with connect(address) as socket, httpx.AsyncClient() as http:
        await socket.send("received")
        assert await receive(socket) == "received"
        await http.post(server.http("/api/unsubscribe"), json={"user": "zoe", "channel": "room:a"})
        assert await closed(socket) == (3503, "force disconnect")


async def test_a_message_over_the_limit_closes_with_1009(server: Server) -> None:
    async with connect(url(server, "room:a")) as socket:
        await socket.send("x" * 70_000)
        assert (await closed(socket))[0] == 1009


def test_a_browsers_own_websocket_sends_and_receives(
    server: Server, browser: webdriver.Chrome, serve: Callable[..., Server], tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    page.write_text("<!doctype html><title>page</title>")
    browser.get(page.as_uri())
    browser.execute_script(
        """
        window.got = [];
        const socket = window.socket = new WebSocket(arguments[0]);
        socket.binaryType = "arraybuffer";
        socket.onmessage = ({ data }) => got.push(typeof data === "string" ? data : [...new Uint8Array(data)]);
        socket.onopen = () => { socket.send("text"); socket.send(new Uint8Array([1, 2, 255])); };
        """,
        url(server, "room:browser"),
    )
    wait_until(lambda: browser.execute_script("return got.length") == 2, 5, "two messages")
    assert browser.execute_script("return got") == ["text", [1, 2, 255]]
    assert console_errors(browser) == []
