"""No silent loss, for the official JavaScript clients on every transport: they are cut at random, a ledger is kept."""

import asyncio
import random
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

import aiohttp
import pytest

from tests.promises.cutting import Line, check, cut_lines
from tests.promises.javascript import APP, CENTRIFUGE, SOCKETIO, listening
from tests.tools.nats import Nats, nats
from tests.tools.patience import eventually, seconds
from tests.tools.redis import Redis, redis
from tests.tools.serving import Server, serving

Ledger = dict[str, dict[str, int]]
PUBLICATIONS = 300  # of each of two publishers in each channel


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


async def publish(servers: list[Server], name: str, channels: list[str], chance: random.Random) -> Ledger:
    """The offset of everything that was acknowledged, by channel."""
    ledger: Ledger = {channel: {} for channel in channels}
    async with aiohttp.ClientSession(raise_for_status=True, timeout=aiohttp.ClientTimeout(seconds(10))) as http:
        for index in range(PUBLICATIONS):
            for channel in channels:
                url = chance.choice(servers).http("/api/publish")
                entry = {"channel": channel, "data": f"{name} {index}", "tags": {"event": "entry"}}
                async with http.post(url, json=entry) as answer:
                    ledger[channel][f"{name} {index}"] = (await answer.json())["result"]["offset"]
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
