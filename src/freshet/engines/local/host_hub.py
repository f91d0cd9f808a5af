"""The hub of one host: it runs the engine that has the logs, for all workers, and knows who listens to what."""

import asyncio
import logging
import os
from collections import defaultdict
from collections.abc import Callable, Coroutine
from typing import Any

from freshet.engines.base import Engine, Receiver
from freshet.engines.codec import Info
from freshet.engines.local.messages import (
    HubConnection,
    HubDelivery,
    HubHello,
    HubNeighbours,
    HubNotice,
    HubPresence,
    HubPublish,
    HubRead,
    HubRemove,
    HubReply,
    HubRequest,
    HubSetPresence,
    HubSubscribe,
    HubUnsubscribe,
    WireItem,
    encode,
    to_hub,
)
from freshet.errors import EngineUnavailable
from freshet.model.events import Delivery
from freshet.model.log import Kind, PublishOptions

log = logging.getLogger("freshet.engines.local")


class _Worker:
    """node: its name. channels: where it listens. present: the clients of its own that it has set."""

    def __init__(self, line: HubConnection, node: str) -> None:
        self.line = line
        self.node = node
        self.channels: set[str] = set()
        self.present: set[tuple[str, str]] = set()


class HostHub:
    """make: an engine by the URL that the workers ask for, and its presence time."""

    def __init__(self, path: str, make: Callable[[str, float], Engine]) -> None:
        self._path = path
        self._make = make
        self._engine: Engine | None = None
        self._starting: asyncio.Task[None] | None = None
        self._workers: dict[HubConnection, _Worker] = {}
        self._places: list[str] = []  # of the workers; "": one that the next worker takes
        self._listening: defaultdict[str, set[_Worker]] = defaultdict(set)
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.AbstractServer | None = None

    @property
    def nodes(self) -> list[str]:
        """The workers that have begun."""
        return [node for node in self._places if node]

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        mask = os.umask(0o077)  # the socket is nobody else's
        try:
            self._server = await loop.create_unix_server(
                lambda: HubConnection(self._hear, self._lost), self._path, backlog=128
            )
        finally:
            os.umask(mask)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for line in list(self._workers):
            line.close()
        for task in self._tasks:
            task.cancel()
        if self._engine is not None:
            await self._engine.stop()

    def _hear(self, line: HubConnection, data: bytes) -> None:
        said = to_hub.decode(data)
        if isinstance(said, HubHello):
            self._workers[line] = _Worker(line, said.node)
            self._place(said.node)
            if self._engine is None:
                self._engine = self._make(said.engine, said.presence_time)
                receiver = Receiver(self._deliver, lambda channel: None, lambda message: None)
                self._starting = asyncio.get_running_loop().create_task(self._engine.start("hub", receiver))
        elif (worker := self._workers.get(line)) is not None:
            self._spawn(self._answer(worker, said))

    def _place(self, node: str) -> None:
        if "" not in self._places:
            self._places.append("")
        self._places[self._places.index("")] = node

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, worker: _Worker, said: HubRequest) -> None:
        try:
            if self._starting is not None:
                await asyncio.shield(self._starting)
                self._starting = None
            answer = await self._do(worker, said)
        except EngineUnavailable as why:
            answer = HubReply(said.number, failed=str(why) or "unavailable")
        except Exception:
            log.exception("%s failed", type(said).__name__)
            answer = HubReply(said.number, failed="internal error of the hub")
        worker.line.say(answer)

    async def _do(self, worker: _Worker, said: HubRequest) -> HubReply:
        engine = self._engine
        assert engine is not None
        if isinstance(said, HubPublish):
            item = said.item
            sender = item.sender.info() if item.sender else None
            options = PublishOptions(Kind(item.kind), said.keep, item.tags, sender, said.key)
            return HubReply(said.number, await engine.publish(said.channel, item.data, options))
        if isinstance(said, HubSubscribe):
            worker.channels.add(said.channel)
            self._listening[said.channel].add(worker)
            return HubReply(said.number, await engine.subscribe(said.channel, said.keep))
        if isinstance(said, HubRead):
            stream = await engine.history(said.channel, said.keep, said.since, said.limit, said.reverse)
            return HubReply(said.number, stream.position, [WireItem.of(each) for each in stream.publications])
        if isinstance(said, HubPresence):
            present = await engine.presence(said.channel)
            return HubReply(said.number, present={client: Info.of(info) for client, info in present.items()})
        if isinstance(said, HubSetPresence):
            key = (said.channel, said.client)
            (worker.present.add if said.who else worker.present.discard)(key)
            await engine.set_presence(said.channel, said.client, said.who.info() if said.who else None)
        elif isinstance(said, HubUnsubscribe):
            await self._ignore(worker, said.channel)
        elif isinstance(said, HubRemove):
            await engine.remove_history(said.channel)
        elif isinstance(said, HubNeighbours):
            return HubReply(said.number, nodes=self._places)
        else:
            heard = encode(HubNotice(said.message))
            for each in self._workers.values():
                if each is not worker and said.node in (None, each.node):
                    each.line.say(heard)
        return HubReply(said.number)

    async def _ignore(self, worker: _Worker, channel: str) -> None:
        worker.channels.discard(channel)
        listening = self._listening.get(channel)
        if listening is not None:
            listening.discard(worker)
            if not listening:
                del self._listening[channel]
                assert self._engine is not None
                await self._engine.unsubscribe(channel)

    def _deliver(self, event: Delivery) -> None:
        data = encode(HubDelivery.of(event))
        for worker in self._listening.get(event.channel, ()):
            worker.line.say(data)

    def _lost(self, line: HubConnection) -> None:
        worker = self._workers.pop(line, None)
        if worker is not None:
            self._places[self._places.index(worker.node)] = ""
            self._spawn(self._bury(worker))

    async def _bury(self, worker: _Worker) -> None:
        """A worker's clients are gone with it."""
        for channel in list(worker.channels):
            await self._ignore(worker, channel)
        for channel, client in worker.present:
            assert self._engine is not None
            await self._engine.set_presence(channel, client, None)
