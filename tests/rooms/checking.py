"""Rooms that count while their owners are killed, paused, cut off and lied to about the time; then all is counted.

Each operation is kept with who wanted it and which activation of its room did it, in the transaction that counts. So
what was lost, done twice, or written by an owner behind its successor is not estimated but read.
"""

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field, fields
from itertools import pairwise
from pathlib import Path
from typing import Literal, NamedTuple, Self, get_args

import msgspec

from freshet.runtime.clock import SYSTEM
from freshet.stores.base import Store
from freshet.wiring.stores import store_of
from tests.rooms.counting import CountingClient
from tests.tools.clock import turned_by
from tests.tools.linearizability import Increment, violations
from tests.tools.nats import nats
from tests.tools.patience import eventually, seconds
from tests.tools.redis import redis
from tests.tools.relay import Relay, relaying
from tests.tools.serving import Server, serving

Fault = Literal["kill", "pause", "cut", "silence", "clock"]
FAULTS: tuple[Fault, ...] = get_args(Fault)
LEASE = 1.0
APP = "tests.rooms.counter_app:live"
PAGE = 1000


class Kept(NamedTuple):
    """An operation as its room keeps it. activation: the process, and which of its instances of the room."""

    id: str
    activation: str

    @property
    def pid(self) -> str:
        return self.activation.partition(":")[0]


@dataclass
class Verdict:
    """What became of the operations. wrong: in words, the first of each kind."""

    acknowledged: int = 0
    unknown: int = 0
    refused: int = 0
    takeovers: int = 0
    lost: int = 0
    doubled: int = 0
    stale: int = 0
    disordered: int = 0
    wrong: list[str] = field(default_factory=list)

    def __iadd__(self, other: Self) -> Self:
        for it in fields(self):
            setattr(self, it.name, getattr(self, it.name) + getattr(other, it.name))
        return self

    def __str__(self) -> str:
        return (
            f"{self.acknowledged:,} operations acknowledged, {self.unknown:,} unknown, {self.refused:,} refused; "
            f"{self.takeovers:,} takeovers; {self.lost} lost, {self.doubled} doubled, {self.stale} stale writes, "
            f"{self.disordered} out of order"
        )


def judged(history: Sequence[tuple[str, Increment]], kept: Sequence[Kept], final: int) -> Verdict:
    """Of one room. history: what clients saw, by the operations' ids. kept: by the values, from 1. final: the counter.

    An activation that comes again behind another has written though it was no longer the owner.
    """
    outcomes = Counter(it.outcome for _, it in history)
    verdict = Verdict(outcomes["ok"], outcomes["unknown"], outcomes["refused"])
    places = {it.id: value for value, it in enumerate(kept, 1)}
    for id, it in history:
        if it.outcome == "ok" and (id not in places or it.value not in (None, places[id])):
            verdict.lost += 1
        if it.outcome == "refused" and id in places:
            verdict.wrong.append(f"{id} was refused, and done all the same")
    verdict.doubled = len(kept) - len(places)
    verdict.lost += abs(final - len(kept))
    seen: set[str] = set()
    for before, after in pairwise([Kept("", ""), *kept]):
        if after.activation != before.activation:
            verdict.takeovers += bool(before.activation) and after.pid != before.pid
            verdict.stale += after.activation in seen
            seen.add(after.activation)
    disorders = list(violations((it for _, it in history), final))
    verdict.disordered = len(disorders)
    verdict.wrong += disorders[:3]
    return verdict


async def read(store: Store, room: str) -> tuple[list[Kept], int]:
    """What a room keeps: its operations, and the counter."""
    kept: list[Kept] = []
    after = ""
    while page := await store.scan(room, "operation:", after, PAGE):
        kept += [Kept(*msgspec.msgpack.decode(value, type=tuple[str, str])) for _, value in page]
        after = page[-1][0]
    value = (await store.get(room, ["value"])).get("value")
    return kept, msgspec.msgpack.decode(value, type=int) if value is not None else 0


async def acknowledged(clients: Iterable[CountingClient], more: int) -> None:
    """Until each has counted so often again."""
    targets = [(client, client.acknowledged + more) for client in clients]
    await eventually(
        lambda: all(client.acknowledged >= target for client, target in targets), 60, "all clients to count"
    )


class CheckedRooms:
    """Nodes on one broker, each with a network to it that can be cut, and clients that count in a few rooms.

    engine: `redis`, where the store is, too, so that who is cut off reaches neither; or `nats`, with a store that who
    is cut off still reaches. away: seconds from each fault to the first operation of the next owner.
    """

    def __init__(self, engine: str, folder: Path, nodes: int, rooms: int, clients: int) -> None:
        self.away: list[float] = []
        self.verdict = Verdict()
        self.servers: list[Server] = []
        self.clients = [CountingClient(it, self.servers, f"counter:{it // nodes % rooms}") for it in range(clients)]
        self._engine = engine
        self._nodes = nodes
        self._relays: list[Relay] = []
        self._stack = ExitStack()
        self._clocks = [folder / f"clock-{at}" for at in range(nodes)]
        self._direct = ""  # the store, without those networks

    def start(self) -> None:
        broker = self._stack.enter_context(redis() if self._engine == "redis" else nats())
        self._direct = broker.url if self._engine == "redis" else self._stack.enter_context(redis()).url
        for at in range(self._nodes):
            self._relays.append(self._stack.enter_context(relaying(broker.port)))
            self._clocks[at].write_text("+0")
            self.servers.append(self._serve(at))

    def stop(self) -> None:
        self._stack.close()

    def _url(self, at: int) -> str:
        return f"{self._engine}://127.0.0.1:{self._relays[at].port}"

    def _serve(self, at: int, port: int | None = None) -> Server:
        env = {
            "FRESHET_ENGINE": self._url(at),
            "FRESHET_ROOMS__STORE": self._url(at) if self._engine == "redis" else self._direct,
            "FRESHET_ROOMS__LEASE": str(LEASE),
            "FRESHET_TOKENS__ANONYMOUS": "true",
        }
        if at == 0:  # one whose time can be turned
            env |= turned_by(self._clocks[at])
        return self._stack.enter_context(serving(APP, env=env, port=port))

    async def suffer(self, fault: Fault, more: int) -> None:
        """Until another node has the rooms of the one that it happens to, and all count again."""
        if fault == "clock":
            self._clocks[0].write_text("+7200" if self._clocks[0].read_text() == "+0" else "+0")
            await acknowledged(self.clients, more)
            return
        await acknowledged(self.clients, 1)
        at, witness = await eventually(self._victim, 20, "an owner that another node's client talks to")
        owner = self.servers[at]
        others = [client for client in self.clients if client.server is not owner]
        mark, began = len(witness.pids), time.monotonic()
        async with self._happening(fault, at, witness):
            await eventually(lambda: any(pid != owner.pid for pid in witness.pids[mark:]), 60, "a takeover")
            self.away.append(time.monotonic() - began)
            await acknowledged(others, more)
        await acknowledged(self.clients, more)

    def _victim(self) -> tuple[int, CountingClient] | None:
        """The place of a server that owns a room, and a client of that room that is connected to another one."""
        places = {server.pid: at for at, server in enumerate(self.servers)}
        found = [
            (places[client.pids[-1]], client)
            for client in self.clients
            if client.pids and client.pids[-1] in places and client.server.pid != client.pids[-1]
        ]
        return random.choice(found) if found else None

    @asynccontextmanager
    async def _happening(self, fault: Fault, at: int, witness: CountingClient) -> AsyncIterator[None]:
        owner = self.servers[at]
        if fault == "kill":
            await asyncio.to_thread(owner.kill)  # wherever it is
            yield
            self.servers[at] = await asyncio.to_thread(self._serve, at, owner.port)
        elif fault in ("cut", "silence"):  # after a silence all that was on its way arrives, late as it is
            relay = self._relays[at]
            await asyncio.to_thread(relay.cut if fault == "cut" else relay.silence)
            yield
            await asyncio.to_thread(relay.mend)
        else:
            if random.random() < 0.5:
                witness.extra = {"stop": owner.pid}  # in a hook, between its read and its write
            else:
                os.kill(owner.pid, signal.SIGSTOP)  # wherever it is
            try:
                yield
            finally:
                os.kill(owner.pid, signal.SIGCONT)

    async def judge(self) -> Verdict:
        """Of all rooms, from what is kept."""
        store = store_of(self._direct, SYSTEM)
        await store.start()
        verdict = Verdict()
        for room in sorted({client.channel for client in self.clients}):
            mine = [client for client in self.clients if client.channel == room]
            history = [each for client in mine for each in zip(client.ids, client.history, strict=True)]
            verdict += judged(history, *await read(store, room))
        await store.stop()
        return verdict


@asynccontextmanager
async def counting(rooms: CheckedRooms) -> AsyncIterator[CheckedRooms]:
    """While the block runs, all clients count; behind it there is the verdict."""
    until = asyncio.Event()
    rooms.start()
    try:
        running = [asyncio.create_task(client.run(until)) for client in rooms.clients]
        try:
            yield rooms
        finally:
            until.set()
            async with asyncio.timeout(seconds(60)):
                await asyncio.gather(*running)
        rooms.verdict = await rooms.judge()
    finally:
        rooms.stop()
