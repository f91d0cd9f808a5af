"""The engine of a worker: it is connected to the hub of its host, which runs the engine that has the logs."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from itertools import count

from freshet.engines.base import Engine, Lease, Present, Receiver
from freshet.engines.codec import Info
from freshet.engines.local.messages import (
    EngineSettings,
    HubConnection,
    HubDelivery,
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
    HubSetPresence,
    HubSubscribe,
    HubTakeLease,
    HubTell,
    HubUnsubscribe,
    WireItem,
    to_worker,
)
from freshet.errors import EngineUnavailable, PositionConflict
from freshet.model.log import ClientInfo, History, Position, PublishOptions, Stream
from freshet.runtime.tasks import Tasks, in_task

log = logging.getLogger("freshet.engines.local")

IN_FLIGHT = 20_000  # requests of a worker
TIMEOUT = 5.0  # seconds for a reply
RECONNECT_INTERVAL = 0.1  # seconds


class LocalEngine(Engine):
    """path: of the hub's socket. engine: that the hub shall run, the same for all workers."""

    def __init__(self, path: str, engine: EngineSettings) -> None:
        self._path = path
        self._engine = engine
        self._correlation_ids = count(1)
        self._requests: dict[int, asyncio.Future[HubReply]] = {}
        self._subscribed: dict[str, History | None] = {}
        self._connection: HubConnection | None = None
        self._tasks = Tasks()

    async def start(self, node: str, receiver: Receiver) -> None:
        self._hello = HubHello(node, self._engine)
        self._receiver = receiver
        try:
            await self._connect()
        except OSError as error:
            raise EngineUnavailable(f"no hub at {self._path}: {error}") from error

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_unix_connection(lambda: HubConnection(self._received, self._lost), self._path)
        connection.send(self._hello)
        self._connection = connection

    async def stop(self) -> None:
        await self._tasks.stop()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        self._subscribed.clear()

    def _received(self, connection: HubConnection, data: bytes) -> None:
        message = to_worker.decode(data)
        if isinstance(message, HubDelivery):
            if message.channel in self._subscribed:
                self._receiver.deliver(message.delivery())
        elif isinstance(message, HubNotification):
            self._receiver.notify(message.body)
        else:
            reply = self._requests.get(message.correlation_id)
            if reply is not None and not reply.done():
                reply.set_result(message)

    def _lost(self, connection: HubConnection) -> None:
        for reply in self._requests.values():
            if not reply.done():
                reply.set_exception(EngineUnavailable("the connection to the hub of this host is lost"))
        if self._connection is connection:
            self._connection = None
            self._tasks.start(self._reconnect(), "workers: reconnect to the hub")

    async def _reconnect(self) -> None:
        reported = False
        while self._connection is None:
            await asyncio.sleep(RECONNECT_INTERVAL)
            try:
                await self._connect()
                for channel, keep in list(self._subscribed.items()):
                    await self.subscribe(channel, keep)
            except (OSError, EngineUnavailable) as error:
                if not reported:  # a hub that stays away is reported once
                    reported = True
                    log.warning("workers: connection to the hub lost (%s), reconnecting", error)
        log.warning("workers: connected to the hub again; all channels are compared with their logs")
        self._receiver.suspect("")

    async def _request(self, request: Callable[[int], HubRequest]) -> HubReply:
        await in_task()
        if self._connection is None:
            raise EngineUnavailable("the hub of this host is away")
        if len(self._requests) >= IN_FLIGHT:
            raise EngineUnavailable(f"{IN_FLIGHT} requests wait for the hub")
        correlation_id = next(self._correlation_ids)
        future: asyncio.Future[HubReply] = asyncio.get_running_loop().create_future()
        self._requests[correlation_id] = future
        self._connection.send(request(correlation_id))
        try:
            async with asyncio.timeout(TIMEOUT):
                reply = await future
        except TimeoutError:
            raise EngineUnavailable("the hub of this host does not reply") from None
        finally:
            del self._requests[correlation_id]
        if reply.failed:
            raise (PositionConflict if reply.conflict else EngineUnavailable)(reply.failed)
        return reply

    async def _withdraw(self, request: Callable[[int], HubRequest]) -> None:
        """Ask the hub to forget something of this worker. With a connection that is lost it forgets all of that."""
        connection = self._connection
        try:
            await self._request(request)
        except EngineUnavailable:
            if connection is not None and connection is self._connection:
                raise

    async def subscribe(self, channel: str, keep: History | None) -> Position:
        self._subscribed[channel] = keep
        return _position(await self._request(lambda id: HubSubscribe(id, channel, keep)))

    async def unsubscribe(self, channel: str) -> None:
        self._subscribed.pop(channel, None)
        await self._withdraw(lambda id: HubUnsubscribe(id, channel))

    async def publish(self, channel: str, data: bytes, options: PublishOptions) -> Position:
        sender = Info.of(options.info) if options.info else None
        item = WireItem(data, 0, options.kind, options.tags, sender, options.stamp)
        key, keep, after = options.idempotency_key, options.history, options.after
        return _position(await self._request(lambda id: HubPublish(id, channel, item, keep, key, after)))

    async def history(
        self, channel: str, keep: History, since: Position | None = None, limit: int = -1, reverse: bool = False
    ) -> Stream:
        limit = max(-1, min(limit, 1 << 62))
        if since is not None:
            since = Position(since.epoch, max(-(1 << 62), min(since.offset, 1 << 62)))
        reply = await self._request(lambda id: HubRead(id, channel, keep, since, limit, reverse))
        return Stream([item.publication() for item in reply.items], _position(reply))

    async def remove_history(self, channel: str) -> None:
        await self._request(lambda id: HubRemove(id, channel))

    async def presence(self, channel: str) -> dict[str, ClientInfo]:
        reply = await self._request(lambda id: HubPresence(id, channel))
        return {client: who.info() for client, who in reply.present.items()}

    async def set_presence(self, channel: str, client: str, info: ClientInfo | None) -> None:
        if info is None:
            await self._withdraw(lambda id: HubSetPresence(id, channel, client, None))
            return
        who = Info.of(info)
        await self._request(lambda id: HubSetPresence(id, channel, client, who))

    async def renew_presence(self, present: Sequence[Present]) -> None:
        clients = [(channel, client, Info.of(info)) for channel, client, info in present]
        await self._request(lambda id: HubRenewPresence(id, clients))

    async def take_lease(self, name: str, owner: str, ttl: float) -> Lease:
        """owner: this node, which the hub knows: what it has for itself is released when it is gone."""
        lease = (await self._request(lambda id: HubTakeLease(id, name, ttl))).lease
        if lease is None:
            raise EngineUnavailable("the hub gave no lease")
        return lease

    async def renew_leases(self, owner: str, leases: Mapping[str, int], ttl: float) -> set[str]:
        return (await self._request(lambda id: HubRenewLeases(id, dict(leases), ttl))).renewed

    async def release_lease(self, name: str, lease: Lease) -> None:
        await self._request(lambda id: HubReleaseLease(id, name, lease.fence))

    async def neighbours(self) -> list[str]:
        return (await self._request(HubNeighbours)).nodes

    async def tell(self, node: str | None, message: bytes) -> None:
        await self._request(lambda id: HubTell(id, node, message))


def _position(reply: HubReply) -> Position:
    if reply.position is None:
        raise EngineUnavailable("the hub gave no position")
    return reply.position
