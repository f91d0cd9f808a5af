"""No silent loss, for the official JavaScript clients on every transport: they are cut at random, a ledger is kept."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.test_recovery import Line, check, cut_lines
from tests.tools.nats import Nats, nats
from tests.tools.need import require
from tests.tools.patience import eventually, seconds
from tests.tools.redis import Redis, redis
from tests.tools.serving import Server, serving

CENTRIFUGE = [
    *(("centrifuge", transport, "json") for transport in ("websocket", "http_stream", "sse")),
    *(("centrifuge", transport, "protobuf") for transport in ("websocket", "http_stream")),
]
SOCKETIO = [("socketio", transports, "json") for transports in ("websocket", "polling", "polling+websocket")]
Ledger = dict[str, dict[str, int]]
PUBLICATIONS = 300  # of each of two publishers in each channel


APP = "tests.endpoints.socketio.kept_app:live"


@pytest.fixture(scope="module", params=["alone", "workers", "redis", "nats"])
def servers(request: pytest.FixtureRequest) -> Iterator[list[Server]]:
    """Where a client's requests may go: to any worker, or to any node, whatever had the one before."""
    with ExitStack() as stack:
        if request.param in ("alone", "workers"):
            workers = "1" if request.param == "alone" else "3"
            yield [stack.enter_context(serving(APP, "--workers", workers))]
        else:
            broker: Redis | Nats = stack.enter_context(redis() if request.param == "redis" else nats())
            env = {"TEST_ENGINE": broker.url}
            yield [stack.enter_context(serving(APP, env=env)) for _ in range(2)]


@asynccontextmanager
async def listening(folder: Path, clients: list[tuple[str, ...]]) -> AsyncIterator[list[list[Any]]]:
    """What each of the clients was given, as it comes."""
    got: list[list[Any]] = [[] for _ in clients]
    process = await asyncio.create_subprocess_exec(
        *(require("node"), "ledger.mjs", *(",".join(client) for client in clients)),
        cwd=folder,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    stdout = process.stdout

    async def read() -> None:
        async for line in stdout:
            number, data = json.loads(line)
            got[number].append(data)

    try:
        assert await asyncio.wait_for(stdout.readline(), seconds(10)) == b"ready\n"
        reading = asyncio.create_task(read())
        yield got
        process.stdin.close()
        await asyncio.wait_for(reading, seconds(5))
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def publish(servers: list[Server], name: str, channels: list[str], chance: random.Random) -> Ledger:
    """The offset of everything that was acknowledged, by channel."""
    ledger: Ledger = {channel: {} for channel in channels}
    async with httpx.AsyncClient(timeout=seconds(10)) as http:
        for index in range(PUBLICATIONS):
            for channel in channels:
                url = chance.choice(servers).http("/api/publish")
                entry = {"channel": channel, "data": f"{name} {index}", "tags": {"event": "entry"}}
                answer = (await http.post(url, json=entry)).raise_for_status().json()
                ledger[channel][f"{name} {index}"] = answer["result"]["offset"]
            if chance.random() < 0.2:
                await asyncio.sleep(chance.random() * 0.02)
    return ledger


@pytest.mark.parametrize("seed", [1, 2])
async def test_javascript_clients_get_every_publication_once_in_order_or_hear_of_the_loss(
    servers: list[Server], node: Path, seed: int
) -> None:
    chance = random.Random(seed)
    random.seed(seed)
    channels = [f"log:ledger-{seed}", f"small:ledger-{seed}"]
    async with AsyncExitStack() as stack:
        kinds = [(kind, channel) for kind in (*CENTRIFUGE, *SOCKETIO) for channel in channels]
        lines = [await stack.enter_async_context(Line(*(server.port for server in servers)).laid()) for _ in kinds]
        clients = [
            (*kind, f"http://127.0.0.1:{line.port}", channel)
            for (kind, channel), line in zip(kinds, lines, strict=True)
        ]
        got = await stack.enter_async_context(listening(node, clients))
        cutting = [asyncio.create_task(cut_lines(lines, chance)) for _ in range(4)]
        ledgers = await asyncio.gather(*(publish(servers, name, channels, chance) for name in ("ann", "ben")))
        for task in cutting:
            task.cancel()
        ledger = {channel: ledgers[0][channel] | ledgers[1][channel] for channel in channels}
        await eventually(
            lambda: all(
                len(given) >= len(ledger[channel])
                for given, (_, channel) in zip(got, kinds, strict=True)
                if channel == channels[0]
            ),
            15,
            "all publications at all clients",
        )
    assert sum(line.cuts for line in lines) > 4 * len(lines)
    for given, (_, channel) in zip(got, kinds, strict=True):
        entries = [None if data is None else (ledger[channel][data], data) for data in given]
        check(entries, set(ledger[channel]), complete=channel == channels[0])
