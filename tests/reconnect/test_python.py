"""The official Python clients, and a browser, come back at the edge of the limits too."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import httpx
import pytest
import socketio
from centrifuge import Client, SubscriptionState
from selenium import webdriver

from freshet.policy.tokens import issue
from tests.ops.figures import figures
from tests.promises.cutting import Line
from tests.reconnect.edge_app import SECRET
from tests.tools.patience import eventually, seconds, wait_until
from tests.tools.relay import relaying
from tests.tools.serving import Server, serving

COUNT = 128
PADDING = "p" * 12_000


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving("tests.reconnect.edge_app:live") as server:
        yield server


@asynccontextmanager
async def line_to(server: Server) -> AsyncIterator[Line]:
    line = Line(server.port)
    async with line.laid():
        yield line


async def publish(server: Server, channels: list[str], data: Any) -> None:
    async with httpx.AsyncClient(timeout=seconds(10)) as http:
        answer = await http.post(server.http("/api/broadcast"), json={"channels": channels, "data": data})
    assert "result" in answer.json()


@pytest.mark.parametrize("protobuf", [False, True])
async def test_centrifuge_python_comes_back_to_all_channels_with_the_largest_tokens(
    server: Server, protobuf: bool
) -> None:
    channels = [f"room:{uuid4().hex}" for _ in range(COUNT)]
    got: dict[str, int] = dict.fromkeys(channels, 0)
    query = "?format=protobuf" if protobuf else ""
    async with line_to(server) as line:
        address = f"ws://127.0.0.1:{line.port}/connection/websocket{query}"
        client = Client(
            address, token=issue(SECRET, "u"), use_protobuf=protobuf, min_reconnect_delay=0.01, max_reconnect_delay=0.1
        )
        subscriptions = []
        for channel in channels:
            token = issue(SECRET, "u", channel=channel, claims={"padding": PADDING})
            subscription = client.new_subscription(channel, token=token)

            async def note(context: Any, channel: str = channel) -> None:
                got[channel] += 1

            subscription.events.on_publication = note
            subscriptions.append(subscription)
            await subscription.subscribe()
        await client.connect()
        await eventually(lambda: all(it.state is SubscriptionState.SUBSCRIBED for it in subscriptions), 15)
        for round_ in (1, 2):
            line.cut()
            await publish(server, channels, 1)
            await eventually(lambda round_=round_: set(got.values()) == {round_}, 15, "what was missed")  # type: ignore[misc]
        await client.disconnect()


@pytest.mark.parametrize("transport", ["polling", "websocket"])
async def test_python_socketio_says_thousands_of_events_at_once_and_they_arrive_in_order(
    server: Server, transport: str
) -> None:
    async with line_to(server) as line:
        client = socketio.AsyncClient(reconnection_delay=0.01, reconnection_delay_max=0.05)
        await client.connect(f"http://127.0.0.1:{line.port}", transports=[transport])
        who = uuid4().hex
        for burst in (1, 2):
            for number in range(2000):
                await client.emit("note", (who, number))
            assert await client.call("notes", who, timeout=seconds(10)) == list(range(2000)) * burst
            line.cut()
            sid = client.sid
            await eventually(lambda sid=sid: client.connected and client.sid != sid, 10, "it to come back")  # type: ignore[misc]
        await client.disconnect()


@pytest.mark.parametrize("transport", ["polling", "websocket"])
async def test_python_socketio_comes_in_later_when_it_was_refused_in_pieces(tmp_path: Path, transport: str) -> None:
    """It looks at the body of a refusal when it has closed the connection: what had not come by then ended it."""
    config = tmp_path / "freshet.toml"
    config.write_text(
        "[tokens]\nanonymous = true\n[metrics]\nanonymous = true\n"
        "[limits]\nconnects_per_second = 1\nconnects_burst = 1\n"
    )
    with serving("--config", str(config)) as server, relaying(server.port) as relay:
        relay.trickle(64, 0.01)
        first, second = [socketio.AsyncClient(reconnection_delay=0.05, reconnection_delay_max=0.05) for _ in range(2)]
        await first.connect(server.http(""), transports=[transport], wait_timeout=seconds(5))
        await second.connect(f"http://127.0.0.1:{relay.port}", transports=[transport], retry=True)
        await eventually(lambda: second.connected, 10, "it to come in")
        refused = (await figures(server))("policy_refusals_total", policy="admission")
        await first.disconnect()
        await second.disconnect()
    assert refused > 0


def test_a_browsers_event_source_goes_on_in_all_channels(server: Server, browser: webdriver.Chrome) -> None:
    channels = [f"open:{uuid4().hex[:8]}" for _ in range(COUNT)]
    browser.get(server.http("/health/live"))
    browser.execute_script(
        """
        window.got = {}; window.began = new Set(); window.opened = 0; window.lost = [];
        const source = window.source = new EventSource(arguments[0]);
        source.onopen = () => opened++;
        source.addEventListener("subscribed", ({ data }) => began.add(JSON.parse(data).channel));
        source.addEventListener("unrecoverable", ({ data }) => lost.push(data));
        source.onmessage = ({ data }) => {
          const { channel, data: number } = JSON.parse(data);
          (got[channel] ??= []).push(number);
        };
        """,
        f"/channels?{urlencode([('channel', channel) for channel in channels])}",
    )
    wait_until(lambda: browser.execute_script("return began.size") == COUNT, 10, "all channels")

    def received(numbers: list[int]) -> bool:
        got = browser.execute_script("return got")
        return all(got.get(channel) == numbers for channel in channels)

    asyncio.run(publish(server, channels, 0))
    wait_until(lambda: received([0]), 10, "the first of each")
    httpx.post(server.http("/api/disconnect"), json={"user": "", "code": 3005, "reason": "again"})
    asyncio.run(publish(server, channels, 1))
    wait_until(lambda: received([0, 1]), 10, "what was missed")
    assert browser.execute_script("return lost") == []
    browser.execute_script("source.close()")
