"""The hub of one host: it runs the engine that has the logs, for all workers, and knows who is subscribed to what."""

import asyncio
import logging
import os
from collections import defaultdict
from collections.abc import Callable, Coroutine
from typing import Any

from freshet.engines.base import Engine, Lease, Present, Receiver
from freshet.engines.codec import Info
from freshet.engines.local.messages import (
    EngineSettings,
    HubAnswer,
    HubConnection,
    HubDelivery,
    HubFailure,
    HubHello,
    HubNeighbours,
    HubNotification,
    HubPresence,
    HubPublish,
    HubRead,
    HubReleaseLease,
    HubRemove,
    HubRenewLeases,
    HubRenewPresence,
    HubReply,
    HubRequest,
    HubResult,
    HubSetPresence,
    HubSubscribe,
    HubTakeLease,
    HubTell,
    HubUnsubscribe,
    WireItem,
    encode,
    to_hub,
)
from freshet.errors import EngineUnavailable, PositionConflict
from freshet.model.events import Delivery
from freshet.runtime.tasks import Tasks

log = logging.getLogger("freshet.engines.local")


class ConnectedWorker:
    """node: its name. channels: that it is subscribed to. present: the clients of its own that it has set.

    leases: those that it has taken, by their names.
    """

    def __init__(self, connection: HubConnection, node: str) -> None:
        self.connection = connection
        self.node = node
        self.channels: set[str] = set()
        self.present: set[tuple[str, str]] = set()
        self.leases: dict[str, Lease] = {}


class HostHub:
    """make: the engine that the workers ask for."""

    def __init__(self, path: str, make: Callable[[EngineSettings], Engine]) -> None:
        self._path = path
        self._make = make
        self._engine: Engine | None = None
        self._starting: asyncio.Task[None] | None = None
        self._workers: dict[HubConnection, ConnectedWorker] = {}
        self._places: list[str] = []  # of the workers; "": one that the next worker takes
        self._subscribers: defaultdict[str, set[ConnectedWorker]] = defaultdict(set)
        self._tasks = Tasks()
        self._server: asyncio.AbstractServer | None = None
        self._handlers: dict[type[Any], Callable[[Engine, ConnectedWorker, Any], Coroutine[Any, Any, HubReply]]] = {
            HubNeighbours: self._neighbours,
            HubPresence: self._presence,
            HubPublish: self._publish,
            HubRead: self._read,
            HubReleaseLease: self._release_lease,
            HubRemove: self._remove,
            HubRenewLeases: self._renew_leases,
            HubRenewPresence: self._renew_presence,
            HubSetPresence: self._set_presence,
            HubSubscribe: self._subscribe,
            HubTakeLease: self._take_lease,
            HubTell: self._tell,
            HubUnsubscribe: self._unsubscribe,
        }

    @property
    def nodes(self) -> list[str]:
        """The workers that have begun."""
        return [node for node in self._places if node]

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        mask = os.umask(0o077)  # the socket is nobody else's
        try:
            self._server = await loop.create_unix_server(
                lambda: HubConnection(to_hub, self._received, self._lost), self._path, backlog=128
            )
        finally:
            os.umask(mask)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for connection in list(self._workers):
            connection.close()
        await self._tasks.stop()
        if self._engine is not None:
            await self._engine.stop()

    # ------------------------------------------------------------------------------------------------- the connections

    def _received(self, connection: HubConnection, messages: list[HubHello | HubRequest]) -> None:
        worker = self._workers.get(connection)
        for message in messages:
            if isinstance(message, HubHello):
                worker = self._welcome(connection, message)
            elif worker is not None and not (type(message) is HubPublish and self._publish_now(worker, message)):
                self._tasks.start_now(self._answer(worker, message), "workers: request")

    def _welcome(self, connection: HubConnection, hello: HubHello) -> ConnectedWorker:
        worker = self._workers[connection] = ConnectedWorker(connection, hello.node)
        self._place(hello.node)
        if self._engine is None:
            self._engine = self._make(hello.engine)
            receiver = Receiver(self._deliver, lambda channel: None, lambda message: None)
            self._starting = self._tasks.start(self._engine.start("hub", receiver), "workers: start the engine")
        return worker

    def _place(self, node: str) -> None:
        if "" not in self._places:
            self._places.append("")
        self._places[self._places.index("")] = node

    def _publish_now(self, worker: ConnectedWorker, it: HubPublish) -> bool:
        """Most of what a hub is asked; False: it has to wait, and is not done."""
        if self._engine is None or self._starting is not None:
            return False
        answer: HubAnswer
        try:
            position = self._engine.publish_now(it.channel, it.item.data, it.options())
            if position is None:
                return False
            answer = HubReply(it.correlation_id, position)
        except Exception as why:
            answer = _failure(worker, it, why)
        worker.connection.send(answer)
        return True

    async def _answer(self, worker: ConnectedWorker, request: HubRequest) -> None:
        engine = self._engine
        assert engine is not None
        answer: HubAnswer
        try:
            if self._starting is not None:
                await asyncio.shield(self._starting)
                self._starting = None
            answer = await self._handlers[type(request)](engine, worker, request)
        except Exception as why:
            answer = _failure(worker, request, why)
        worker.connection.send(answer)
        if self._is_gone(worker):
            self._tasks.start(self._remove_traces(worker), "workers: what one has left")

    def _deliver(self, event: Delivery) -> None:
        data = encode(HubDelivery.of(event))
        for worker in self._subscribers.get(event.channel, ()):
            worker.connection.send(data)

    def _lost(self, connection: HubConnection) -> None:
        worker = self._workers.pop(connection, None)
        if worker is not None:
            self._places[self._places.index(worker.node)] = ""
            self._tasks.start(self._remove_traces(worker), "workers: what one has left")

    def _is_gone(self, worker: ConnectedWorker) -> bool:
        """Then what was done for it meanwhile is noted behind that, and taken back with its other traces."""
        return worker.connection not in self._workers

    async def _remove_traces(self, worker: ConnectedWorker) -> None:
        """A worker's clients are gone with it. What it asked for as it died may be noted in between, and later."""
        assert self._engine is not None
        while worker.channels:
            await self._forget(self._engine, worker, next(iter(worker.channels)))
        while worker.leases:  # at once, for others wait for what it owned
            await self._engine.release_lease(*worker.leases.popitem())
        while worker.present:
            await self._engine.set_presence(*worker.present.pop(), None)

    async def _forget(self, engine: Engine, worker: ConnectedWorker, channel: str) -> None:
        worker.channels.discard(channel)
        subscribers = self._subscribers.get(channel)
        if subscribers is not None:
            subscribers.discard(worker)
            if not subscribers:
                del self._subscribers[channel]
                await engine.unsubscribe(channel)

    # ---------------------------------------------------------------------------------------------------- the requests

    async def _publish(self, engine: Engine, worker: ConnectedWorker, it: HubPublish) -> HubReply:
        return HubReply(it.correlation_id, await engine.publish(it.channel, it.item.data, it.options()))

    async def _subscribe(self, engine: Engine, worker: ConnectedWorker, it: HubSubscribe) -> HubReply:
        worker.channels.add(it.channel)
        self._subscribers[it.channel].add(worker)
        position = await engine.subscribe(it.channel, it.keep)
        if self._is_gone(worker):
            worker.channels.add(it.channel)
            self._subscribers[it.channel].add(worker)
        return HubReply(it.correlation_id, position)

    async def _unsubscribe(self, engine: Engine, worker: ConnectedWorker, it: HubUnsubscribe) -> HubReply:
        await self._forget(engine, worker, it.channel)
        return HubReply(it.correlation_id)

    async def _read(self, engine: Engine, worker: ConnectedWorker, it: HubRead) -> HubReply:
        stream = await engine.history(it.channel, it.keep, it.since, it.limit, it.reverse)
        items = [WireItem.of(each) for each in stream.publications]
        return HubReply(it.correlation_id, stream.position, HubResult(items))

    async def _remove(self, engine: Engine, worker: ConnectedWorker, it: HubRemove) -> HubReply:
        await engine.remove_history(it.channel)
        return HubReply(it.correlation_id)

    async def _presence(self, engine: Engine, worker: ConnectedWorker, it: HubPresence) -> HubReply:
        present = await engine.presence(it.channel)
        result = HubResult(present={client: Info.of(info) for client, info in present.items()})
        return HubReply(it.correlation_id, result=result)

    async def _set_presence(self, engine: Engine, worker: ConnectedWorker, it: HubSetPresence) -> HubReply:
        key = (it.channel, it.client)
        await engine.set_presence(it.channel, it.client, it.who.info() if it.who else None)
        (worker.present.add if it.who else worker.present.discard)(key)
        return HubReply(it.correlation_id)

    async def _renew_presence(self, engine: Engine, worker: ConnectedWorker, it: HubRenewPresence) -> HubReply:
        await engine.renew_presence([Present(channel, client, who.info()) for channel, client, who in it.present])
        worker.present.update((channel, client) for channel, client, _ in it.present)
        return HubReply(it.correlation_id)

    async def _take_lease(self, engine: Engine, worker: ConnectedWorker, it: HubTakeLease) -> HubReply:
        lease = await engine.take_lease(it.name, worker.node, it.ttl)
        if lease.owner == worker.node:
            worker.leases[it.name] = lease
        return HubReply(it.correlation_id, result=HubResult(lease=lease))

    async def _renew_leases(self, engine: Engine, worker: ConnectedWorker, it: HubRenewLeases) -> HubReply:
        renewed = await engine.renew_leases(worker.node, it.leases, it.ttl)
        for name in it.leases.keys() - renewed:
            worker.leases.pop(name, None)
        return HubReply(it.correlation_id, result=HubResult(renewed=renewed))

    async def _release_lease(self, engine: Engine, worker: ConnectedWorker, it: HubReleaseLease) -> HubReply:
        lease = Lease(worker.node, it.fence)
        if worker.leases.get(it.name) == lease:
            del worker.leases[it.name]
        await engine.release_lease(it.name, lease)
        return HubReply(it.correlation_id)

    async def _neighbours(self, engine: Engine, worker: ConnectedWorker, it: HubNeighbours) -> HubReply:
        return HubReply(it.correlation_id, result=HubResult(nodes=self._places))

    async def _tell(self, engine: Engine, worker: ConnectedWorker, it: HubTell) -> HubReply:
        notification = encode(HubNotification(it.message))
        for each in self._workers.values():
            if each is not worker and it.node in (None, each.node):
                each.connection.send(notification)
        return HubReply(it.correlation_id)


def _failure(worker: ConnectedWorker, request: HubRequest, why: Exception) -> HubFailure:
    if isinstance(why, PositionConflict):
        return HubFailure(request.correlation_id, str(why), conflict=True)
    if isinstance(why, EngineUnavailable):
        return HubFailure(request.correlation_id, str(why) or "unavailable")
    log.error("workers: %s of %s failed, which it is told", type(request).__name__, worker.node, exc_info=why)
    return HubFailure(request.correlation_id, "internal error of the hub")
