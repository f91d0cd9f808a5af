"""A channel as a URL, with clients that know nothing but WebSocket."""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from selenium import webdriver
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from freshet.policy.tokens import issue
from tests.tools.browser import console_errors
from tests.tools.patience import seconds, wait_until
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
        async with httpx.AsyncClient() as http:
            for _ in range(100):  # until it listens
                await http.post(server.http("/api/publish"), json=request, headers={"x-api-key": "key"})
                with suppress(TimeoutError):
                    assert await asyncio.wait_for(socket.recv(), 0.05) == '"yours"'
                    break
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
        await socket.send("heard")
        assert await receive(socket) == "heard"
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
