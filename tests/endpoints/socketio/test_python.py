"""Socket.IO by the official Python client, over each transport."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest
from socketio import AsyncClient
from socketio.exceptions import ConnectionError as ConnectionFailed

from tests.tools.clients import Listener, soon
from tests.tools.clients import connected as centrifuge_connected
from tests.tools.patience import eventually, seconds
from tests.tools.serving import Server, serving
from tests.transports.shells import shell


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving("tests.endpoints.socketio.kept_app:live") as server:
        yield server


@pytest.fixture(params=[["polling"], ["websocket"], ["polling", "websocket"]], ids="+".join)
def transports(request: pytest.FixtureRequest) -> list[str]:
    return list(request.param)


@asynccontextmanager
async def connected(
    server: Server, transports: list[str], namespace: str = "/shop", name: str = "python"
) -> AsyncIterator[tuple[AsyncClient, list[Any]]]:
    """A client, and the events that it gets there: lists of name and arguments."""
    client = AsyncClient(reconnection_delay=0.01, reconnection_delay_max=0.05)
    received: list[Any] = []

    @client.on("*", namespace=namespace)
    async def hear(event: str, *arguments: Any) -> None:
        received.append([event, *arguments])

    await client.connect(server.http(""), {}, {"name": name}, transports, [namespace], wait_timeout=seconds(5))
    try:
        yield client, received
    finally:
        await client.disconnect()


async def call(client: AsyncClient, event: str, data: Any, namespace: str = "/shop") -> Any:
    return await client.call(event, data, namespace=namespace, timeout=seconds(5))


async def test_sessions_and_namespaces_may_be_used_from_another_event_loop(
    server: Server, transports: list[str]
) -> None:
    async with connected(server, transports) as (client, received):
        client.on("confirm", lambda question: f"{question} yes", namespace="/shop")
        assert await call(client, "from a thread", "lot:thread") == "sure? yes"
        await eventually(lambda: len(received) == 4)
        assert [each[0] for each in received] == ["price", "price", "hint", "unsubscribed"]
        assert [each[1] for each in received[:3]] == [1, 2, 3]
        await client.emit("leave from a thread", namespace="/shop")
        await eventually(lambda: "/shop" not in client.namespaces)


OWN_TOKENS = """
from freshet import Disconnect, Freshet, SocketSession, Welcome

live = Freshet({options})

@live.namespace("/shop").on_connect
async def connect(session: SocketSession, auth: dict) -> Welcome | None:
    if session.user:
        return None
    if auth["token"] != "a token of our own":
        raise Disconnect.permission_denied("not you")
    return Welcome(user="alice")

@live.namespace("/shop").on("who")
async def who(session: SocketSession) -> str:
    return session.user

@live.namespace("/shop").on("token")
async def token(session: SocketSession) -> str:
    return live.token("bob")
"""


@pytest.mark.parametrize("options", ["", "dev=True"])
async def test_without_a_secret_a_token_of_the_applications_own_is_left_to_its_hook(
    options: str, serve: Callable[..., Server], tmp_path: Path
) -> None:
    (tmp_path / "own_tokens.py").write_text(OWN_TOKENS.format(options=options))
    server = serve("own_tokens:live", cwd=tmp_path)

    async def user(token: str, event: str = "who") -> Any:
        client = AsyncClient()
        await client.connect(server.http(""), {}, {"token": token}, namespaces=["/shop"], wait_timeout=seconds(5))
        try:
            return await client.call(event, namespace="/shop", timeout=seconds(5))
        finally:
            await client.disconnect()

    assert await user("a token of our own") == "alice"
    with pytest.raises(ConnectionFailed):
        await user("another")
    if options:
        assert await user(await user("a token of our own", "token")) == "bob"
    else:
        assert "no secret is set" not in server.log()


async def test_events_are_acknowledged_in_both_directions(server: Server, transports: list[str]) -> None:
    async with connected(server, transports) as (client, _):
        client.on("confirm", lambda question: f"{question} yes", namespace="/shop")
        assert await call(client, "bid", ("lot:1", 5)) == {"lot": "lot:1", "amount": 5}
        assert await call(client, "ask me", "sure?") == "sure? yes"
        assert await call(client, "bid", "lot:1") == {
            "error": {"code": 107, "message": "expected 2 arguments (lot, amount), got 1"}
        }


async def test_binary_values_go_both_ways(server: Server, transports: list[str]) -> None:
    async with connected(server, transports) as (client, _):
        assert await call(client, "mirror", ({"a": [b"\x00\xff", "b"]}, b"")) == [{"a": [b"\x00\xff", "b"]}, b""]


async def test_a_refusal_is_a_connect_error(server: Server, transports: list[str]) -> None:
    client, received = AsyncClient(), []
    client.on("connect_error", received.append, namespace="/shop")
    with pytest.raises(ConnectionFailed):
        await client.connect(server.http(""), {}, {"name": "nobody"}, transports, ["/shop"], wait_timeout=seconds(5))
    assert received == [{"message": "not you", "data": {"code": 4603}}]
    await client.disconnect()


async def test_who_is_refused_for_a_moment_comes_back_by_itself(server: Server, transports: list[str]) -> None:
    async with connected(server, transports, name=f"later {transports}") as (client, _):
        before = client.sid
        await client.emit("come later", namespace="/shop")
        await eventually(lambda: "/shop" in client.namespaces and client.sid != before, 10, "it to come back")


@pytest.mark.parametrize("host", ["freshet", "uvicorn"])
async def test_a_session_that_ends_while_its_client_upgrades_keeps_it_away_from_nothing(
    host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the server ends, or the client was too slow: its WebSocket is open, and it has not probed yet."""
    upgrade, ended = aiohttp.ClientSession.ws_connect, list[str]()

    async def ws_connect(http: aiohttp.ClientSession, url: str, **options: Any) -> Any:
        socket = await upgrade(http, url, **options)
        if not ended:
            ended.append(url)
            await http.post(
                url.replace("ws://", "http://").replace("transport=websocket", "transport=polling"), data="1"
            )
        return socket

    with shell(host, "tests.endpoints.socketio.kept_app:live", tmp_path) as server:
        async with connected(server, ["polling", "websocket"]) as (client, _):
            before = client.sid
            monkeypatch.setattr(aiohttp.ClientSession, "ws_connect", ws_connect)
            await client.emit("come later", namespace="/shop")
            await eventually(lambda: "/shop" in client.namespaces and client.sid != before, 10, "it to come back")
    assert ended


async def test_what_is_emitted_while_a_client_connects_comes_once_it_is_connected(
    server: Server, transports: list[str]
) -> None:
    client, received = AsyncClient(), []
    client.on("connect", lambda: received.append("connected"), namespace="/shop")
    client.on("greeting", received.append, namespace="/shop")
    auth = {"name": "python", "greet": True}
    await client.connect(server.http(""), {}, auth, transports, ["/shop"], wait_timeout=seconds(5))
    await eventually(lambda: received == ["connected", 1, 2], 5, "the greetings")
    await client.disconnect()


async def test_a_room_is_a_channel_for_every_dialect(server: Server, transports: list[str]) -> None:
    lot = f"lot:{'-'.join(transports)}"
    async with (
        connected(server, transports) as (client, received),
        centrifuge_connected(server, token="") as other,
    ):
        listener = Listener(other, lot)
        await listener.start()
        await call(client, "enter", lot)
        await call(client, "tell", (lot, 12))
        publication = (await soon(listener.publications.get())).pub
        assert (publication.data, publication.tags["event"]) == ([12, "EUR"], "price")
        await eventually(lambda: received == [["price", 12, "EUR"], ["all", 12]], 5, "the event")
        async with httpx.AsyncClient() as http:
            answer = await http.post(
                server.http("/api/publish"), json={"channel": lot, "data": 13, "tags": {"event": "price"}}
            )
        assert "result" in answer.json()
        await eventually(lambda: received[-1] == ["price", 13], 5, "the event")


async def test_a_method_is_called_by_an_event(server: Server, transports: list[str]) -> None:
    async with connected(server, transports, "/") as (client, _):
        assert await call(client, "add", [1, 2, 3], "/") == 6
        assert (await call(client, "add", "no list", "/"))["error"]["code"] == 107


async def test_who_missed_more_than_may_wait_for_a_client_gets_all_of_it(server: Server, transports: list[str]) -> None:
    channel = f"log:{'-'.join(transports)}"
    async with connected(server, transports) as (client, received):
        was = await call(client, "subscribe", channel)
        await call(client, "unsubscribe", channel)
        async with httpx.AsyncClient() as http:
            for number in range(30):  # three times `limits.outbox`
                data = {"channel": channel, "data": {"number": number, "filling": "x" * 100_000}}
                assert "result" in (await http.post(server.http("/api/publish"), json=data)).json()
        place = {"epoch": was["epoch"], "offset": was["offset"]}
        assert (await call(client, "subscribe", (channel, place)))["recovered"]
        await eventually(lambda: len(received) == 30, 5, "what was missed")
        assert [data["number"] for _, data in received] == list(range(30))
