"""What the metrics say of clients that are late, come back, are refused or sent away: on each engine, with one worker
and with several. A server lasts for all tests; each compares what it added."""

import asyncio
import json
import socket
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect

from tests.ops.figures import DELAY, Figures, engine_of, figures, talking
from tests.tools.patience import eventually, seconds
from tests.tools.serving import Server, serving

OUTBOX = 200_000
FILLING = "x" * 60_000
PUBLICATIONS = 110  # 6.6 MB: more than the kernel and the outbox take
KEYS = 2
CONFIG = f"""
[tokens]
anonymous = true
[api]
anonymous = true
[metrics]
anonymous = true
[timing]
ping_interval = 60
pong_timeout = 30
close_timeout = 0.5
[limits]
outbox = {OUTBOX}
frame_size = 100_000
[rates]
history = {{ rate = 0.001, burst = 2 }}
channel = {{ rate = 0, burst = 0 }}
[[channels]]
match = "/shop"
history = {{ size = 100, ttl = 60 }}
[[channels]]
match = "late"
[[channels]]
match = "log"
history = {{ size = 100, ttl = 60 }}
read = "client"
[[channels]]
match = "latest"
slow = "latest"
[[channels]]
match = "newest"
slow = "drop_oldest"
[[channels]]
match = "closed"
subscribe = "nobody"
[[channels]]
match = "every"
"""


@pytest.fixture(scope="module", params=["memory", "redis", "nats"])
def engine(request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """Its name and URL; everything waits on the way to a broker and back."""
    with engine_of(request.param) as (url, relay):
        if relay is not None:
            relay.delay(DELAY, DELAY * 1.2)
        yield request.param, url


@pytest.fixture(scope="module", params=[1, 4])
def server(
    request: pytest.FixtureRequest, engine: tuple[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("late")
    (folder / "freshet.toml").write_text(
        f'engine = "{engine[1]}"\n[rooms]\nstore = "sqlite:///{folder}/rooms.db"\n{CONFIG}'
    )
    workers = ("--workers", str(request.param)) if request.param > 1 else ()
    with serving("tests.ops.figures_app:live", *workers, env={"TEST_CONFIG": str(folder / "freshet.toml")}) as server:
        yield server


async def publish(server: Server, channel: str, count: int) -> None:
    """Three at a time, which together fit into an outbox; the last one comes behind all others."""

    async def one(number: int) -> None:
        data = {"number": number, "filling": FILLING}
        entry = {"channel": channel, "data": data, "tags": {"key": str(number % KEYS)}}
        assert "error" not in (await http.post("/api/publish", json=entry)).json()

    async with httpx.AsyncClient(base_url=server.http(""), timeout=seconds(20)) as http:
        for first in range(0, count - 1, 3):
            await asyncio.gather(*(one(number) for number in range(first, min(first + 3, count - 1))))
        await one(count - 1)


class Late:
    """An event stream that is read only when the test wants."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def rest(self, last: int) -> list[int]:
        """The numbers of all publications that come, up to `last` or the end."""
        self._writer.transport.resume_reading()  # type: ignore[attr-defined]
        found: list[int] = []
        while not found or found[-1] != last:
            line = await asyncio.wait_for(self._reader.readline(), seconds(10))
            if not line.endswith(b"\n") or line.startswith(b"event: disconnect"):  # it may be cut in the middle
                break
            if line.startswith(b'data: {"number"'):
                found.append(json.loads(line[6:])["number"])
        return found


@asynccontextmanager
async def late(server: Server, channel: str) -> AsyncIterator[Late]:
    link = socket.socket()
    link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)  # the kernel takes less for it
    link.setblocking(False)
    await asyncio.get_running_loop().sock_connect(link, (server.host, server.port))
    reader, writer = await asyncio.open_connection(sock=link)
    writer.write(f"GET /channels/{channel} HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n".encode())
    await asyncio.wait_for(reader.readuntil(b"event: subscribed"), seconds(5))
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    try:
        yield Late(reader, writer)
    finally:
        writer.transport.abort()


async def settled(server: Server, name: str, value: float, **labels: str) -> Figures:
    """The figures, once this one is so."""

    async def there() -> Figures | None:
        now = await figures(server)
        return now if now(name, **labels) == value else None

    return await eventually(there, 20, f"{name} to be {value}")


# -------------------------------------------------------------------------------------------------- who does not read


@pytest.mark.parametrize(("channel", "counted"), [("latest", "conflated"), ("newest", "dropped")])
async def test_what_a_late_client_did_not_get_is_counted_as_what_became_of_it(
    server: Server, channel: str, counted: str
) -> None:
    before = await figures(server)
    async with late(server, channel) as reader:
        await settled(server, "subscriptions", 1)
        await publish(server, channel, PUBLICATIONS)
        during = await settled(server, "fanned_out_total", before("fanned_out_total") + PUBLICATIONS)
        assert OUTBOX / 2 <= during("outbox_bytes") == during("outbox_largest_bytes") <= OUTBOX
        assert during("clients_behind") == 1
        came = await reader.rest(PUBLICATIONS - 1)
        added = (await figures(server)).since(before)
        assert added("dropped_total") + added("conflated_total") == added(f"{counted}_total") > 0
        assert added(f"{counted}_total") == PUBLICATIONS - len(came)
        assert added("delivered_total") == added("delivery_latency_seconds_count") == PUBLICATIONS
        assert (await figures(server))("outbox_bytes") == 0
    await settled(server, "clients", 0)


async def test_a_slow_client_is_counted_as_one_that_was_disconnected_for_that(server: Server) -> None:
    before = await figures(server)
    async with late(server, "log") as reader, talking(server, 2) as others:
        for each in others:
            await each.ask(subscribe={"channel": "log"})
        await settled(server, "subscriptions", 3)
        await publish(server, "log", PUBLICATIONS)
        await eventually(lambda: sum(it.heard for it in others) == 2 * PUBLICATIONS, 20, "what the others get")
        now = await settled(server, "clients", 2)
        assert len(await reader.rest(PUBLICATIONS - 1)) < PUBLICATIONS
        assert now.since(before).by("ended_total", "code") == {"3008": 1}
        assert now("outbox_bytes") == now("clients_behind") == 0
    await settled(server, "clients", 0)


async def test_memory_of_a_client_is_what_the_process_grew_by_for_each(server: Server) -> None:
    before = await figures(server)
    async with talking(server, 150):
        now = await settled(server, "clients", 150)
        by_worker = {it.labels["worker"]: it.value for it in now.samples if it.name == "freshet_client_memory_bytes"}
        clients = now.by("clients", "worker")
        grown = sum(by_worker[worker] * number for worker, number in clients.items())
        assert grown >= now("memory_bytes") - before("memory_bytes") > 0  # what it had grown by before them counts too
        assert grown < now("memory_bytes")
    await settled(server, "clients", 0)


# --------------------------------------------------------------------------------------------------------- how late


async def test_a_delay_shows_in_the_percentiles(server: Server) -> None:
    """Of the loop of the client's own process; and of the way to a broker, if there is one."""
    before = await figures(server)
    async with talking(server, 1) as (talker,):
        await talker.ask(subscribe={"channel": "late"})
        for number in range(20):
            await talker.ask(rpc={"method": "late", "data": number})
        await eventually(lambda: talker.heard == 20, 20, "all publications")
        added = (await figures(server)).since(before)
        assert added("delivery_latency_seconds_count") == added("delivered_total") == 20
        for share in (0.5, 0.95):
            below, _ = added.quantile(share, "delivery_latency_seconds")
            assert below >= 0.025
    await settled(server, "clients", 0)


@pytest.mark.parametrize("channel", ["room:a", "board", "chat:a"])
async def test_what_a_room_a_state_and_a_run_send_is_measured_as_any_publication(
    server: Server, channel: str, engine: tuple[str, str]
) -> None:
    said = {"room:a": 7, "board": {"key": "a", "value": 7}, "chat:a": {"text": "hello"}}[channel]
    async with talking(server, 4) as talkers:
        for each in talkers:
            await each.ask(subscribe={"channel": channel})
        before = await figures(server)  # how a state is told to who comes is the reply's business
        reply = await talkers[0].ask(publish={"channel": channel, "data": said})
        assert "error" not in reply, reply
        await eventually(
            lambda: all(it.heard >= (2 if channel == "board" else 1) for it in talkers), 20, "what is sent"
        )

        async def measured() -> Figures | None:
            added = (await figures(server)).since(before)
            every = added("delivery_latency_seconds_count") == added("delivered_total") >= 4
            return added if every else None

        added = await eventually(measured, 10, "as many times as deliveries")
        if engine[0] != "memory":
            below, _ = added.quantile(0.05, "delivery_latency_seconds")
            assert below >= 0.025
    await settled(server, "clients", 0)


# ------------------------------------------------------------------------------------------------------ who comes back


async def test_a_socketio_client_that_resumes_is_counted_as_one_that_came_back(server: Server) -> None:
    before = await figures(server)
    opened: dict[str, Any] = {}
    offset = ""
    async with connect(server.ws("/socket.io/?EIO=4&transport=websocket")) as first:
        await first.recv()
        await first.send("40/shop,{}")
        opened = json.loads(str(await first.recv()).removeprefix("40/shop,"))
        async with httpx.AsyncClient(timeout=seconds(10)) as http:
            entry = {"channel": "/shop", "data": "hello", "tags": {"event": "news"}}
            assert "result" in (await http.post(server.http("/api/publish"), json=entry)).json()
        offset = json.loads(str(await asyncio.wait_for(first.recv(), seconds(5))).removeprefix("42/shop,"))[-1]
        first.transport.abort()
    await settled(server, "clients", 0)
    async with connect(server.ws("/socket.io/?EIO=4&transport=websocket")) as second:
        await second.recv()
        await second.send("40/shop," + json.dumps({"pid": opened["pid"], "offset": offset}))
        again = json.loads(str(await asyncio.wait_for(second.recv(), seconds(5))).removeprefix("40/shop,"))
        assert again["sid"] == opened["sid"]
        added = (await figures(server)).since(before)
        assert added.by("connected_total", "dialect") == {"socketio": 2}
        assert added.by("reconnected_total", "dialect") == {"socketio": 1}
    await settled(server, "clients", 0)


@pytest.mark.parametrize("transport", ["websocket", "http"])
async def test_who_says_in_the_url_where_it_stood_is_counted_as_one_that_came_back(
    server: Server, transport: str
) -> None:
    before = await figures(server)
    async with httpx.AsyncClient(timeout=seconds(10), base_url=server.http("")) as http:
        for number in range(2):
            assert "result" in (await http.post("/api/publish", json={"channel": "every", "data": number})).json()
            assert "result" in (await http.post("/api/publish", json={"channel": "log", "data": number})).json()
        answer = await http.get("/channels/log")
        assert answer.status_code == 200, answer.text
        since = "{epoch}:{offset}".format_map(answer.json())
        if transport == "websocket":
            async with connect(server.ws(f"/channels/log?since={since}")):
                await settled(server, "subscriptions", 1)
        else:
            assert (await http.get(f"/channels/log?since={since}")).status_code == 200
    added = (await figures(server)).since(before)
    assert added.by("reconnected_total", "transport") == {transport: 1}
    await settled(server, "clients", 0)


# ------------------------------------------------------------------------------------------------------ who is refused


async def test_errors_are_counted_by_the_code_that_the_client_got(server: Server) -> None:
    before = await figures(server)
    wishes: list[dict[str, Any]] = [
        {"subscribe": {"channel": "nobody's"}},
        {"subscribe": {"channel": "closed"}},
        {"subscribe": {"channel": "x" * 300}},
        {"publish": {"channel": "log", "data": 1}},
        {"rpc": {"method": "no such"}},
        {"rpc": {"method": "break"}},
        {"history": {"channel": "every"}},
        *[{"history": {"channel": "log", "limit": 1}}] * 3,
    ]
    async with talking(server, 1) as (talker,):
        replies = [await talker.ask(**wish) for wish in wishes]
        codes = Counter(str(reply["error"]["code"]) for reply in replies if "error" in reply)
        assert {"100", "102", "103", "104", "111"} <= set(codes)
        added = (await figures(server)).since(before)
        assert added.by("refusals_total", "code") == codes
        assert added.by("policy_refusals_total", "policy") == {"rights": 3, "rates": 2}
    await settled(server, "clients", 0)


async def test_ends_are_counted_by_the_code_that_the_client_got(server: Server) -> None:
    before = await figures(server)
    async with talking(server, 4) as (malformed, early, large, well):
        await malformed.say("no JSON")
        await early.say('{"id": 9, "connect": {}}')
        await large.say(" " * 110_000)
        codes = Counter([str(await each.ended()) for each in (malformed, early, large)])
        await well.close()
        now = await settled(server, "clients", 0)
        ended = now.since(before).by("ended_total", "code")
        assert ended == codes + Counter({"3000": 1})
