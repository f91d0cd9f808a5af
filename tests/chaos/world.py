"""What a scenario happens to: a broker, servers, subscribers that come back, publishers that note every answer."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import httpx

from tests.chaos.clients import Subscriber
from tests.chaos.ledger import Ledger
from tests.tools.nats import Nats, nats
from tests.tools.patience import seconds
from tests.tools.redis import Redis, redis
from tests.tools.relay import Relay
from tests.tools.serving import HOST, Server, serving

CONFIG = """
[tokens]
anonymous = true
[api]
anonymous = true
[timing]
ping_interval = 1
pong_timeout = 0.8
position_check = 2
drain = 3
[[channels]]
match = "*"
history = { size = 2000, ttl = 300 }
"""


class Load(NamedTuple):
    """rate: publications a second, of all channels together."""

    clients: int = 200
    channels: int = 10
    rate: int = 100


class Broker(NamedTuple):
    """server: None when there is none to harm. url: as servers reach it."""

    server: Redis | Nats | None
    url: str


class World:
    """One fault's surroundings. ledger: complete when `rest` has returned."""

    def __init__(self, load: Load, broker: Broker, servers: list[Server], seed: int) -> None:
        self.load = load
        self.broker = broker
        self.servers = servers
        self.ledger = Ledger()
        self.chance = random.Random(seed)
        self.failed = 0
        self.subscribers: list[Subscriber] = []
        self._publishing = True
        self._tasks: list[asyncio.Task[None]] = []
        self._publishers: list[asyncio.Task[None]] = []

    async def begin(self) -> None:
        """All subscribers are in, and publishers have begun."""
        urls = [server.ws("/connection/websocket") for server in self.servers]
        for number in range(self.load.clients):
            channel = f"c{number % self.load.channels}"
            given: list[int | None] = []
            self.ledger.given.append((channel, given))
            self.subscribers.append(Subscriber(urls, channel, given, number // self.load.channels))
        self._tasks = [asyncio.create_task(each.run()) for each in self.subscribers]
        async with asyncio.timeout(seconds(30)):
            await asyncio.gather(*(each.is_in.wait() for each in self.subscribers))
        self._publishers = [
            asyncio.create_task(self._publish(f"c{number}", number)) for number in range(self.load.channels)
        ]

    async def _publish(self, channel: str, number: int) -> None:
        async with httpx.AsyncClient(timeout=seconds(10)) as http:
            index = 0
            while self._publishing:
                server = self.servers[(number + index) % len(self.servers)]
                self.ledger.tried[channel].add(index)
                try:
                    answer = await http.post(server.http("/api/publish"), json={"channel": channel, "data": index})
                    done = "result" in answer.json()
                except (httpx.TransportError, ValueError):
                    done = False
                if done:
                    self.ledger.acknowledged[channel].add(index)
                self.failed += not done
                index += 1
                await asyncio.sleep(self.load.channels / self.load.rate)

    async def rest(self) -> None:
        """Publishers end, all come back, and what is on its way arrives."""
        self._publishing = False
        await asyncio.gather(*self._publishers)
        async with asyncio.timeout(seconds(60)):
            await asyncio.gather(*(each.is_in.wait() for each in self.subscribers))
        before, quiet_since = -1, 0.0
        while (given := sum(len(given) for _, given in self.ledger.given)) != before or self.ledger.verdict().silent:
            if given == before and time.monotonic() > quiet_since + seconds(8):
                break  # something is missing: the verdict says what
            if given != before:
                quiet_since = time.monotonic()
            before = given
            await asyncio.sleep(0.3)

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def broker_of(engine: str, stack: AsyncExitStack) -> Broker:
    """engine: memory, redis (which writes first, then answers), redis-forgets, nats."""
    if engine == "memory":
        return Broker(None, "memory://")
    options = {"redis": ("--appendonly", "yes", "--appendfsync", "always"), "redis-forgets": ()}
    server: Redis | Nats = stack.enter_context(redis(*options[engine]) if engine in options else nats())
    return Broker(server, f"{server.url}?timeout=1")


@asynccontextmanager
async def world(
    engine: str, load: Load, folder: Path, seed: int, *, nodes: int = 2, relay: bool = False
) -> AsyncIterator[tuple[World, Relay | None]]:
    """Everything runs. relay: the first server reaches its broker through one, the others directly."""
    config = folder / "freshet.toml"
    config.write_text(CONFIG)
    async with AsyncExitStack() as stack:
        broker = broker_of(engine, stack)
        between: Relay | None = None
        urls = [broker.url] * nodes
        if relay and broker.server is not None:
            between = Relay(broker.server.port)
            between.start()
            stack.callback(between.stop)
            urls[0] = broker.url.replace(f"{HOST}:{broker.server.port}", f"{HOST}:{between.port}")
        servers = [stack.enter_context(serving("--config", str(config), env={"FRESHET_ENGINE": url})) for url in urls]
        it = World(load, broker, servers, seed)
        await it.begin()
        try:
            yield it, between
        finally:
            await it.end()
