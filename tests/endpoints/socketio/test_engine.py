"""An Engine.IO line, from outside: the handshake, polls, the upgrade, and whoever does not keep to the protocol."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from freshet import Freshet
from tests.tools.clients import soon
from tests.tools.patience import eventually, seconds
from tests.tools.serving import Server, serving
from tests.transports.calls import called, request

OPEN = "/socket.io/?EIO=4&transport=polling"
QUICK = "tests.endpoints.socketio.quick_app:app"
CALM = "tests.endpoints.socketio.kept_app:live"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(CALM) as server:
        yield server


@pytest.fixture(scope="module")
def quick() -> Iterator[Server]:
    """Pings each 0.3 s, and wants the answer in 0.2 s."""
    with serving(QUICK) as server:
        yield server


@pytest.fixture
async def http(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=server.http(""), timeout=seconds(10)) as http:
        yield http


async def opened(http: httpx.AsyncClient) -> str:
    """The URL of a new line."""
    answer = await http.get(OPEN)
    assert answer.headers["content-type"] == "text/plain; charset=UTF-8"
    return f"{OPEN}&sid={json.loads(answer.text[1:])['sid']}"


async def joined(http: httpx.AsyncClient, namespace: str = "/shop") -> str:
    url = await opened(http)
    assert (await http.post(url, content=f'40{namespace},{{"name":"raw"}}')).text == "ok"
    assert (await http.get(url)).text.startswith(f"40{namespace},")
    return url


async def socket_of(server: Server, query: str = "") -> ClientConnection:
    url = server.ws(f"/socket.io/?EIO=4&transport=websocket{query}")
    return await connect(url, compression=None)


async def closed(socket: ClientConnection, *, answers_pings: bool = False) -> None:
    """Read until the server closes it."""

    async def read() -> None:
        async for packet in socket:
            if packet == "2" and answers_pings:
                await socket.send("3")

    with suppress(ConnectionClosed):
        await soon(read())


async def gone(http: httpx.AsyncClient, url: str) -> bool:
    answer = await http.get(url)
    return answer.status_code == 400 and answer.json()["code"] == 1


@pytest.mark.parametrize(
    ("method", "url", "code"),
    [
        ("GET", "/socket.io/", 0),
        ("GET", "/socket.io/?EIO=4&transport=carrier", 0),
        ("GET", "/socket.io/?transport=polling", 5),
        ("GET", "/socket.io/?EIO=3&transport=polling", 5),
        ("GET", f"{OPEN}&sid=unknown", 1),
        ("POST", f"{OPEN}&sid=unknown", 1),
        ("POST", OPEN, 2),
        ("PUT", OPEN, 2),
    ],
)
async def test_what_cannot_be_opened_is_refused_with_its_number(
    http: httpx.AsyncClient, method: str, url: str, code: int
) -> None:
    answer = await http.request(method, url)
    assert (answer.status_code, answer.json()["code"]) == (400, code)


async def test_a_page_of_another_origin_is_refused_or_may_read(http: httpx.AsyncClient) -> None:
    answer = await http.get(OPEN, headers={"Origin": "https://page.example"})
    assert answer.headers["access-control-allow-origin"] == "https://page.example"
    answer = await http.options(OPEN, headers={"Origin": "https://page.example"})
    assert (answer.status_code, answer.headers["access-control-allow-methods"]) == (204, "GET, POST, OPTIONS")


async def test_two_polls_at_once_end_the_line(http: httpx.AsyncClient) -> None:
    url = await joined(http)
    first = asyncio.create_task(http.get(url))
    second = await http.get(f"{url}&t=2")
    polls = [await soon(first), second]
    assert sorted(answer.status_code for answer in polls) == [200, 400]
    assert next(answer.text for answer in polls if answer.status_code == 200) == "1"
    assert await gone(http, url)


async def test_a_poll_that_is_given_up_ends_the_line(http: httpx.AsyncClient) -> None:
    url = await joined(http)
    with pytest.raises(httpx.ReadTimeout):
        await http.get(url, timeout=httpx.Timeout(seconds(5), read=0.05))
    await eventually(lambda: gone(http, url), 5, "the line to end")


@pytest.mark.parametrize(
    "body", [b"", b"abc", b"4\xff", b"b!", b"\x1e", b"2", b"5", b"4{", b"42[]", b'451000000-["a"]']
)
async def test_a_malformed_body_ends_the_line_and_no_other(http: httpx.AsyncClient, body: bytes) -> None:
    url, other = await joined(http), await joined(http)
    await http.post(url, content=body)
    assert await gone(http, url)
    assert (await http.post(other, content='42/shop,1["bid","lot:1",2]')).text == "ok"
    assert (await http.get(other)).text == '43/shop,1[{"lot":"lot:1","amount":2}]'


async def test_a_body_that_is_too_large_is_refused(http: httpx.AsyncClient) -> None:
    url = await joined(http)
    answer = await http.post(url, content=b"4" + b"x" * 1_000_000)
    assert (answer.status_code, answer.json()["message"]) == (413, "At most 1000000 bytes, see limits.packet_size.")
    assert (await http.post(url, content='42/shop,1["bid","lot:1",2]')).text == "ok"


async def test_half_a_binary_event_and_then_another_ends_the_line(server: Server) -> None:
    async with await socket_of(server) as socket:
        await socket.recv()
        await socket.send("40/shop," + json.dumps({"name": "raw"}))
        await socket.recv()
        await socket.send('452-/shop,["mirror",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]')
        await socket.send(b"one")
        await socket.send('42/shop,["forth",1]')
        await closed(socket)


async def test_pongs_cost_nothing(server: Server) -> None:
    async with await socket_of(server) as socket:
        await socket.recv()
        await socket.send("40/shop," + json.dumps({"name": "raw"}))
        await socket.recv()
        for _ in range(10_000):
            await socket.send("3")
        await socket.send('42/shop,7["bid","lot:1",2]')
        answers: list[Any] = []
        while not any(str(answer).startswith("43") for answer in answers):
            answers.append(await soon(socket.recv()))
        assert answers[-1] == '43/shop,7[{"lot":"lot:1","amount":2}]'


async def test_what_waits_while_a_client_upgrades_arrives_once_and_in_order(
    server: Server, http: httpx.AsyncClient
) -> None:
    url = await joined(http)
    sid = url.rpartition("=")[2]
    got: list[str] = []
    async with await socket_of(server, f"&sid={sid}") as socket:
        waiting = asyncio.create_task(http.get(url))
        await socket.send("2probe")
        assert await soon(socket.recv()) == "3probe"
        assert (await soon(waiting)).text == "6"
        await http.post(url, content="\x1e".join(f'42/shop,["forth",{number}]' for number in range(100)))
        poll = (await http.get(url)).text
        got += poll.split("\x1e")
        assert len(got) <= 16
        await socket.send("5")
        while len(got) < 100:
            got.append(str(await soon(socket.recv())))
        assert [packet for packet in got if packet != "6"] == [f'42/shop,["back",{number}]' for number in range(100)]
        assert (await http.get(url)).status_code == 400
        async with await socket_of(server, f"&sid={sid}") as late:
            await closed(late)


async def test_who_does_not_answer_pings_is_gone(quick: Server) -> None:
    async with (
        httpx.AsyncClient(base_url=quick.http(""), timeout=seconds(10)) as http,
        await socket_of(quick) as socket,
    ):
        await socket.send("40")
        url = await opened(http)
        await eventually(lambda: gone(http, url), 5, "the line to end")
        await closed(socket)


async def test_a_line_on_which_nobody_connects_is_closed(quick: Server) -> None:
    async with await socket_of(quick) as socket:
        await closed(socket, answers_pings=True)


async def test_the_end_of_the_server_answers_a_poll_on_which_nobody_has_connected() -> None:
    live = Freshet(dev=True, environment={})
    async with live.lifespan():
        async with called(live, request("GET", OPEN)) as call:
            sid = json.loads((await call.response())[2][1:])["sid"]
        async with called(live, request("GET", f"{OPEN}&sid={sid}")) as poll:
            await eventually(lambda: any(task.get_name() == "request: disconnect" for task in asyncio.all_tasks()))
            await live.drain()
            status, _, body = await poll.response()
            assert (status, json.loads(body)["code"]) == (400, 1)
