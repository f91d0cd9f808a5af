"""One application, every shell: our own, and any ASGI server's."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from websockets.asyncio.client import connect, unix_connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from freshet.policy.tokens import issue
from tests.tools.clients import SECRET, soon
from tests.tools.patience import eventually, seconds
from tests.tools.serving import Server, serving
from tests.transports.shells import SHELLS, WebSocketLink, shell

APP = "tests.transports.fastapi_app:api"


@pytest.fixture(scope="module", params=SHELLS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with shell(request.param, APP, tmp_path_factory.mktemp(request.param)) as server:
        yield server


def live(server: Server) -> str:
    return server.ws("/live/connection/websocket")


async def test_publications_reach_subscribers_and_hooks_do_their_work(server: Server) -> None:
    async with connect(live(server)) as socket:
        talk = WebSocketLink(socket)
        await talk.ask(connect={"token": issue(SECRET, "alice", expires_in=60)})
        assert "subscribe" in await talk.ask(subscribe={"channel": "chat:lobby"})
        assert "publish" in await talk.ask(publish={"channel": "chat:lobby", "data": {"text": "hello"}})
        data = (await talk.push())["pub"]["data"]
        assert data == {"text": "HELLO", "from": "alice", "room": "lobby"}
        assert (await talk.ask(rpc={"method": "order", "data": {"number": 6}}))["rpc"]["data"] == {"number": 7}


async def test_a_refusal_reaches_the_client_and_any_other_exception_is_an_internal_error(server: Server) -> None:
    async with connect(live(server)) as socket:
        talk = WebSocketLink(socket)
        refused = await talk.ask(connect={"token": issue(SECRET, "alice", expires_in=60), "data": "refuse"})
        assert (refused["error"]["code"], refused["error"]["message"]) == (101, "not today")
        await talk.ask(connect={"token": issue(SECRET, "alice", expires_in=60)})
        closed = await talk.ask(subscribe={"channel": "chat:closed"})
        assert (closed["error"]["code"], closed["error"]["message"]) == (1001, "not a member")
        await talk.ask(subscribe={"channel": "chat:lobby"})
        crashed = await talk.ask(publish={"channel": "chat:lobby", "data": {"text": "crash"}})
        assert crashed["error"]["message"] == "internal server error"
        wrong = await talk.ask(publish={"channel": "chat:lobby", "data": {"txt": "typo"}})
        assert wrong["error"]["code"] == 107
        assert "text" in wrong["error"]["message"]
        wrong = await talk.ask(rpc={"method": "order", "data": {"number": "many"}})
        assert wrong["error"]["code"] == 107
        server.wait_for_log("RuntimeError: a mistake of the user's")


async def test_a_hook_may_say_who_a_client_is_and_what_it_hears(server: Server) -> None:
    async with connect(live(server)) as socket, httpx.AsyncClient() as http:
        talk = WebSocketLink(socket)
        answer = (await talk.ask(connect={"data": "guest"}))["connect"]
        assert answer["data"] == {"hello": "guest"}
        assert list(answer["subs"]) == ["news"]
        posted = (await http.post(server.http("/news/9"))).json()
        assert (await talk.push())["pub"] == {"data": {"number": 9}, "offset": posted["offset"]}

    async def told() -> bool:
        async with httpx.AsyncClient() as http:
            return "guest" in (await http.get(server.http("/gone"))).json()

    await eventually(told, 10, "on_disconnect to be called")


@pytest.mark.parametrize("way", ["sync", "run"])
async def test_what_plain_functions_publish_from_threads_arrives_and_nobody_goes_deaf(way: str, server: Server) -> None:
    async with connect(live(server)) as socket, httpx.AsyncClient() as http:
        talk = WebSocketLink(socket)
        await talk.ask(connect={"data": "guest"})
        answers = await asyncio.gather(*(http.post(server.http(f"/news/{number}/{way}")) for number in range(20)))
        offsets = {number: answer.json()["offset"] for number, answer in enumerate(answers)}
        got = [(await talk.push())["pub"] for _ in answers]
        assert [it["offset"] for it in got] == sorted(offsets.values())
        assert {it["data"]["number"]: it["offset"] for it in got} == offsets
        await http.post(server.http("/news/99"))
        assert (await talk.push())["pub"]["data"] == {"number": 99}


async def test_a_route_of_the_users_own_still_works(server: Server) -> None:
    async with connect(server.ws("/echo"), subprotocols=["own.v1"]) as socket:
        assert socket.subprotocol == "own.v1"
        assert socket.response is not None
        assert socket.response.headers.get("x-own") == "yes" or "granian" in server.log().lower()  # it drops them
        for message in ("hello", "x" * 200_000, "é"):
            await socket.send(message)
            assert await soon(socket.recv()) == message
        await socket.send("bye")
        with pytest.raises(ConnectionClosed):
            await soon(socket.recv())
        assert (socket.close_code, socket.close_reason) == (4001, "as you wish")


async def test_a_route_of_the_users_own_may_refuse(server: Server) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await connect(server.ws("/echo?refuse"))
    assert refused.value.response.status_code in (418, 403)  # not every server lets a status through


async def test_under_our_own_server_a_crash_in_a_users_route_closes_with_1011(tmp_path: Path) -> None:
    with shell("freshet", APP, tmp_path) as server:
        async with connect(server.ws("/echo")) as socket:
            await socket.send("crash")
            with pytest.raises(ConnectionClosed):
                await soon(socket.recv())
            assert socket.close_code == 1011
        with pytest.raises(InvalidStatus) as missing:
            await connect(server.ws("/nowhere"))
        assert missing.value.response.status_code in (403, 404)
        server.wait_for_log("a mistake of the user's")


async def test_an_application_that_forgot_the_lifespan_starts_at_the_first_request(tmp_path: Path) -> None:
    (tmp_path / "forgetful.py").write_text(
        "from starlette.applications import Starlette\n"
        "from starlette.routing import Mount\n"
        "from freshet import Freshet\n"
        "live = Freshet(dev=True)\n"
        "app = Starlette(routes=[Mount('/live', live)])\n"
    )
    with serving("forgetful:app", cwd=tmp_path) as server:
        for _ in range(2):
            async with connect(live(server)) as socket:
                assert "connect" in await WebSocketLink(socket).ask(connect={})
        await eventually(lambda: server.log().count("lifespan=live.lifespan") == 1, 5, "one warning")


@pytest.mark.parametrize("name", SHELLS)
async def test_every_name_of_a_channel_has_a_url_on_every_server(name: str, tmp_path: Path) -> None:
    with shell(name, "tests.transports.open_app:live", tmp_path) as server:
        async with httpx.AsyncClient(base_url=server.http(""), timeout=seconds(5)) as http:
            for channel in ("a\n", "a\r\nb", "/a//b/", "%2F", "?a=1", "#a", "é 日\U0001f600", "a/../b"):
                for form in ("/channels/{}", "/channels?channel={}"):
                    url = form.format(quote(channel, safe=""))
                    async with connect(server.ws(url)) as socket:
                        async with http.stream("GET", url, headers={"accept": "text/event-stream"}) as stream:
                            lines = stream.aiter_lines()
                            while not (await soon(anext(lines))).startswith("event: subscribed"):
                                pass
                        assert (await http.post(url, content=b"7")).status_code == 200
                        assert await soon(socket.recv()) == "7"
                    page = (await http.get(url)).json()
                    assert page["publications"][0]["data"] == 7


async def test_over_a_unix_socket_a_client_has_no_address(tmp_path: Path) -> None:
    """An ASGI server gives none there, or one without a port."""
    path = str(tmp_path / "socket")
    with shell("uvicorn", "tests.transports.open_app:live", tmp_path, "--uds", path, answers=Path(path).exists):
        async with unix_connect(path, "ws://localhost/channels/a") as link:
            await link.send("hello")
            assert await soon(link.recv()) == "hello"
        async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=path)) as http:
            page = (await http.get("http://localhost/channels/a")).json()
            assert [each["data"] for each in page["publications"]] == ["hello"]
