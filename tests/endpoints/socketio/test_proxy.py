"""A WebSocket that reaches another node than the session that it is to take over, as nodes behind a balancer see it."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress

import httpx
import pytest
import socketio
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from freshet.endpoints.socketio.endpoint import UNKNOWN_SID
from tests.tools.patience import eventually, seconds
from tests.tools.ports import HOST
from tests.tools.redis import redis
from tests.tools.serving import Server, serving

APP = "tests.endpoints.socketio.kept_app:live"
POLLING = "/socket.io/?EIO=4&transport=polling"
EVENTS = 500


@contextmanager
def two() -> Iterator[tuple[Server, Server]]:
    with ExitStack() as stack:
        env = {"TEST_ENGINE": stack.enter_context(redis()).url}
        yield stack.enter_context(serving(APP, env=env)), stack.enter_context(serving(APP, env=env))


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[Server, Server]]:
    with two() as servers:
        yield servers


@pytest.fixture
def mortal() -> Iterator[tuple[Server, Server]]:
    """Two of the test's own, to be ended."""
    with two() as servers:
        yield servers


class Upgrading:
    """A client that opened its session at one server, by polls, and has a WebSocket at the other."""

    def __init__(self, http: httpx.AsyncClient, url: str, socket: ClientConnection) -> None:
        self.http = http
        self.url = url
        self.socket = socket

    async def probe(self) -> None:
        await self.socket.send("2probe")
        assert await self.receive() == "3probe"
        polled = "2"
        while polled == "2":  # on a busy machine it may be time for a heartbeat
            polled = (await self.http.get(self.url)).text
        assert polled == "6"  # so that the client can stop polling

    async def upgrade(self) -> None:
        await self.probe()
        await self.socket.send("5")
        await self.socket.send('42/shop,["forth",0]')
        assert await self.receive() == '42/shop,["back",0]'

    async def receive(self) -> str | bytes:
        """The next packet but for pings, which are answered."""
        while (packet := await asyncio.wait_for(self.socket.recv(), seconds(10))) == "2":
            await self.socket.send("3")
        return packet

    async def closed(self) -> None:
        """Wait until the server closes the socket."""
        with suppress(ConnectionClosed):
            while True:
                await self.receive()
        assert self.socket.close_code is not None


@asynccontextmanager
async def socket_at(server: Server, sid: str) -> AsyncIterator[ClientConnection]:
    url = server.ws(f"/socket.io/?EIO=4&transport=websocket&sid={sid}")
    async with connect(url, compression=None, close_timeout=seconds(1)) as socket:
        yield socket


@asynccontextmanager
async def upgrading(servers: tuple[Server, Server]) -> AsyncIterator[Upgrading]:
    one, two = servers
    async with httpx.AsyncClient(base_url=one.http(""), timeout=seconds(10)) as http:
        sid = json.loads((await http.get(POLLING)).text[1:])["sid"]
        url = f"{POLLING}&sid={sid}"
        assert (await http.post(url, content='40/shop,{"name":"alice"}')).text == "ok"
        assert (await http.get(url)).text.startswith("40/shop,")
        async with socket_at(two, sid) as socket:
            yield Upgrading(http, url, socket)


async def test_a_websocket_that_reaches_another_node_takes_the_session_over(servers: tuple[Server, Server]) -> None:
    async with upgrading(servers) as client:
        await client.upgrade()
        for number in range(EVENTS):
            await client.socket.send(f'42/shop,["forth",{number}]')
        assert [await client.receive() for _ in range(EVENTS)] == [f'42/shop,["back",{n}]' for n in range(EVENTS)]
        await client.socket.send('451-/shop,7["mirror",{"_placeholder":true,"num":0}]')
        await client.socket.send(b"\x00\xff")
        assert [await client.receive() for _ in range(2)] == [
            '461-/shop,7[[{"_placeholder":true,"num":0}]]',
            b"\x00\xff",
        ]
        assert (await client.http.get(client.url)).status_code == 400  # it has a WebSocket


async def test_what_was_queued_for_the_polls_comes_by_the_websocket(servers: tuple[Server, Server]) -> None:
    async with upgrading(servers) as client:
        await client.probe()
        big = "x" * 10_000
        for number in range(20):
            assert (await client.http.post(client.url, content=f'42/shop,{number}["mirror","{big}"]')).text == "ok"
        await client.socket.send("5")
        assert [await client.receive() for _ in range(20)] == [f'43/shop,{n}[["{big}"]]' for n in range(20)]


async def test_of_two_websockets_the_second_is_closed_and_the_first_goes_on(servers: tuple[Server, Server]) -> None:
    async with upgrading(servers) as client:
        await client.upgrade()
        for server in servers:
            async with socket_at(server, client.url.partition("sid=")[2]) as second:
                await Upgrading(client.http, client.url, second).closed()
        await client.socket.send('42/shop,["forth",1]')
        assert await client.receive() == '42/shop,["back",1]'


async def test_a_probe_that_is_given_up_leaves_the_session_with_its_polls(servers: tuple[Server, Server]) -> None:
    async with upgrading(servers) as client:
        await client.probe()
        await client.socket.close()
        polled = asyncio.create_task(client.http.get(client.url))
        assert (await client.http.post(client.url, content='42/shop,["forth",1]')).text == "ok"
        packets = (await polled).text
        while packets in ("6", "2"):
            packets = (await client.http.get(client.url)).text
        assert '42/shop,["back",1]' in packets


async def test_what_a_client_says_right_before_it_closes_is_taken(servers: tuple[Server, Server]) -> None:
    async with upgrading(servers) as stays, upgrading(servers[::-1]) as goes:
        for client in (stays, goes):
            await client.upgrade()
        await stays.socket.send('42/shop,1["enter","lot:1"]')
        assert await stays.receive() == "43/shop,1[]"
        await goes.socket.send('42/shop,["tell","lot:1",7]')
        await goes.socket.close()
        assert await stays.receive() == '42/shop,["price",7,"EUR"]'
        await eventually(lambda: _is_gone(goes), 5, "its end")


async def _is_gone(client: Upgrading) -> bool:
    return (await client.http.get(client.url)).json()["code"] == UNKNOWN_SID


async def test_when_the_node_of_the_session_dies_the_websocket_is_closed(mortal: tuple[Server, Server]) -> None:
    async with upgrading(mortal) as client:
        await client.upgrade()
        mortal[0].kill()
        await client.closed()


async def test_when_the_node_of_the_websocket_dies_the_session_ends(mortal: tuple[Server, Server]) -> None:
    async with upgrading(mortal) as client:
        await client.upgrade()
        mortal[1].kill()
        await eventually(lambda: _is_gone(client), 10, "the end of the session")


async def test_when_the_node_of_a_probe_dies_polls_wait_again(mortal: tuple[Server, Server]) -> None:
    """While a WebSocket probes, each is answered at once."""
    async with upgrading(mortal) as client:
        await client.probe()
        mortal[1].kill()

        async def waits() -> bool:
            packets = (await client.http.get(client.url)).text
            while packets == "2":
                await client.http.post(client.url, content="3")
                packets = (await client.http.get(client.url)).text
                if packets == "2":
                    return True  # from one ping to the next
            return False

        await eventually(waits, 30, "a poll that waits")


async def test_a_client_that_does_not_read_and_is_cut_leaves_nothing(mortal: tuple[Server, Server]) -> None:
    async with upgrading(mortal) as client:
        await client.upgrade()
        big = "x" * 50_000
        for number in range(100):
            await client.socket.send(f'42/shop,{number}["mirror","{big}"]')
        client.socket.transport.abort()
        await eventually(lambda: _is_gone(client), 10, "its end")
        assert [server.stop() for server in mortal] == [0, 0]
        assert "Traceback" not in "".join(server.log() for server in mortal)


async def test_a_node_that_stops_closes_both_halves(mortal: tuple[Server, Server]) -> None:
    async with upgrading(mortal) as client, upgrading(mortal[::-1]) as other:
        await client.upgrade()
        await other.upgrade()
        assert mortal[1].stop() == 0
        await client.closed()
        await other.closed()
        await eventually(lambda: _is_gone(client), 10, "the end of the session")


@pytest.mark.parametrize("at", [0, 1], ids=["of the session", "another"])
async def test_when_the_node_of_a_session_stops_a_websocket_that_was_to_probe_is_told_so_by_a_packet(
    mortal: tuple[Server, Server], at: int
) -> None:
    """The Python client never comes back if its WebSocket closes in place of the answer to its probe."""
    async with upgrading((mortal[0], mortal[at])) as client:
        stopping = asyncio.create_task(asyncio.to_thread(mortal[0].stop))
        assert await client.receive() == "6"
        await client.closed()
        assert await stopping == 0


async def test_for_a_session_that_is_gone_no_websocket_is_accepted(servers: tuple[Server, Server]) -> None:
    async with upgrading(servers) as client:
        await client.socket.close()
        await client.http.post(client.url, content="1")
        with pytest.raises(InvalidStatus) as caught:
            async with socket_at(servers[1], client.url.partition("sid=")[2]):
                pass
        assert caught.value.response.status_code == 400


async def test_the_official_client_upgrades_wherever_each_of_its_connections_arrives(
    servers: tuple[Server, Server],
) -> None:
    """One that connects to the two servers in turn, as behind a balancer that keeps nobody in one place."""
    turns = iter(range(1000))

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server = servers[next(turns) % 2]
        far_reader, far_writer = await asyncio.open_connection(server.host, server.port)
        await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))

    async with await asyncio.start_server(pass_on, HOST, 0) as balancer:
        port = balancer.sockets[0].getsockname()[1]
        for number in range(4):
            client = socketio.AsyncClient(reconnection=False)
            await client.connect(f"http://{HOST}:{port}", auth={"name": "alice"}, namespaces=["/shop"])
            assert client.transport() == "websocket"
            assert await client.call("bid", ("lot", number), "/shop") == {"lot": "lot", "amount": number}
            await client.disconnect()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()
