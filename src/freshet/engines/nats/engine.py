"""The engine of many machines over NATS: logs in JetStream, broadcast by core NATS.

What JetStream has stored it republishes, in its order, to the nodes that are subscribed: so no log needs a consumer.

    {prefix}.log.{channel}      stream {prefix}-log: what was published together, with epoch and offset; and marks
    {prefix}.once.{channel}     stream {prefix}-once: what has an idempotency key, and no log to be in
    $KV.{prefix}-presence.{channel}.{client}    presence
    {prefix}.lease.{name}       stream {prefix}-leases: who has a name for itself
    {prefix}.flow.{channel}     core: what the nodes that are subscribed receive
    {prefix}.node.{id}, {prefix}.nodes          core: messages between nodes
"""

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress

from freshet.engines.base import Engine, Lease, Present, Receiver
from freshet.engines.codec import Info
from freshet.engines.nats.connection import NatsConnection
from freshet.engines.nats.leases import NatsLeases
from freshet.engines.nats.logs import ChannelLogs, message_id_of
from freshet.engines.nats.messages import (
    BrokerMessage,
    ClientJoined,
    ClientLeft,
    ControlMessage,
    Decoded,
    EncodedPublication,
    LogMessage,
    Names,
    UnknownMessage,
    UnloggedMessage,
    decode,
    encode,
)
from freshet.engines.nats.presence import NatsPresence
from freshet.engines.nats.streams import REPEATS, BrokerStream
from freshet.engines.nats.url import SCHEMES, parse
from freshet.errors import EngineUnavailable
from freshet.model.events import Joined, Left, Published
from freshet.model.log import NOWHERE, ClientInfo, History, Position, PublishOptions, Stream
from freshet.runtime.clock import SYSTEM, Clock

__all__ = ["SCHEMES", "NatsEngine"]

log = logging.getLogger("freshet")


class NatsEngine(Engine):
    """url: see `url.parse`. presence_time: seconds after which a client that was not set again has left.

    ignored: how many messages came that no node has sent. Raises ConfigError for an URL that cannot be, and when the
    client library is not installed.
    """

    def __init__(self, url: str, presence_time: float = 60.0, clock: Clock = SYSTEM) -> None:
        settings = parse(url)
        self._names = names = Names(settings.prefix)
        self._connection = NatsConnection(settings, self._receive, self._reconnected)
        self._logs = ChannelLogs(self._connection, settings, clock)
        self._presence = NatsPresence(self._connection, settings, presence_time, clock, self._is_subscribed)
        self._leases = NatsLeases(self._connection, settings)
        once = {
            "subjects": [names.all("once")],
            "republish": {"src": names.all("once"), "dest": names.all("flow")},
            "storage": "memory",
            "num_replicas": settings.replicas,
            "max_msgs_per_subject": 1,
            "duplicate_window": REPEATS,
        }
        self._once = BrokerStream(self._connection, f"{settings.prefix}-once", REPEATS / 1e9, once)
        self._node = ""
        self._receiver: Receiver | None = None
        self._subscribed: dict[str, str] = {}  # channels, by the subject of their flow
        self.ignored = 0

    async def start(self, node: str, receiver: Receiver) -> None:
        self._node = node
        self._receiver = receiver
        await self._connection.open()
        try:
            await self._connection.subscribe([self._names.node(node), self._names.node(None)])
            with suppress(EngineUnavailable):  # whoever needs them tries again; channels without history do not
                async with self._connection.deadline():
                    for stream in (self._logs.stream, self._once, self._presence.stream):
                        await stream.make()
        except BaseException:
            await self.stop()
            raise
        self._presence.sweep.start()

    async def stop(self) -> None:
        await self._presence.stop()
        await self._leases.stop()
        await self._logs.stop()
        await self._connection.close()
        self._subscribed.clear()

    # --------------------------------------------------------------------------------------------------- the channels

    async def subscribe(self, channel: str, keep: History | None) -> Position:
        subject = self._flow(channel)
        new = subject not in self._subscribed
        self._subscribed[subject] = channel
        try:
            await self._connection.subscribe([subject])
            return (await self.history(channel, keep, limit=0)).position if keep is not None else NOWHERE
        except BaseException:
            if new:
                await self.unsubscribe(channel)
            raise

    async def unsubscribe(self, channel: str) -> None:
        self._presence.sweep.forget(channel)
        if self._subscribed.pop(self._flow(channel), None) is not None:
            self._connection.unsubscribe([self._flow(channel)])

    async def publish(self, channel: str, data: bytes, options: PublishOptions) -> Position:
        info = Info.of(options.info) if options.info is not None else None
        item = EncodedPublication(options.kind, data, options.tags, info, options.stamp)
        keep, key = options.history, options.idempotency_key
        if keep is not None:
            return await self._logs.append(channel, item, keep, key, options.after)
        if key is None:
            await self._connection.publish(self._flow(channel), encode(UnloggedMessage(item)))
            return NOWHERE
        async with self._connection.deadline():
            subject = self._names.channel("once", channel)
            await self._once.append(subject, encode(UnloggedMessage(item)), key=message_id_of(channel, key))
        return NOWHERE

    async def history(
        self, channel: str, keep: History, since: Position | None = None, limit: int = -1, reverse: bool = False
    ) -> Stream:
        return await self._logs.history(channel, keep, since, limit, reverse)

    async def remove_history(self, channel: str) -> None:
        await self._logs.remove(channel)

    async def presence(self, channel: str) -> dict[str, ClientInfo]:
        return await self._presence.read(channel)

    async def set_presence(self, channel: str, client: str, info: ClientInfo | None) -> None:
        await self._presence.set(channel, client, info)

    async def renew_presence(self, present: Sequence[Present]) -> None:
        await self._presence.renew(present)

    async def take_lease(self, name: str, owner: str, ttl: float) -> Lease:
        return await self._leases.take(name, owner, ttl)

    async def renew_leases(self, owner: str, leases: Mapping[str, int], ttl: float) -> set[str]:
        return await self._leases.renew(owner, leases, ttl)

    async def release_lease(self, name: str, lease: Lease) -> None:
        await self._leases.release(name, lease)

    async def tell(self, node: str | None, message: bytes) -> None:
        await self._connection.publish(self._names.node(node), encode(ControlMessage(self._node, message)))

    # ------------------------------------------------------------------------------------------------- what NATS brings

    def _receive(self, message: BrokerMessage) -> None:
        """Something was published on a subject; what is not of our form is left out, and counted."""
        channel = self._subscribed.get(message.subject)
        try:
            decoded = decode(message.data)
            if self._receiver is None:
                return
            if channel is not None:
                self._deliver(self._receiver, channel, decoded, message)
            elif isinstance(decoded, ControlMessage) and decoded.sender != self._node:
                self._receiver.notify(decoded.message)
        except UnknownMessage:
            self.ignored += 1
            if self.ignored == 1:
                log.warning(
                    "nats: a message on %s is not from a Freshet node and is left out; so will be others, silently",
                    message.subject,
                )

    def _deliver(self, receiver: Receiver, channel: str, decoded: Decoded, message: BrokerMessage) -> None:
        if isinstance(decoded, LogMessage):
            seq = message.header(b"Nats-Sequence")
            if not seq.isdigit():
                raise UnknownMessage
            self._logs.note(channel, decoded, int(seq))
            for offset, item in enumerate(decoded.items, decoded.first):
                receiver.deliver(Published(channel, item.at(offset), decoded.epoch))
        elif isinstance(decoded, UnloggedMessage):
            receiver.deliver(Published(channel, decoded.item.at(0)))
        elif isinstance(decoded, ClientJoined):
            self._presence.sweep.somebody(channel)
            receiver.deliver(Joined(channel, decoded.info.info()))
        elif isinstance(decoded, ClientLeft):
            receiver.deliver(Left(channel, decoded.info.info()))
        else:
            raise UnknownMessage

    def _reconnected(self) -> None:
        """What was published meanwhile did not come, in any channel."""
        if self._receiver is not None:
            self._receiver.suspect("")

    def _flow(self, channel: str) -> str:
        return self._names.channel("flow", channel)

    def _is_subscribed(self, channel: str) -> bool:
        return self._flow(channel) in self._subscribed
