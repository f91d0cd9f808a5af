"""What the metrics of a server say, and clients that know what they did."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from functools import lru_cache
from typing import Any, NamedTuple

import httpx
from prometheus_client.parser import text_string_to_metric_families
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.tools.nats import nats
from tests.tools.patience import eventually, seconds
from tests.tools.redis import redis
from tests.tools.relay import Relay, relaying
from tests.tools.serving import Server, workers_of

DELAY = 0.03  # seconds that everything waits on its way from and to a broker


class Figures(NamedTuple):
    """values: sums over all workers, by name and labels; a label that is not asked for is summed up, too."""

    samples: list[Any]

    def __call__(self, name: str, **labels: str) -> float:
        return sum(
            it.value for it in self.samples if it.name == f"freshet_{name}" and labels.items() <= it.labels.items()
        )

    def by(self, name: str, label: str) -> dict[str, float]:
        found: Counter[str] = Counter()
        for it in self.samples:
            if it.name == f"freshet_{name}":
                found[it.labels[label]] += it.value
        return {key: value for key, value in found.items() if value}

    def since(self, before: "Figures") -> "Figures":
        """What was added to each sample."""
        then = {(it.name, *sorted(it.labels.items())): it.value for it in before.samples}
        return Figures(
            [it._replace(value=it.value - then.get((it.name, *sorted(it.labels.items())), 0)) for it in self.samples]
        )

    def quantile(self, share: float, name: str, **labels: str) -> tuple[float, float]:
        """Between which bounds it lies."""
        buckets = self._buckets(name, labels)
        below = 0.0
        for bound, reached in buckets:
            if reached >= share * buckets[-1][1]:
                return below, bound
            below = bound
        raise AssertionError(f"{name} counted nothing")

    def _buckets(self, name: str, labels: dict[str, str]) -> list[tuple[float, float]]:
        found: Counter[float] = Counter()
        for it in self.samples:
            if it.name == f"freshet_{name}_bucket" and labels.items() <= it.labels.items():
                found[float(it.labels["le"])] += it.value
        return sorted(found.items())


@lru_cache(10_000)
def _samples(line: str) -> list[Any]:
    """Of one line of metrics: most say what they said a moment ago, and reading a thousand takes 40 ms."""
    return [it for family in text_string_to_metric_families(line) for it in family.samples]


async def figures(server: Server) -> Figures:
    """Of all its workers. One that does not reply within 2 s is missing in an answer, and what it counted with it."""
    number = len(workers_of(server.pid)) or 1

    async def whole() -> Figures | None:
        answer = (await http.get(server.http("/metrics"))).raise_for_status()
        found = Figures([it for line in answer.text.splitlines() for it in _samples(line)])
        return found if sum(it.name == "freshet_ready" for it in found.samples) >= number else None

    async with httpx.AsyncClient(timeout=seconds(10)) as http:
        return await eventually(whole, 20, "the figures of all workers")


@contextmanager
def engine_of(name: str) -> Iterator[tuple[str, Relay | None]]:
    """A URL; and the network before a broker."""
    if name == "memory":
        yield "memory://", None
        return
    with ExitStack() as stack:
        broker = stack.enter_context({"redis": redis, "nats": nats}[name]())
        relay = stack.enter_context(relaying(broker.port))
        yield broker.url.replace(str(broker.port), str(relay.port)), relay


class Talker:
    """A client of the Centrifugal protocol, that answers pings. heard: publications. bytes: of messages, both ways."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._replies: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._reading = asyncio.create_task(self._read())
        self.heard = 0
        self.sent = self.received = self.bytes_sent = self.bytes_received = 0

    async def ask(self, **command: Any) -> dict[str, Any]:
        id = len(self._replies) + 1
        self._replies[id] = asyncio.get_running_loop().create_future()
        await self._send({"id": id, **command})
        return await asyncio.wait_for(self._replies[id], seconds(10))

    async def _send(self, message: dict[str, Any]) -> None:
        text = json.dumps(message)
        self.sent, self.bytes_sent = self.sent + 1, self.bytes_sent + len(text)
        await self._connection.send(text)

    async def _read(self) -> None:
        try:
            async for text in self._connection:
                self.received, self.bytes_received = self.received + 1, self.bytes_received + len(text)
                for line in str(text).splitlines():
                    message = json.loads(line)
                    if not message:
                        await self._send({})
                    elif "id" in message:
                        self._replies[message["id"]].set_result(message)
                    else:
                        self.heard += "pub" in message["push"]
        except ConnectionClosed:
            pass

    async def close(self) -> None:
        if not self._reading.done():  # otherwise the server has ended it
            await self._connection.close()
        await self._reading

    async def ended(self) -> int:
        """The code with which the server ended it."""
        await asyncio.wait_for(self._reading, seconds(10))
        return self._connection.close_code or 0

    async def say(self, text: str) -> None:
        """Whatever it is."""
        await self._connection.send(text)


@asynccontextmanager
async def talking(server: Server, number: int) -> AsyncIterator[list[Talker]]:
    """So many that are connected."""
    async with AsyncExitStack() as stack:
        talkers = []
        for _ in range(number):
            connection = await stack.enter_async_context(connect(server.ws("/connection/websocket")))
            talkers.append(Talker(connection))
            await talkers[-1].ask(connect={})
        yield talkers
        for talker in talkers:
            await talker.close()


async def publish(server: Server, number: int, channel: str = "log") -> None:
    async with httpx.AsyncClient(timeout=seconds(10)) as http:
        for index in range(number):
            answer = await http.post(server.http("/api/publish"), json={"channel": channel, "data": index})
            assert "result" in answer.json(), answer.text
