"""The loads, by name: what the clients of a process do while it is measured."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import count, cycle
from time import monotonic_ns
from typing import ClassVar

from freshet.load.clients import LoadClient
from freshet.load.crowd import SECOND, Crowd
from freshet.load.tally import stamped


class Load(ABC):
    """A load in one process. about: for the help.

    `prepare` makes the clients, which then connect; `run` is what is measured.
    """

    about: ClassVar[str]
    needs: ClassVar[Sequence[str]] = ()  # what a client has to be able to do
    series: ClassVar[str] = "delivery"  # the figures that the load is about

    def __init__(self, crowd: Crowd) -> None:
        self.crowd = crowd
        self.plan = crowd.plan
        self.tally = crowd.tally

    @classmethod
    def suits(cls, kind: type[LoadClient]) -> bool:
        return all(getattr(kind, what) for what in cls.needs)

    @abstractmethod
    async def prepare(self) -> None: ...

    @abstractmethod
    async def run(self) -> None: ...

    def due(self, published: int) -> int:
        """Deliveries to this process. published: by all processes together."""
        return 0


class FanoutLoad(Load):
    """The first process publishes."""

    about = "one channel: what one client publishes, all get"

    async def prepare(self) -> None:
        self.crowd.gather(lambda _: self.plan.channel)
        if self.plan.process == 0:
            await self.crowd.open_publisher(self.plan.channel)

    async def run(self) -> None:
        if self.plan.process == 0:
            await self.crowd.publish(self.publish)

    def publish(self, due: int) -> None:
        number = self.tally.published
        self.tally.published += 1
        assert self.crowd.publisher is not None
        if not self.plan.rate:
            self.tally.flights.begin(0, number, self.plan.clients)
        self.crowd.publisher.publish(stamped(due, 0, number, self.plan.payload))

    def due(self, published: int) -> int:
        return published * self.plan.clients


class ChatLoad(Load):
    """All members of a room are in one process, and take turns."""

    about = "rooms of --members clients, who all publish"
    needs: ClassVar[Sequence[str]] = ("publishes", "has_channels")

    @property
    def members(self) -> int:
        return self.plan.members

    async def prepare(self) -> None:
        self.crowd.gather(lambda number: f"{self.plan.channel}:{(self.plan.first + number) // self.members}")
        self._numbers = [count() for _ in self.crowd.clients]
        self._turns = cycle(range(len(self.crowd.clients)))
        # A room that is cut by the border of two processes is counted where its members are.
        self._audience = [0] * len(self.crowd.clients)
        rooms: dict[str, int] = {}
        for client in self.crowd.clients:
            rooms[client.channel] = rooms.get(client.channel, 0) + 1
        self._audience = [rooms[client.channel] for client in self.crowd.clients]

    async def run(self) -> None:
        await self.crowd.publish(self.publish)

    def publish(self, due: int) -> None:
        turn = next(self._turns)
        client, number = self.crowd.clients[turn], next(self._numbers[turn])
        self.tally.published += 1
        self.tally.due += self._audience[turn]
        if not self.plan.rate:
            self.tally.flights.begin(client.number, number, self._audience[turn])
        client.publish(stamped(due, client.number, number, self.plan.payload))

    def due(self, published: int) -> int:
        return self.tally.due


class EchoLoad(ChatLoad):
    """A room of one: a channel of its own, or a plain WebSocket that answers."""

    about = "each client gets back what it sends"
    needs: ClassVar[Sequence[str]] = ("publishes",)

    @property
    def members(self) -> int:
        return 1


class RpcLoad(EchoLoad):
    """The method has to answer with the data that it got."""

    about = "each client calls --method, which returns its data"
    needs: ClassVar[Sequence[str]] = ("calls",)


class IdleLoad(Load):
    about = "connected and subscribed, and nothing else"
    series = "connect"

    async def prepare(self) -> None:
        self.crowd.gather(lambda _: self.plan.channel)

    async def run(self) -> None:
        await self.crowd.hold(self.plan.seconds)


class ConnectLoad(IdleLoad):
    """Over and over: connected, authenticated, subscribed, cut."""

    about = "connect, authenticate, subscribe; all are cut, and come again"

    async def run(self) -> None:
        end = monotonic_ns() + int(self.plan.seconds * SECOND)
        while monotonic_ns() < end and not self.crowd.is_stopped.is_set():
            self.crowd.close()
            await self.crowd.connect()


class RecoveryLoad(FanoutLoad):
    """While one publishes at a rate. What is lost by sequence was not recovered."""

    about = "all lose their connection at once, and recover what they missed"
    needs: ClassVar[Sequence[str]] = ("recovers",)
    series = "back"

    async def run(self) -> None:
        publishing = super().run()
        coming = self._come_back()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(publishing)
            tasks.create_task(coming)

    async def _come_back(self) -> None:
        await self.crowd.hold(min(1.0, self.plan.seconds / 4))
        if not self.crowd.is_stopped.is_set():
            await self.crowd.come_back()


LOADS: dict[str, type[Load]] = {
    "fanout": FanoutLoad,
    "chat": ChatLoad,
    "echo": EchoLoad,
    "rpc": RpcLoad,
    "idle": IdleLoad,
    "connect": ConnectLoad,
    "recovery": RecoveryLoad,
}
