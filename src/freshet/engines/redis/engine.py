"""The engine of many machines: logs in Redis Streams, broadcast by its publish/subscribe.

One script does all of a publication in one step: idempotency, epoch, offset, append, trim, broadcast. All keys and
topics of a channel share a hash tag, so that a cluster keeps them together. What nobody uses expires by itself.

    {prefix}:{channel}:meta            hash: epoch, offset, and of which server; see lua/log.lua
    {prefix}:{channel}:log             stream: one entry per publication, with the id offset-0
    {prefix}:{channel}:once:{key}      string: the position of what was published under an idempotency key
    {prefix}:{channel}:here, :until    hash, sorted set: who is present, and until when, by client
    {prefix}:{name}:lease, :fence      strings: who has a name for itself, and the last fence of it
    {prefix}:{channel}:flow            topic
    {prefix}:{node:id}, {prefix}:{nodes}   topics: messages between nodes

Topics of another database than 0 begin with {prefix}@{database}.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import TYPE_CHECKING

from freshet.engines.base import Engine, Lease, Present, Receiver, new_epoch
from freshet.engines.presence_sweep import PresenceSweep
from freshet.engines.redis.access import SCHEMES, parse
from freshet.engines.redis.messages import (
    ChannelNames,
    ForeignMessage,
    LinkEvents,
    Part,
    ScriptCall,
    decode_delivery,
    decode_node_message,
    encode_info,
    encode_node_message,
    encode_publication,
    node_topic,
    read_lease,
    read_position,
    read_presence,
    read_renewed,
    read_stream,
)
from freshet.errors import ConfigError, EngineUnavailable, PositionConflict
from freshet.model.events import Joined
from freshet.model.log import NOWHERE, ClientInfo, History, Position, PublishOptions, Stream
from freshet.runtime.clock import SYSTEM, Clock

if TYPE_CHECKING:
    from freshet.engines.redis.topology import RedisTopology

__all__ = ["SCHEMES", "RedisEngine"]

log = logging.getLogger("freshet")

IDEMPOTENCY_TIME = 300_000  # ms
META_TIME = 3_600_000 + 300_000  # ms for which an epoch outlives the publications: a subscriber reads within an hour
FENCE_TIME = 86_400_000  # ms for which the last fence of a name that nobody has is kept
HIGHEST = 2**63 - 1
LEASES_AT_ONCE = 500  # in one script
RENEWED_AT_ONCE = 200  # clients in one script, which nothing else runs beside

_HERE = files("freshet.engines.redis") / "lua"


def _script(*names: str) -> bytes:
    return b"\n".join((_HERE / f"{name}.lua").read_bytes() for name in names)


SCRIPTS = {
    "publish": _script("log", "publish"),
    "history": _script("log", "history"),
    "presence": _script("presence"),
    "lease": _script("lease"),
    "renew_leases": _script("renew_leases"),
}


class RedisEngine(Engine):
    """url: see `access.parse`. presence_time: seconds for which a client that was set counts as present.

    ignored: how many messages came that nobody who speaks our form has sent.

    Raises ConfigError for an URL that cannot be, or when the package is missing.
    """

    def __init__(self, url: str, presence_time: float = 60.0, clock: Clock = SYSTEM) -> None:
        try:  # here, so that an application without the package can still be imported
            from freshet.engines.redis.topology import topology_of  # noqa: PLC0415
        except ModuleNotFoundError:
            raise ConfigError("engine", "Redis needs packages: pip install redis hiredis") from None
        self._url = parse(url)
        self._topology_of = topology_of
        self._presence_time = max(1, int(presence_time * 1000))  # ms
        self._node = ""
        self._receiver: Receiver | None = None
        self._topology: RedisTopology | None = None
        self._broadcast = b"PUBLISH"
        self._subscribed: dict[bytes, str] = {}
        self._node_topics: frozenset[bytes] = frozenset()
        self._sweeping = PresenceSweep(presence_time, clock, self._subscribes, self._sweep)
        self.ignored = 0

    async def start(self, node: str, receiver: Receiver) -> None:
        self._node = node
        self._receiver = receiver
        events = LinkEvents(self._on_message, lambda: receiver.suspect(""), lambda: None)
        topology = self._topology = self._topology_of(self._url, SCRIPTS, events)
        self._broadcast = b"SPUBLISH" if topology.sharded else b"PUBLISH"
        try:
            await topology.start()
            own = [node_topic(self._url.topic_prefix, node), node_topic(self._url.topic_prefix, None)]
            self._node_topics = frozenset(topic for _, topic in own)
            await asyncio.gather(*(topology.subscribe(slot, topic) for slot, topic in own))
        except BaseException:
            await self.stop()
            raise
        self._sweeping.start()

    async def stop(self) -> None:
        await self._sweeping.stop()
        topology, self._topology = self._topology, None
        if topology is not None:
            await topology.stop()
        self._subscribed.clear()

    # --------------------------------------------------------------------------------------------------- the channels

    async def subscribe(self, channel: str, keep: History | None) -> Position:
        names = self._names(channel)
        new = names.topic not in self._subscribed
        self._subscribed[names.topic] = channel
        try:
            await self._servers.subscribe(names.slot, names.topic)
            return (await self.history(channel, keep, limit=0)).position if keep is not None else NOWHERE
        except BaseException:
            if new:
                await self.unsubscribe(channel)
            raise

    async def unsubscribe(self, channel: str) -> None:
        names = self._names(channel)
        self._sweeping.forget(channel)
        if self._subscribed.pop(names.topic, None) is not None and self._topology is not None:
            self._topology.unsubscribe(names.slot, names.topic)

    async def publish(self, channel: str, data: bytes, options: PublishOptions) -> Position:
        body = encode_publication(data, options)
        names, keep, key = self._names(channel), options.history, options.idempotency_key
        if keep is None and key is None:
            await self._servers.request(names.slot, self._broadcast, names.topic, b"p0::" + body)
            return NOWHERE
        keys = names.keys("meta", "log") if key is None else names.keys("meta", "log", f"once:{key}")
        size, ttl = (keep.size, _milliseconds(keep.ttl)) if keep is not None else (0, 0)
        times = (size, ttl, ttl + META_TIME, IDEMPOTENCY_TIME)
        after = options.after or NOWHERE
        arguments = (names.topic, self._broadcast, body, new_epoch(), *times, *after)
        position = read_position(await self._servers.run(names.slot, ScriptCall("publish", keys, arguments)))
        if position.offset < 0:
            raise PositionConflict(f"the log does not stand at {after}")
        return position

    async def history(
        self, channel: str, keep: History, since: Position | None = None, limit: int = -1, reverse: bool = False
    ) -> Stream:
        names = self._names(channel)
        read, first, last = b"XRANGE", "-", "+"
        if reverse:
            read, first = b"XREVRANGE", "+" if since is None else str(min(max(since.offset, 1), HIGHEST) - 1)
            last = "-"
        elif since is not None:
            first = str(min(max(since.offset, 0) + 1, HIGHEST))
        arguments: tuple[Part, ...] = (
            new_epoch(),
            _milliseconds(keep.ttl) + META_TIME,
            read if limit else b"",
            first,
            last,
            limit if 0 <= limit < HIGHEST else HIGHEST,
        )
        script = ScriptCall("history", names.keys("meta", "log"), arguments)
        return read_stream(await self._servers.run(names.slot, script))

    async def remove_history(self, channel: str) -> None:
        names = self._names(channel)
        await self._servers.request(names.slot, b"DEL", *names.keys("log"))

    # ------------------------------------------------------------------------------------------------------- presence

    async def presence(self, channel: str) -> dict[str, ClientInfo]:
        more = True
        clients: dict[str, ClientInfo] = {}
        while more:
            _, more, clients = await self._run_presence(channel, b"read")
        return clients

    async def set_presence(self, channel: str, client: str, info: ClientInfo | None) -> None:
        if info is None:
            await self._run_presence(channel, b"remove", client)
        else:
            await self._run_presence(channel, b"set", client, encode_info(info))

    async def renew_presence(self, present: Sequence[Present]) -> None:
        by_channel: dict[str, list[Part]] = {}
        for channel, client, info in present:
            by_channel.setdefault(channel, []).extend((client, encode_info(info)))
        scripts: list[tuple[int, ScriptCall]] = []
        for channel, pairs in by_channel.items():
            names = self._names(channel)
            for start in range(0, len(pairs), 2 * RENEWED_AT_ONCE):
                part = pairs[start : start + 2 * RENEWED_AT_ONCE]
                scripts.append((names.slot, self._presence_script(names, b"set", *part)))
        await self._servers.run_all(scripts)
        for channel in by_channel:
            self._sweeping.somebody(channel)

    async def _run_presence(self, channel: str, what: bytes, *clients: Part) -> tuple[int, bool, dict[str, ClientInfo]]:
        names = self._names(channel)
        reply = await self._servers.run(names.slot, self._presence_script(names, what, *clients))
        self._sweeping.somebody(channel)
        return read_presence(reply)

    def _presence_script(self, names: ChannelNames, what: bytes, *clients: Part) -> ScriptCall:
        arguments = (names.topic, self._broadcast, what, self._presence_time, *clients)
        return ScriptCall("presence", names.keys("here", "until"), arguments)

    def _subscribes(self, channel: str) -> bool:
        return self._names(channel).topic in self._subscribed

    async def _sweep(self, channel: str) -> bool:
        present, _, _ = await self._run_presence(channel, b"sweep")
        return bool(present)

    # --------------------------------------------------------------------------------------------------------- leases

    async def take_lease(self, name: str, owner: str, ttl: float) -> Lease:
        slot, script = self._lease_script(b"take", name, owner, ttl)
        lease = read_lease(await self._servers.run(slot, script))
        if lease is None:
            raise EngineUnavailable("Redis gave no lease")
        return lease

    async def renew_leases(self, owner: str, leases: Mapping[str, int], ttl: float) -> set[str]:
        by_slot: dict[int, list[tuple[str, ChannelNames]]] = {}
        for name in leases:
            names = self._names(name)
            by_slot.setdefault(names.slot if self._servers.sharded else 0, []).append((name, names))
        parts = [
            them[start : start + LEASES_AT_ONCE]
            for them in by_slot.values()
            for start in range(0, len(them), LEASES_AT_ONCE)
        ]
        scripts: list[tuple[int, ScriptCall]] = []
        for part in parts:
            keys = [key for _, names in part for key in names.keys("lease", "fence")]
            arguments: tuple[Part, ...] = (owner, _milliseconds(ttl), *(leases[name] for name, _ in part))
            scripts.append((part[0][1].slot, ScriptCall("renew_leases", keys, arguments)))
        replies = await self._servers.run_all(scripts)
        pairs = zip(parts, replies, strict=True)
        return {name for part, reply in pairs for (name, _), it in zip(part, read_renewed(reply), strict=True) if it}

    async def release_lease(self, name: str, lease: Lease) -> None:
        slot, script = self._lease_script(b"release", name, lease.owner, 0, lease.fence)
        await self._servers.run(slot, script)

    def _lease_script(self, what: bytes, name: str, owner: str, ttl: float, fence: int = 0) -> tuple[int, ScriptCall]:
        names = self._names(name)
        arguments = (what, owner, _milliseconds(ttl), fence, FENCE_TIME)
        return names.slot, ScriptCall("lease", names.keys("lease", "fence"), arguments)

    # ---------------------------------------------------------------------------------------------------------- nodes

    async def tell(self, node: str | None, message: bytes) -> None:
        slot, topic = node_topic(self._url.topic_prefix, node)
        await self._servers.request(slot, self._broadcast, topic, encode_node_message(self._node, message))

    # ----------------------------------------------------------------------------------------------- what Redis brings

    def _on_message(self, topic: bytes, data: bytes) -> None:
        """Something was published on a topic; what is not of our form is left out, and counted."""
        channel = self._subscribed.get(topic)
        try:
            if channel is not None:
                self._deliver(channel, data)
            elif topic in self._node_topics:
                self._notify(data)
        except ForeignMessage:
            self.ignored += 1
            if self.ignored == 1:
                log.warning("redis: somebody else publishes on Freshet's topic %r; such messages are ignored", topic)

    def _deliver(self, channel: str, data: bytes) -> None:
        delivery = decode_delivery(channel, data)
        if isinstance(delivery, Joined):
            self._sweeping.somebody(channel)
        if self._receiver is not None:
            self._receiver.deliver(delivery)

    def _notify(self, data: bytes) -> None:
        received = decode_node_message(data)
        if self._receiver is not None and received.sender != self._node:
            self._receiver.notify(received.message)

    @property
    def _servers(self) -> "RedisTopology":
        if self._topology is None:
            raise EngineUnavailable("the engine was stopped")
        return self._topology

    def _names(self, channel: str) -> ChannelNames:
        return ChannelNames(self._url.prefix, self._url.topic_prefix, channel)


def _milliseconds(seconds: float) -> int:
    return max(1, int(seconds * 1000))
