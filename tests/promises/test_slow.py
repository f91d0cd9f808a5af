"""Clients that do not read in time, under each rule: what they get, and that nobody else notices."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import pairwise

import httpx
import pytest
from websockets.asyncio.client import connect

from freshet.errors import ConfigError
from freshet.rules.rules import ChannelRule
from tests.tools.clients import soon
from tests.tools.patience import eventually, seconds
from tests.tools.serving import Server, serving

CONFIG = """
[tokens]
anonymous = true
[api]
anonymous = true
[limits]
outbox = 200000
[[channels]]
match = "latest:*"
slow = "latest"
[[channels]]
match = "newest:*"
slow = "drop_oldest"
history = { size = 1000, ttl = 60 }
"""
PUBLICATIONS = 400
FILLING = "x" * 30_000  # 12 MB altogether: more than the kernel and the outbox take
KEYS = 4


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    config = tmp_path_factory.mktemp("slow") / "freshet.toml"
    config.write_text(CONFIG)
    with serving("--config", str(config)) as server:
        yield server


class Stream:
    """An event stream on a socket that is read only when the test wants."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    @asynccontextmanager
    async def opened(cls, server: Server, channel: str) -> AsyncIterator["Stream"]:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(f"GET /channels/{channel} HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n".encode())
        await asyncio.wait_for(reader.readuntil(b"event: subscribed"), seconds(5))
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        yield cls(reader, writer)
        writer.transport.abort()

    async def numbers(self, last: int) -> list[int]:
        """Of all publications that come, up to `last`."""
        self._writer.transport.resume_reading()  # type: ignore[attr-defined]
        found: list[int] = []
        while not found or found[-1] != last:
            line = await asyncio.wait_for(self._reader.readline(), seconds(5))
            assert line, "the stream ended"
            if line.startswith(b'data: {"number"'):
                found.append(json.loads(line[6:])["number"])
        return found


async def publish(server: Server, channel: str, count: int) -> None:
    async with httpx.AsyncClient(base_url=server.http(""), timeout=seconds(10)) as http:
        for number in range(count):
            entry = {
                "channel": channel,
                "data": {"number": number, "filling": FILLING},
                "tags": {"key": str(number % KEYS)},
            }
            assert "error" not in (await http.post("/api/publish", json=entry)).json()


async def read_late(server: Server, channel: str) -> list[int]:
    """What one gets who does not read while all is published. Another, who does, gets everything."""
    async with Stream.opened(server, channel) as stuck:
        async with connect(server.ws(f"/channels/{channel}"), max_size=None) as socket:
            await eventually(lambda: received(server, channel, 2), 5, "both subscriptions")
            reading = asyncio.create_task(read_until(socket, PUBLICATIONS - 1))
            await publish(server, channel, PUBLICATIONS)
            assert await soon(reading) == list(range(PUBLICATIONS))
        return await stuck.numbers(PUBLICATIONS - 1)


async def test_the_latest_of_each_key_reaches_who_reads_late(server: Server) -> None:
    late = await read_late(server, "latest:a")
    assert late == sorted(late)
    assert len(late) < PUBLICATIONS
    assert late[-KEYS:] == list(range(PUBLICATIONS - KEYS, PUBLICATIONS))


async def test_the_newest_for_which_there_is_room_reach_who_reads_late(server: Server) -> None:
    late = await read_late(server, "newest:a")
    assert late == sorted(late)
    assert len(late) < PUBLICATIONS
    gaps = [after for before, after in pairwise(late) if after != before + 1]
    assert len(gaps) == 1, "what the kernel took already, then what waited"
    assert len(late) - late.index(gaps[0]) >= 4  # the outbox has room for six


async def read_until(socket, last: int) -> list[int]:  # type: ignore[no-untyped-def]
    found: list[int] = []
    while not found or found[-1] != last:
        found.append(json.loads(await socket.recv())["number"])
    return found


async def test_several_of_one_key_in_one_turn_are_one(server: Server) -> None:
    async with connect(server.ws("/channels/latest:b")) as socket, httpx.AsyncClient(base_url=server.http("")) as http:
        await eventually(lambda: received(server, "latest:b", 1), 5, "the subscription")
        commands = [
            {"publish": {"channel": "latest:b", "data": number, "tags": {"key": str(number % 2)}}}
            for number in range(10)
        ]
        await http.post("/api/batch", json={"commands": commands})
        assert [int(await soon(socket.recv())) for _ in range(2)] == [8, 9]


async def published(server: Server, channel: str) -> bool:
    async with httpx.AsyncClient(base_url=server.http("")) as http:
        return bool((await http.get(f"/channels/{channel}", params={"since": "oldest"})).json()["publications"])


async def received(server: Server, channel: str, count: int) -> bool:
    async with httpx.AsyncClient(base_url=server.http("")) as http:
        channels = (await http.post("/api/channels", json={})).json()["result"]["channels"]
        return bool(channels.get(channel, {}).get("num_clients") == count)


def test_what_may_be_dropped_cannot_be_told_as_differences() -> None:
    with pytest.raises(ConfigError, match="slow: the rule 'a' has delta"):
        ChannelRule("a", delta=True, slow="latest")


async def test_what_a_socketio_client_may_miss_does_not_cost_it_its_line() -> None:
    with serving("tests.endpoints.socketio.kept_app:live") as server:
        url = server.ws("/socket.io/?EIO=4&transport=websocket")
        async with connect(url, max_size=None, max_queue=4) as socket:
            await soon(socket.recv())
            for said in ('40/shop,{"name":"slow"}', '42/shop,0["flood",3000]'):  # 30 MB
                await socket.send(said)
            await eventually(lambda: published(server, "log:flooded"), 20, "all to be emitted, while it does not read")
            numbers: list[int] = []
            while not numbers or numbers[-1] != 2999:
                packet = str(await soon(socket.recv()))
                if packet.startswith('42/shop,["drop",'):
                    numbers.append(json.loads(packet[8:])[1])
        assert numbers == sorted(numbers)
        assert len(numbers) < 3000
