"""The engine of many machines over NATS: logs in JetStream, spread by core NATS.

What JetStream has stored it republishes, in its order, to those who listen: so a log's publications need no consumer.

    {prefix}.log.{channel}      stream {prefix}-log: what was published together, with epoch and offset; and marks
    {prefix}.once.{channel}     stream {prefix}-once: what has an idempotency key, and no log to be in
    $KV.{prefix}-presence.{channel}.{client}    presence
    {prefix}.flow.{channel}     core: what listening nodes hear
    {prefix}.node.{id}, {prefix}.nodes          core: messages between nodes
"""

import logging
from contextlib import suppress

from freshet.engines.base import Engine, Receiver
from freshet.engines.codec import Info
from freshet.engines.nats.access import SCHEMES, parse
from freshet.engines.nats.connection import Message
from freshet.engines.nats.link import Link
from freshet.engines.nats.logs import Logs, message_id_of
from freshet.engines.nats.messages import Came, Control, Entry, Foreign, Item, Names, Said, Went, decode, encode
from freshet.engines.nats.presence import Presence
from freshet.engines.nats.streams import REPEATS
from freshet.engines.nats.streams import Stream as Place
from freshet.errors import EngineUnavailable
from freshet.model.events import Joined, Left, Published
from freshet.model.log import NOWHERE, ClientInfo, History, Position, PublishOptions, Stream
from freshet.runtime.clock import SYSTEM, Clock

__all__ = ["SCHEMES", "NatsEngine"]

log = logging.getLogger("freshet")


class NatsEngine(Engine):
    """url: see `nats_access.parse`. presence_time: seconds for which a client that was set counts as there.

    ignored: how many messages came that nobody who speaks our form has sent. Raises ConfigError for an URL that cannot
    be.
    """

    def __init__(self, url: str, presence_time: float = 60.0, clock: Clock = SYSTEM) -> None:
        where = parse(url)
        self._names = names = Names(where.prefix)
        self._link = Link(where, self._hear, lambda: self._receiver and self._receiver.suspect(""))
        self._logs = Logs(self._link, where, clock)
        self._presence = Presence(self._link, where, presence_time, clock, self._listens)
        once = {
            "subjects": [names.all("once")],
            "republish": {"src": names.all("once"), "dest": names.all("flow")},
            "storage": "memory",
            "num_replicas": where.replicas,
            "max_msgs_per_subject": 1,
            "duplicate_window": REPEATS,
        }
        self._once = Place(self._link, f"{where.prefix}-once", REPEATS / 1e9, once)
        self._node = ""
        self._receiver: Receiver | None = None
        self._listening: dict[str, str] = {}  # channels, by the subject of their flow
        self.ignored = 0

    async def start(self, node: str, receiver: Receiver) -> None:
        self._node = node
        self._receiver = receiver
        await self._link.open()
        try:
            await self._link.listen([self._names.node(node), self._names.node(None)])
            with suppress(EngineUnavailable):  # whoever needs them tries again; channels without history do not
                async with self._link.in_time():
                    for place in (self._logs.place, self._once, self._presence.place):
                        await place.make()
        except BaseException:
            await self.stop()
            raise
        self._presence.sweeping.start()

    async def stop(self) -> None:
        await self._presence.stop()
        await self._logs.stop()
        await self._link.close()
        self._listening.clear()

    # --------------------------------------------------------------------------------------------------- the channels

    async def subscribe(self, channel: str, keep: History | None) -> Position:
        subject = self._flow(channel)
        new = subject not in self._listening
        self._listening[subject] = channel
        try:
            await self._link.listen([subject])
            return (await self.history(channel, keep, limit=0)).position if keep is not None else NOWHERE
        except BaseException:
            if new:
                await self.unsubscribe(channel)
            raise

    async def unsubscribe(self, channel: str) -> None:
        self._presence.sweeping.forget(channel)
        if self._listening.pop(self._flow(channel), None) is not None:
            self._link.ignore([self._flow(channel)])

    async def publish(self, channel: str, data: bytes, options: PublishOptions) -> Position:
        info = Info.of(options.info) if options.info is not None else None
        item, keep, key = Item(options.kind, data, options.tags, info), options.history, options.idempotency_key
        if keep is not None:
            return await self._logs.append(channel, item, keep, key)
        if key is None:
            await self._link.tell(self._flow(channel), encode(Said(item)))
            return NOWHERE
        async with self._link.in_time():
            subject = self._names.channel("once", channel)
            await self._once.append(subject, encode(Said(item)), key=message_id_of(channel, key))
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

    async def tell(self, node: str | None, message: bytes) -> None:
        await self._link.tell(self._names.node(node), encode(Control(self._node, message)))

    # ------------------------------------------------------------------------------------------------- what NATS brings

    def _hear(self, message: Message) -> None:
        """Something was published on a subject; what is not of our form is left out, and counted."""
        channel = self._listening.get(message.subject)
        try:
            said = decode(message.data)
            if self._receiver is None:
                return
            if channel is not None:
                self._hear_channel(self._receiver, channel, said, message)
            elif isinstance(said, Control) and said.sender != self._node:
                self._receiver.notify(said.message)
        except Foreign:
            self.ignored += 1
            if self.ignored == 1:
                log.warning("somebody else publishes on a subject of Freshet's in NATS; that is ignored")

    def _hear_channel(self, receiver: Receiver, channel: str, said: object, message: Message) -> None:
        if isinstance(said, Entry):
            seq = message.header(b"Nats-Sequence")
            if not seq.isdigit():
                raise Foreign
            self._logs.hear(channel, said, int(seq))
            for offset, item in enumerate(said.items, said.first):
                receiver.deliver(Published(channel, item.publication(offset), said.epoch))
        elif isinstance(said, Said):
            receiver.deliver(Published(channel, said.item.publication(0)))
        elif isinstance(said, Came):
            self._presence.sweeping.somebody(channel)
            receiver.deliver(Joined(channel, said.info.info()))
        elif isinstance(said, Went):
            receiver.deliver(Left(channel, said.info.info()))
        else:
            raise Foreign

    def _flow(self, channel: str) -> str:
        return self._names.channel("flow", channel)

    def _listens(self, channel: str) -> bool:
        return self._flow(channel) in self._listening
