"""Each proxy, as it is configured for two nodes, with clients of every transport. Deploys behind it: `tests/chaos`."""

import asyncio
import json
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from typing import NamedTuple

import httpx
import pytest
import socketio
from websockets.asyncio.client import connect

from tests.tools.patience import seconds
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
        for socket in (one, two):
            assert [json.loads(await asyncio.wait_for(socket.recv(), seconds(5))) for _ in range(4)] == [0, 1, 2, 3]


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


async def test_the_server_api_is_not_for_everybody(front: Front) -> None:
    async with httpx.AsyncClient(verify=front.trust) as http:
        answer = await http.post(front.http("/api/publish"), json={"channel": "news", "data": 1})
    assert answer.status_code == 404
