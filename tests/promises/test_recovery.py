"""No silent loss: connections are cut at random while publishers run, and a ledger is kept of every publication.

Each acknowledged publication reaches each subscriber exactly once and in order, or the subscriber was told that it
could not be recovered, and then goes on from a place that it knows.
"""

import asyncio
import random
from collections import defaultdict
from contextlib import AsyncExitStack
from typing import Any

import pytest
from centrifuge import Client, PublicationContext, SubscribedContext

from tests.promises.cutting import Line, check, cut_lines, unlimited_server
from tests.tools.clients import connected, token
from tests.tools.patience import eventually, seconds
from tests.tools.serving import Server

SUBSCRIBERS = 5
PUBLICATIONS = 300  # of each of two publishers in each channel
CHANNELS = ("ledger", "small:ledger")  # the first keeps more than is ever missed, the second only two


server = pytest.fixture(unlimited_server, scope="module")


class Subscriber:
    """An official client, and what it was given: offsets and data, with a None where it was told of a gap."""

    def __init__(self, line: Line) -> None:
        self.client = Client(
            f"ws://127.0.0.1:{line.port}/connection/websocket",
            token=token("subscriber"),
            min_reconnect_delay=0.01,
            max_reconnect_delay=0.05,
        )
        self.got: dict[str, list[tuple[int, Any] | None]] = defaultdict(list)
        self.recoveries = 0
        for channel in CHANNELS:
            subscription = self.client.new_subscription(channel)
            subscription.events.on_publication = self._published(channel)
            subscription.events.on_subscribed = self._subscribed(channel)

    def _published(self, channel: str) -> Any:
        async def published(context: PublicationContext) -> None:
            self.got[channel].append((context.pub.offset, context.pub.data))

        return published

    def _subscribed(self, channel: str) -> Any:
        async def subscribed(context: SubscribedContext) -> None:
            self.recoveries += bool(context.was_recovering and context.recovered)
            if context.was_recovering and not context.recovered:
                self.got[channel].append(None)

        return subscribed

    async def start(self) -> None:
        await self.client.connect()
        for subscription in self.client.subscriptions().values():
            await subscription.subscribe()
            await subscription.ready(timeout=seconds(10))


async def publish(server: Server, name: str, chance: random.Random, ledger: dict[str, list[Any]]) -> None:
    """Publish, and note what was acknowledged."""
    async with connected(server, name) as client:
        await client.new_subscription("ledger").subscribe()
        for index in range(PUBLICATIONS):
            for channel in CHANNELS:
                await client.publish(channel, f"{name} {index}")
                ledger[channel].append(f"{name} {index}")
            if chance.random() < 0.2:
                await asyncio.sleep(chance.random() * 0.02)


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_every_acknowledged_publication_arrives_once_in_order_or_its_loss_is_told(
    server: Server, seed: int
) -> None:
    chance = random.Random(seed)
    random.seed(seed)
    ledger: dict[str, list[Any]] = {channel: [] for channel in CHANNELS}
    async with AsyncExitStack() as stack:
        lines = [await stack.enter_async_context(Line(server.port).laid()) for _ in range(SUBSCRIBERS)]
        subscribers = [Subscriber(line) for line in lines]
        for subscriber in subscribers:
            stack.push_async_callback(subscriber.client.disconnect)
            await subscriber.start()
        start = [await first_offset(server, channel) for channel in CHANNELS]
        cutting = asyncio.create_task(cut_lines(lines, chance))
        await asyncio.gather(*(publish(server, f"{seed} {name}", chance, ledger) for name in ("ann", "ben")))
        cutting.cancel()
        everything = set(ledger["ledger"])
        await eventually(
            lambda: all(len(subscriber.got["ledger"]) >= len(everything) for subscriber in subscribers),
            10,
            "all publications at all subscribers",
        )
    assert sum(line.cuts for line in lines) > 10
    assert sum(subscriber.recoveries for subscriber in subscribers) > 10
    for subscriber in subscribers:
        for channel, base in zip(CHANNELS, start, strict=True):
            got = [each and (each[0] - base, each[1]) for each in subscriber.got[channel]]
            check(got, set(ledger[channel]), complete=channel == "ledger")


async def first_offset(server: Server, channel: str) -> int:
    """Where a channel's log stands before the test."""
    async with connected(server) as client:
        subscription = client.new_subscription(channel)
        await subscription.subscribe()
        await subscription.ready(timeout=seconds(5))
        return int((await subscription.history(limit=0)).offset)
