"""Each proxy, as it is configured for two nodes, with clients of every transport. Deploys behind it: `tests/chaos`."""

import asyncio
import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
import socketio
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException
from websockets.typing import Subprotocol

from tests.tools.patience import eventually, seconds
from tests.tools.proxies import NAMES, proxied
from tests.tools.redis import redis
from tests.tools.serving import Server, serving


class Front(NamedTuple):
    """address: `host:port`. trust: of its certificate."""

    address: str
    trust: ssl.SSLContext
    nodes: list[Server]

    def http(self, path: str) -> str:
        return f"https://{self.address}{path}"


@pytest.fixture(scope="module", params=NAMES)
def front(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    with ExitStack() as stack:
        broker = stack.enter_context(redis())
        nodes = [stack.enter_context(serving("--dev", env={"FRESHET_ENGINE": broker.url})) for _ in range(2)]
        ports, folder = [node.port for node in nodes], tmp_path_factory.mktemp("proxy")
        yield Front(*stack.enter_context(proxied(request.param, ports, folder)), nodes)


async def publish(front: Front, number: int, channel: str = "news") -> None:
    async with httpx.AsyncClient() as http:
        place = {"channel": channel, "data": number}
        (await http.post(front.nodes[number % 2].http("/api/publish"), json=place)).raise_for_status()


async def test_websockets_are_spread_over_the_nodes_and_hear_all_of_them(front: Front) -> None:
    async with (
        connect(f"wss://{front.address}/channels/news", ssl=front.trust) as one,
        connect(f"wss://{front.address}/channels/news", ssl=front.trust) as two,
    ):
        async with httpx.AsyncClient() as http:
            infos = [(await http.post(node.http("/api/info"), json={})).json() for node in front.nodes]
        assert [info["result"]["nodes"][0]["num_clients"] for info in infos] == [1, 1]
        for number in range(4):
            await publish(front, number)
        for client in (one, two):
            assert [json.loads(await asyncio.wait_for(client.recv(), seconds(5))) for _ in range(4)] == [0, 1, 2, 3]


async def test_a_stream_is_passed_on_as_it_comes(front: Front) -> None:
    """Each is there before the next one is published: a proxy that waits for more would wait in vain."""
    headers = {"Accept": "text/event-stream"}
    async with (
        httpx.AsyncClient(verify=front.trust, timeout=seconds(10)) as http,
        http.stream("GET", front.http("/channels/news"), headers=headers) as stream,
    ):
        lines = stream.aiter_lines()
        while await anext(lines) != "event: subscribed":
            pass
        for number in range(3):
            await publish(front, number)
            while await anext(lines) != f"data: {number}":
                pass


async def test_long_polls_wait_and_are_answered(front: Front) -> None:
    async with httpx.AsyncClient(verify=front.trust, timeout=seconds(10)) as http:
        page = (await http.get(front.http("/channels/polled"), params={"limit": 0})).json()
        since = f"{page['epoch']}:{page['offset']}"
        asked = asyncio.create_task(http.get(front.http("/channels/polled"), params={"since": since, "wait": 5}))
        await asyncio.sleep(0.3)
        await publish(front, 1, "polled")
        assert [each["data"] for each in (await asked).json()["publications"]] == [1]


async def test_a_session_of_polls_is_known_whichever_node_a_request_meets(front: Front) -> None:
    """Each request by a connection of its own, so that they are spread over the nodes."""

    async def ask(method: str, content: str = "", **more: str) -> str:
        query = {"EIO": "4", "transport": "polling", **more}
        async with httpx.AsyncClient(verify=front.trust, timeout=seconds(10)) as http:
            answer = await http.request(method, front.http("/socket.io/"), params=query, content=content)
        assert answer.status_code == 200, answer.text
        return answer.text

    sid = json.loads((await ask("GET"))[1:])["sid"]
    assert await ask("POST", "40", sid=sid) == "ok"
    assert (await ask("GET", sid=sid)).startswith("40")
    for _ in range(10):
        assert await ask("POST", '42["nothing"]', sid=sid) == "ok"
    async with socketio.AsyncSimpleClient(ssl_verify=False) as client:  # the official one, too
        await client.connect(front.http("/"), transports=["polling"])
        assert client.connected


@pytest.mark.parametrize(
    "path",
    [
        *("/api/publish", "/api", "/api/", "/%61pi/publish", "//api/publish", "/a/../api/publish", "/api%2Fpublish"),
        *("/metrics", "/metrics?a", "/%6detrics", "/metrics/", "/x/../metrics"),
    ],
)
def test_neither_the_server_api_nor_metrics_are_for_everybody(front: Front, path: str) -> None:
    """However a path is written. The nodes of this test have them, and open, where clients connect."""
    for method in ("GET", "POST"):
        assert status(front, f"{method} {path}") in (400, 404)


def status(front: Front, request: str) -> int:
    """Of the response to a request line that no client library has tidied up."""
    method, _, path = request.partition(" ")
    body = '{"channel": "news", "data": 1}' if method == "POST" else ""
    host, _, port = front.address.partition(":")
    with (
        socket.create_connection((host, int(port)), seconds(5)) as plain,
        front.trust.wrap_socket(plain, server_hostname=host) as end,
    ):
        head = f"{method} {path} HTTP/1.1\r\nHost: {front.address}\r\nContent-Length: {len(body)}\r\n"
        end.sendall(f"{head}Content-Type: application/json\r\nConnection: close\r\n\r\n{body}".encode())
        return int(end.recv(4096).split(b" ")[1])


SECRETS = ("token-in-a-url", "token-in-a-header", "token-in-a-name", "token-in-a-connect")


async def ask_with_tokens(front: Front) -> None:
    """By each door through which a token can come."""
    async with httpx.AsyncClient(verify=front.trust, timeout=seconds(10)) as http:
        query, headers = {"token": SECRETS[0]}, {"Authorization": f"Bearer {SECRETS[1]}", "X-API-Key": SECRETS[1]}
        await http.get(front.http("/channels/news"), params={**query, "limit": 0}, headers=headers)
        await http.get(front.http("/nowhere"), params=query, headers={**headers, "Referer": f"https://a/?{SECRETS[0]}"})
        await http.get(front.http("/connection/sse"), params={"cf_connect": f'{{"token":"{SECRETS[3]}"}}'})
        await http.get(front.http("/api/info"), params=query, headers=headers)
    with suppress(WebSocketException):
        url = f"wss://{front.address}/connection/websocket?{'&'.join(f'{n}={s}' for n, s in enumerate(SECRETS))}"
        await connect(url, ssl=front.trust, subprotocols=[Subprotocol(SECRETS[2])])


@pytest.mark.parametrize("name", NAMES)
async def test_a_token_is_in_no_log_of_a_proxy_not_even_when_the_nodes_are_gone(name: str, tmp_path: Path) -> None:
    closed = "tokens.anonymous = false\n[[channels]]\nmatch = '*'\n"  # so that streams are refused, and end
    (tmp_path / "freshet.toml").write_text(closed)
    keys = {"FRESHET_SECRET": "of thirty-two characters, or more"}
    with ExitStack() as stack:
        nodes = [stack.enter_context(serving("--config", str(tmp_path / "freshet.toml"), env=keys)) for _ in range(2)]
        ports = [node.port for node in nodes]
        front = Front(*stack.enter_context(proxied(name, ports, tmp_path)), nodes)
        await ask_with_tokens(front)
        for node in nodes:
            node.kill()
        await ask_with_tokens(front)

        def logged() -> str:
            return "".join(path.read_text(errors="replace") for path in tmp_path.rglob("*.log"))

        await eventually(lambda: logged().count("/channels/news") >= 2, 5, "the requests to be logged")
        assert "502" in logged() or "503" in logged()
        for secret in SECRETS:
            assert secret not in logged()
        for node in nodes:
            assert not [secret for secret in SECRETS if secret in node.log()]
