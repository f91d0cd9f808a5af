"""The engine of many machines: logs in Redis Streams, spread by its publish/subscribe.

One script does all of a publication in one step: idempotency, epoch, offset, append, trim, spread. All keys and topics
of a channel share a hash tag, so that a cluster keeps them together. What nobody uses expires in Redis by itself.

    {prefix}:{channel}:meta            hash: epoch, offset, and of which server; see lua/log.lua
    {prefix}:{channel}:log             stream: one entry per publication, with the id offset-0
    {prefix}:{channel}:once:{key}      string: the place of what was published under an idempotency key
    {prefix}:{channel}:here, :until    hash, sorted set: presence, by client
    {prefix}:{channel}:flow            topic
    {prefix}:{node:id}, {prefix}:{nodes}   topics: messages between nodes
"""

import asyncio
import logging
from importlib.resources import files
from typing import Any

import msgspec

from freshet.engines.base import Engine, Receiver, new_epoch
from freshet.engines.codec import Info
from freshet.engines.presence_sweep import Sweeping
from freshet.engines.redis.connection import Events
from freshet.engines.redis.topology import SCHEMES, Servers, parse, servers_of, slot_of
from freshet.errors import EngineUnavailable
from freshet.model.events import Delivery, Joined, Left, Published
from freshet.model.log import NOWHERE, ClientInfo, History, Kind, Position, Publication, PublishOptions, Stream
from freshet.runtime.clock import SYSTEM, Clock

__all__ = ["SCHEMES", "RedisEngine"]

log = logging.getLogger("freshet")

IDEMPOTENCY_TIME = 300_000  # ms
META_TIME = 3_600_000 + 300_000  # ms for which an epoch outlives the publications: a listener reads within an hour
HIGHEST = 2**63 - 1

_HERE = files("freshet.engines.redis") / "lua"


def _script(*names: str) -> bytes:
    return b"\n".join((_HERE / f"{name}.lua").read_bytes() for name in names)


SCRIPTS = {
    "publish": _script("log", "publish"),
    "history": _script("log", "history"),
    "presence": _script("presence"),
}


class _Body(msgspec.Struct, frozen=True, array_like=True):
    """A publication as it is kept and spread."""

    kind: Kind
    data: bytes
    tags: dict[str, str] | None = None
    info: Info | None = None


class _Control(msgspec.Struct, frozen=True, array_like=True):
    sender: str
    message: bytes


_UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)
_encode = msgspec.msgpack.Encoder().encode
_decode_body = msgspec.msgpack.Decoder(_Body).decode
_decode_control = msgspec.msgpack.Decoder(_Control).decode
_decode_info = msgspec.msgpack.Decoder(Info).decode


class _Foreign(Exception):
    """A message that is not of our form."""


class _Channel:
    """The names of a channel in Redis."""

    __slots__ = ("_stem", "slot", "topic")

    def __init__(self, prefix: str, name: str) -> None:
        # A hash tag ends at the first brace and is not empty.
        tag = name.replace("%", "%25").replace("{", "%7B").replace("}", "%7D") or "%"
        self._stem = f"{prefix}:{{{tag}}}:".encode()
        self.topic = self._stem + b"flow"
        self.slot = slot_of(tag.encode())

    def keys(self, *kinds: str) -> list[bytes]:
        return [self._stem + kind.encode() for kind in kinds]


class RedisEngine(Engine):
    """url: see `redis_servers.parse`. presence_time: seconds for which a client that was set counts as there.

    ignored: how many messages came that nobody who speaks our form has sent.

    Raises ConfigError for an URL that cannot be, or when the package is missing.
    """

    def __init__(self, url: str, presence_time: float = 60.0, clock: Clock = SYSTEM) -> None:
        self._where = parse(url)
        self._presence_time = max(1, int(presence_time * 1000))  # ms
        self._node = ""
        self._receiver: Receiver | None = None
        self._servers: Servers | None = None
        self._spread = b"PUBLISH"
        self._listening: dict[bytes, str] = {}
        self._own_topics: frozenset[bytes] = frozenset()
        self._sweeping = Sweeping(presence_time, clock, self._listens, self._sweep)
        self.ignored = 0

    async def start(self, node: str, receiver: Receiver) -> None:
        self._node = node
        self._receiver = receiver
        events = Events(self._hear, lambda: receiver.suspect(""), lambda: None)
        self._servers = servers_of(self._where, SCRIPTS, events)
        self._spread = b"SPUBLISH" if self._servers.sharded else b"PUBLISH"
        try:
            await self._servers.start()
            own = [self._node_topic(node), self._node_topic(None)]
            self._own_topics = frozenset(topic for _, topic in own)
            await asyncio.gather(*(self._servers.listen(slot, topic) for slot, topic in own))
        except BaseException:
            await self.stop()
            raise
        self._sweeping.start()

    async def stop(self) -> None:
        await self._sweeping.stop()
        servers, self._servers = self._servers, None
        if servers is not None:
            await servers.stop()
        self._listening.clear()

    # --------------------------------------------------------------------------------------------------- the channels

    async def subscribe(self, channel: str, keep: History | None) -> Position:
        names = self._names(channel)
        new = names.topic not in self._listening
        self._listening[names.topic] = channel
        try:
            await self._there.listen(names.slot, names.topic)
            return (await self.history(channel, keep, limit=0)).position if keep is not None else NOWHERE
        except BaseException:
            if new:
                await self.unsubscribe(channel)
            raise

    async def unsubscribe(self, channel: str) -> None:
        names = self._names(channel)
        self._sweeping.forget(channel)
        if self._listening.pop(names.topic, None) is not None and self._servers is not None:
            self._servers.ignore(names.slot, names.topic)

    async def publish(self, channel: str, data: bytes, options: PublishOptions) -> Position:
        info = Info.of(options.info) if options.info is not None else None
        body = _encode(_Body(options.kind, data, options.tags, info))
        names, keep, key = self._names(channel), options.history, options.idempotency_key
        if keep is None and key is None:
            await self._there.call(names.slot, self._spread, names.topic, b"p0::" + body)
            return NOWHERE
        keys = names.keys("meta", "log") if key is None else names.keys("meta", "log", f"once:{key}")
        size, ttl = (keep.size, _milliseconds(keep.ttl)) if keep is not None else (0, 0)
        epoch, offset = await self._there.run(
            names.slot,
            "publish",
            keys,
            names.topic,
            self._spread,
            body,
            new_epoch(),
            size,
            ttl,
            ttl + META_TIME,
            IDEMPOTENCY_TIME,
        )
        return Position(epoch.decode(), int(offset))

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
        epoch, offset, entries = await self._there.run(
            names.slot,
            "history",
            names.keys("meta", "log"),
            new_epoch(),
            _milliseconds(keep.ttl) + META_TIME,
            read if limit else b"",
            first,
            last,
            limit if 0 <= limit < HIGHEST else HIGHEST,
        )
        return Stream([_entry(*entry) for entry in entries], Position(epoch.decode(), int(offset)))

    async def remove_history(self, channel: str) -> None:
        names = self._names(channel)
        await self._there.call(names.slot, b"DEL", *names.keys("log"))

    # ------------------------------------------------------------------------------------------------------- presence

    async def presence(self, channel: str) -> dict[str, ClientInfo]:
        more = 1
        clients: list[bytes] = []
        while more:
            _, more, clients = await self._presence(channel, b"read")
        pairs = zip(clients[::2], clients[1::2], strict=True)
        return {client.decode(): _decode_info(info).info() for client, info in pairs}

    async def set_presence(self, channel: str, client: str, info: ClientInfo | None) -> None:
        if info is None:
            await self._presence(channel, b"remove", client)
        else:
            await self._presence(channel, b"set", client, _encode(Info.of(info)))

    async def _presence(self, channel: str, what: bytes, client: str = "", info: bytes = b"") -> Any:
        names = self._names(channel)
        keys = names.keys("here", "until")
        arguments = (names.topic, self._spread, what, self._presence_time, client, info)
        answer = await self._there.run(names.slot, "presence", keys, *arguments)
        self._sweeping.somebody(channel)
        return answer

    def _listens(self, channel: str) -> bool:
        return self._names(channel).topic in self._listening

    async def _sweep(self, channel: str) -> bool:
        there, _, _ = await self._presence(channel, b"sweep")
        return bool(there)

    # ---------------------------------------------------------------------------------------------------------- nodes

    async def tell(self, node: str | None, message: bytes) -> None:
        slot, topic = self._node_topic(node)
        await self._there.call(slot, self._spread, topic, _encode(_Control(self._node, message)))

    def _node_topic(self, node: str | None) -> tuple[int, bytes]:
        tag = "nodes" if node is None else f"node:{node}"
        return slot_of(tag.encode()), f"{self._where.prefix}:{{{tag}}}".encode()

    # ----------------------------------------------------------------------------------------------- what Redis brings

    def _hear(self, topic: bytes, data: bytes) -> None:
        """Something was published on a topic; what is not of our form is left out, and counted."""
        channel = self._listening.get(topic)
        try:
            if channel is not None:
                self._hear_channel(channel, topic, data)
            elif topic in self._own_topics:
                self._hear_node(data)
        except _Foreign:
            self.ignored += 1
            if self.ignored == 1:
                log.warning("somebody else publishes on a topic of Freshet's in Redis; that is ignored")

    def _hear_channel(self, channel: str, topic: bytes, data: bytes) -> None:
        delivery = _delivery(channel, data)
        if isinstance(delivery, Joined):
            self._sweeping.somebody(channel)
        if self._receiver is not None:
            self._receiver.deliver(delivery)

    def _hear_node(self, data: bytes) -> None:
        try:
            control = _decode_control(data)
        except _UNREADABLE:
            raise _Foreign from None
        if self._receiver is not None and control.sender != self._node:
            self._receiver.notify(control.message)

    @property
    def _there(self) -> Servers:
        if self._servers is None:
            raise EngineUnavailable("the engine was stopped")
        return self._servers

    def _names(self, channel: str) -> _Channel:
        return _Channel(self._where.prefix, channel)


def _milliseconds(seconds: float) -> int:
    return max(1, int(seconds * 1000))


def _entry(id: bytes, fields: list[bytes]) -> Publication:
    return _publication(int(id.partition(b"-")[0]), fields[1])


def _publication(offset: int, body: bytes) -> Publication:
    it = _decode_body(body)
    return Publication(it.data, offset, it.kind, it.tags, it.info.info() if it.info is not None else None)


def _delivery(channel: str, data: bytes) -> Delivery:
    """What was spread: `p` offset `:` epoch `:` body, `j` info, `l` info. Raises _Foreign for anything else."""
    try:
        if data[:1] == b"p":
            offset, epoch, body = data[1:].split(b":", 2)
            return Published(channel, _publication(int(offset), body), epoch.decode())
        if data[:1] in (b"j", b"l"):
            return (Joined if data[:1] == b"j" else Left)(channel, _decode_info(data[1:]).info())
    except _UNREADABLE:
        pass
    raise _Foreign
