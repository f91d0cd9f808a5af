"""What a scenario happens to: a broker, servers, subscribers that reconnect, publishers that note every reply."""

import asyncio
import random
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from tests.chaos import apart
from tests.chaos.clients import Subscriber, WebSocket
from tests.chaos.http_clients import KINDS
from tests.chaos.ledger import Ledger
from tests.chaos.wire import Wire
from tests.tools.clock import turned_by
from tests.tools.nats import Nats, nats
from tests.tools.patience import seconds
from tests.tools.proxies import proxied
from tests.tools.redis import Redis, redis
from tests.tools.relay import Relay
from tests.tools.serving import HOST, Server, serving

DRAIN = 3  # seconds
EXPIRY_GRACE = 1  # seconds
AUDIENCE = "chaos"
SECRET = "a secret of the faults, thirty-two bytes"
CONFIG = f"""
[tokens]
anonymous = true
secret = "{SECRET}"
audience = "{AUDIENCE}"
[api]
anonymous = true
[limits]
outbox = 65536
replay = 67108864
[timing]
ping_interval = {{beat}}
pong_timeout = {{late}}
position_check = 2
presence_ttl = 6
drain = {DRAIN}
expiry_grace = {EXPIRY_GRACE}
[[channels]]
match = "private"
subscribe = "token"
history = {{{{ size = 10, ttl = 300 }}}}
[[channels]]
match = "*"
history = {{{{ size = 2000, ttl = 300 }}}}
presence = true
"""
SYNCED = ("--appendonly", "yes", "--appendfsync", "always")  # it writes first, then replies


class Load(NamedTuple):
    """rate: publications a second, of all channels together. soak: seconds for which faults follow each other.

    before: where the code of an older version is, which the servers begin with; "": this one.
    """

    clients: int = 200
    channels: int = 10
    rate: float = 100
    soak: float = 60
    before: str = ""

    @property
    def beat(self) -> float:
        """Seconds from one heartbeat of a server to the next: not thousands a second."""
        return max(1.0, self.clients / 1000)


class Place(NamedTuple):
    """engine: memory, sqlite, redis, redis-forgets, nats. workers: of each server.

    relay: a connection that can be harmed: `broker`, from the first server to it; `clients`, from theirs to the first
    server. proxy: before all servers (see `proxies.py`). apart: the first server is in a network namespace of
    its own (see `apart.py`); wired: and its link to the broker is a `Wire`. clock: its wall clock can be
    turned (see `turn`).
    """

    engine: str
    nodes: int = 2
    workers: int = 1
    relay: str = ""
    apart: bool = False
    wired: bool = False
    proxy: str = ""
    clock: bool = False

    @property
    def label(self) -> str:
        return f"{self.engine}, {self.workers} workers" if self.workers > 1 else self.engine


class World:
    """One scenario's surroundings. ledger: complete when `rest` has returned. addresses: of servers, for clients."""

    def __init__(self, place: Place, load: Load, folder: Path, seed: int, stack: ExitStack) -> None:
        self.load = load
        self.place = place
        self.chance = random.Random(seed)
        self.ledger = Ledger()
        self.failed = 0
        self.subscribers: list[Subscriber] = []
        self.filling: dict[str, str] = {}  # by channel: what its publications carry, too
        self.broker: Redis | Nats | None = None
        self.relay: Relay | None = None
        self.wire: Wire | None = None
        self.servers: list[Server] = []
        self.addresses: list[str] = []
        self.trust: ssl.SSLContext | None = None
        self.code = {"PYTHONPATH": load.before} if load.before else {}  # what chooses a version for servers that start
        self._clock = folder / "clock"
        self._stack = stack
        self._folder = folder
        self._publishing = True
        self._tasks: list[asyncio.Task[None]] = []
        self._publishers: list[asyncio.Task[None]] = []

    # --------------------------------------------------------------------------------------------------------- servers

    def build(self) -> None:
        """A broker and its servers run, with a connection between them that can be harmed."""
        beat = self.load.beat
        if self.place.wired:
            self.wire = Wire(*apart.WIRE)
            self.wire.start()
            self._stack.callback(self.wire.stop)
        (self._folder / "freshet.toml").write_text(CONFIG.format(beat=beat, late=beat * 0.8))
        if self.place.engine in ("redis", "redis-forgets"):
            options = SYNCED if self.place.engine == "redis" else ()
            open_to = ("--bind", HOST, apart.BROKER_SIDE, "--protected-mode", "no") if self.place.apart else ()
            self.broker = self._stack.enter_context(redis(*options, *open_to))
        elif self.place.engine == "nats":
            self.broker = self._stack.enter_context(nats(*(("-a", "0.0.0.0") if self.place.apart else ())))
        for index in range(self.place.nodes):
            self.servers.append(self.start(index))
            self.addresses.append(f"{self.servers[index].host}:{self.servers[index].port}")
        if self.place.proxy:
            ports = [server.port for server in self.servers]
            address, self.trust = self._stack.enter_context(proxied(self.place.proxy, ports, self._folder))
            self.addresses = [address]
        if self.place.relay == "clients":
            self.addresses[0] = f"{HOST}:{self._relay_to(self.servers[0].port).port}"

    def start(self, index: int, port: int | None = None) -> Server:
        """port: where one was before, which has ended."""
        config = str(self._folder / "freshet.toml")
        workers = ("--workers", str(self.place.workers)) if self.place.workers > 1 else ()
        env = {"FRESHET_ENGINE": self._engine(index), **self.code}
        host: str = HOST
        prefix: Sequence[str] = ()
        if index == 0 and self.place.apart:
            host, prefix = apart.NODE, apart.node_prefix()
        if index == 0 and self.place.clock:
            self.turn(0)
            env |= turned_by(self._clock)
        server = serving("--config", config, *workers, host=host, port=port, prefix=prefix, env=env)
        return self._stack.enter_context(server)

    async def renew(self, index: int) -> None:
        """A new server where one was, which has ended."""
        self.servers[index] = await asyncio.to_thread(self.start, index, self.servers[index].port)

    def turn(self, difference: int) -> None:
        """The wall clock of the first server, to so many seconds before or behind the true time."""
        self._clock.write_text(f"{difference:+d}")

    def _engine(self, index: int) -> str:
        if self.broker is None:
            return f"sqlite:///{self._folder}/freshet.db" if self.place.engine == "sqlite" else "memory://"
        port = self.broker.port
        if index == 0 and self.place.relay == "broker":
            port = (self.relay or self._relay_to(port)).port
        if index == 0 and self.place.apart:
            return f"{self.broker.url.replace(HOST, apart.BROKER_SIDE)}?timeout=1"
        return f"{self.broker.url.replace(f':{self.broker.port}', f':{port}')}?timeout=1"

    def _relay_to(self, target: int) -> Relay:
        self.relay = Relay(target)
        self.relay.start()
        self._stack.callback(self.relay.stop)
        return self.relay

    async def call(self, index: int, method: str, **params: Any) -> dict[str, Any]:
        """The result of a method of one server's API."""
        async with httpx.AsyncClient(timeout=seconds(10)) as http:
            reply = await http.post(self.servers[index].http(f"/api/{method}"), json=params)
        result: dict[str, Any] = reply.raise_for_status().json()["result"]
        return result

    # ----------------------------------------------------------------------------------------------------------- load

    async def begin(self) -> None:
        """All subscribers are in, and publishers have begun."""
        for number in range(self.load.clients):
            channel, place = f"c{number % self.load.channels}", number // self.load.channels
            received: list[int | None] = []
            self.ledger.received.append((channel, received))
            kind = KINDS[(place + number % self.load.channels) % len(KINDS)]
            self.subscribers.append(kind(self.addresses, channel, received, place, self.load.beat, self.trust))
        for index, each in enumerate(self.subscribers):
            self._tasks.append(asyncio.create_task(each.run()))
            if index % 100 == 99:
                await self._are_in(self.subscribers[index - 99 : index + 1])
        await self._are_in(self.subscribers)
        self._publishers = [
            asyncio.create_task(self._publish(f"c{number}", number)) for number in range(self.load.channels)
        ]

    async def _are_in(self, subscribers: list[Subscriber]) -> None:
        try:
            async with asyncio.timeout(seconds(60)):
                await asyncio.gather(*(each.is_in.wait() for each in subscribers))
        except TimeoutError:
            out = Counter(f"{type(each).__name__}: {each.why}" for each in subscribers if not each.is_in.is_set())
            raise TimeoutError(f"not in: {dict(out)}") from None

    async def _publish(self, channel: str, number: int) -> None:
        async with httpx.AsyncClient(timeout=seconds(10)) as http:
            index = 0
            while self._publishing:
                server = self.servers[(number + index) % len(self.servers)]
                self.ledger.tried[channel].add(index)
                data = {"number": index, "filling": self.filling.get(channel, "")}
                try:
                    reply = await http.post(server.http("/api/publish"), json={"channel": channel, "data": data})
                    done = "result" in reply.json()
                except (httpx.TransportError, ValueError):
                    done = False
                if done:
                    self.ledger.acknowledged[channel].add(index)
                self.failed += not done
                index += 1
                await asyncio.sleep(self.load.channels / self.load.rate)

    def sleepers(self, share: float = 0.05) -> list[WebSocket]:
        """Some of those of the first channel, at least one."""
        candidates = [
            each
            for (channel, _), each in zip(self.ledger.received, self.subscribers, strict=True)
            if channel == "c0" and isinstance(each, WebSocket)
        ]
        return self.chance.sample(candidates, max(1, int(len(candidates) * share)))

    async def rest(self) -> None:
        """Publishers end, all come back, and what is on its way arrives."""
        self._publishing = False
        await asyncio.gather(*self._publishers)
        await self._are_in(self.subscribers)
        before, quiet_since = -1, 0.0
        while (
            count := sum(len(numbers) for _, numbers in self.ledger.received)
        ) != before or self.ledger.verdict().silent:
            if count == before and time.monotonic() > quiet_since + seconds(8):
                break  # something is missing: the verdict says what
            if count != before:
                quiet_since = time.monotonic()
            before = count
            await asyncio.sleep(0.3)

    async def end(self) -> None:
        for task in (*self._tasks, *self._publishers):
            task.cancel()
        await asyncio.gather(*self._tasks, *self._publishers, return_exceptions=True)


@asynccontextmanager
async def world(place: Place, load: Load, folder: Path, seed: int) -> AsyncIterator[World]:
    """Everything runs until the block ends."""
    async with AsyncExitStack() as stack:
        it = World(place, load, folder, seed, stack.enter_context(ExitStack()))
        await asyncio.to_thread(it.build)
        stack.push_async_callback(it.end)
        await it.begin()
        yield it
