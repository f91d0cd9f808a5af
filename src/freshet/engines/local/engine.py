"""The engine of a worker: it is connected to the hubs of its host, which run the engines that have the logs.

A channel is at one of them, by a hash of its name: its log, who is subscribed to it, and who is present. What there is
once for all channels is at the first: leases, messages between nodes, the places of the workers, and logs that belong
to no channel, such as the revocations.
"""

import asyncio
from collections.abc import Mapping, Sequence
from zlib import crc32

from freshet.engines.base import Engine, Lease, Outcome, Present, Receiver, ToPublish
from freshet.engines.codec import Info
from freshet.engines.local.link import HubLink, position_in
from freshet.engines.local.messages import (
    EngineSettings,
    HubHello,
    HubNeighbours,
    HubPresence,
    HubPublish,
    HubRead,
    HubReleaseLease,
    HubRemove,
    HubRenewLeases,
    HubRenewPresence,
    HubReply,
    HubResult,
    HubSetPresence,
    HubTakeLease,
    HubTell,
    WireItem,
)
from freshet.errors import EngineUnavailable, PositionConflict
from freshet.model.log import ClientInfo, History, Position, PublishOptions, Stream

PATIENCE = 30.0  # seconds that other hubs than the first may take to begin


class LocalEngine(Engine):
    """paths: of the hubs' sockets, of which the first is there. engine: that they shall run, the same for all workers.

    Both are the same for all workers of a host, or a channel would be at two hubs.
    """

    def __init__(self, paths: Sequence[str], engine: EngineSettings) -> None:
        self._engine = engine
        self.forgets = engine.url.startswith("memory:")
        self._links = [HubLink(path) for path in paths]
        self._first = self._links[0]

    def _link(self, channel: str) -> HubLink:
        """To the hub that has a channel, and what the server keeps for that: `\\0kind:channel`."""
        if len(self._links) == 1:
            return self._first
        if channel.startswith("\0"):
            _, of_a_channel, channel = channel.partition(":")
            if not of_a_channel:
                return self._first
        return self._links[crc32(channel.encode()) % len(self._links)]

    async def start(self, node: str, receiver: Receiver) -> None:
        hello = HubHello(node, self._engine)
        try:
            for link in self._links:
                await link.open(hello, receiver, 0 if link is self._first else PATIENCE)
        except EngineUnavailable:
            await self.stop()
            raise

    async def stop(self) -> None:
        for link in self._links:
            await link.close()

    async def subscribe(self, channel: str, keep: History | None) -> Position:
        return await self._link(channel).subscribe(channel, keep)

    async def unsubscribe(self, channel: str) -> None:
        await self._link(channel).unsubscribe(channel)

    async def publish(self, channel: str, data: bytes, options: PublishOptions) -> Position:
        return position_in(await self._ask_to_publish(channel, data, options))

    async def publish_each(self, publications: Sequence[ToPublish]) -> list[Outcome]:
        """Without a task for each: when the last reply is there, the others mostly are."""
        replies = [self._ask_to_publish(*each) for each in publications]
        results: list[Outcome] = []
        try:
            for reply in replies:
                try:
                    results.append(position_in(await reply))
                except (EngineUnavailable, PositionConflict) as why:
                    results.append(why)
        finally:
            for reply in replies:
                reply.cancel()  # those that nobody waits for any more
        return results

    def _ask_to_publish(self, channel: str, data: bytes, options: PublishOptions) -> asyncio.Future[HubReply]:
        sender = Info.of(options.info) if options.info else None
        item = WireItem(data, 0, options.kind, options.tags, sender, options.stamp)
        key, keep, after = options.idempotency_key, options.history, options.after
        return self._link(channel).ask(HubPublish, channel, item, keep, key, after)

    async def history(
        self, channel: str, keep: History, since: Position | None = None, limit: int = -1, reverse: bool = False
    ) -> Stream:
        limit = max(-1, min(limit, 1 << 62))
        if since is not None:
            since = Position(since.epoch, max(-(1 << 62), min(since.offset, 1 << 62)))
        reply = await self._link(channel).ask(HubRead, channel, keep, since, limit, reverse)
        return Stream([item.publication() for item in _result(reply).items], position_in(reply))

    async def remove_history(self, channel: str) -> None:
        await self._link(channel).ask(HubRemove, channel)

    async def presence(self, channel: str) -> dict[str, ClientInfo]:
        result = _result(await self._link(channel).ask(HubPresence, channel))
        return {client: who.info() for client, who in result.present.items()}

    async def set_presence(self, channel: str, client: str, info: ClientInfo | None) -> None:
        if info is None:
            await self._link(channel).withdraw(HubSetPresence, channel, client, None)
        else:
            await self._link(channel).ask(HubSetPresence, channel, client, Info.of(info))

    async def renew_presence(self, present: Sequence[Present]) -> None:
        clients: dict[HubLink, list[tuple[str, str, Info]]] = {}
        for channel, client, info in present:
            clients.setdefault(self._link(channel), []).append((channel, client, Info.of(info)))
        await asyncio.gather(*[link.ask(HubRenewPresence, its) for link, its in clients.items()])

    # ------------------------------------------------------------------------------------- once for all channels

    async def take_lease(self, name: str, owner: str, ttl: float) -> Lease:
        """owner: this node, which the hub knows: what it has for itself is released when it is gone."""
        lease = _result(await self._first.ask(HubTakeLease, name, ttl)).lease
        if lease is None:
            raise EngineUnavailable("the hub gave no lease")
        return lease

    async def renew_leases(self, owner: str, leases: Mapping[str, int], ttl: float) -> set[str]:
        return _result(await self._first.ask(HubRenewLeases, dict(leases), ttl)).renewed

    async def release_lease(self, name: str, lease: Lease) -> None:
        await self._first.ask(HubReleaseLease, name, lease.fence)

    async def neighbours(self) -> list[str]:
        return _result(await self._first.ask(HubNeighbours)).nodes

    async def tell(self, node: str | None, message: bytes) -> None:
        await self._first.ask(HubTell, node, message)


def _result(reply: HubReply) -> HubResult:
    if reply.result is None:
        raise EngineUnavailable("the hub gave no result")
    return reply.result
