"""The messages between the workers of one host and their hub, and the connection that carries them.

A message is a MessagePack array. All messages of one turn of the loop leave together, as one packet: its length in four
bytes, and an array of them.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias, cast

import msgspec

from freshet.engines.base import Lease
from freshet.engines.codec import Info, Offset
from freshet.model.events import Delivery, Joined, Left, Published
from freshet.model.log import History, Kind, Position, Publication, PublishOptions, Stamp

log = logging.getLogger("freshet.engines.local")

LONGEST = 256 << 20  # bytes of a packet
PORTION = 1 << 20  # bytes: with so many a packet leaves before the turn is over
BACKLOG = 256 << 20  # bytes: who is so far behind is disconnected, and reads from the logs what it missed


class WireItem(msgspec.Struct, array_like=True, frozen=True):
    """A `Publication`."""

    data: bytes
    offset: Offset
    kind: Kind
    tags: dict[str, str] | None
    sender: Info | None
    stamp: Stamp | None = None

    @classmethod
    def of(cls, it: Publication) -> "WireItem":
        return cls(it.data, it.offset, it.kind, it.tags, Info.of(it.info) if it.info else None, it.stamp)

    def publication(self) -> Publication:
        """Raises ValueError for what is none."""
        if not self.data.isascii() and self.kind is not Kind.BYTES:
            self.data.decode()
        sender = self.sender.info() if self.sender else None
        return Publication(self.data, self.offset, self.kind, self.tags, sender, self.stamp)


class EngineSettings(NamedTuple):
    """The engine that workers want their hub to run.

    url: which one. presence_time: seconds. log_memory: bytes of all logs, where they are in memory; 0: any number.
    hubs: how many share the channels, and the memory for their logs.
    """

    url: str
    presence_time: float = 60.0
    log_memory: int = 0
    hubs: int = 1


class HubHello(msgspec.Struct, array_like=True, tag="hello", frozen=True):
    """The first message of a worker."""

    node: str
    engine: EngineSettings


class HubSubscribe(msgspec.Struct, array_like=True, tag="subscribe", frozen=True):
    correlation_id: int
    channel: str
    keep: History | None


class HubUnsubscribe(msgspec.Struct, array_like=True, tag="unsubscribe", frozen=True):
    correlation_id: int
    channel: str


class HubPublish(msgspec.Struct, array_like=True, tag="publish", frozen=True):
    correlation_id: int
    channel: str
    item: WireItem
    keep: History | None
    key: str | None
    after: Position | None = None

    def options(self) -> PublishOptions:
        item = self.item
        sender = item.sender.info() if item.sender else None
        return PublishOptions(item.kind, self.keep, item.tags, sender, self.key, item.stamp, self.after)


class HubRead(msgspec.Struct, array_like=True, tag="read", frozen=True):
    correlation_id: int
    channel: str
    keep: History
    since: Position | None
    limit: int
    reverse: bool


class HubRemove(msgspec.Struct, array_like=True, tag="remove", frozen=True):
    correlation_id: int
    channel: str


class HubPresence(msgspec.Struct, array_like=True, tag="presence", frozen=True):
    correlation_id: int
    channel: str


class HubSetPresence(msgspec.Struct, array_like=True, tag="set_presence", frozen=True):
    correlation_id: int
    channel: str
    client: str
    who: Info | None


class HubRenewPresence(msgspec.Struct, array_like=True, tag="renew_presence", frozen=True):
    """present: channel, client, who it is."""

    correlation_id: int
    present: list[tuple[str, str, Info]]


class HubTakeLease(msgspec.Struct, array_like=True, tag="take_lease", frozen=True):
    correlation_id: int
    name: str
    ttl: float


class HubRenewLeases(msgspec.Struct, array_like=True, tag="renew_leases", frozen=True):
    """leases: fences by their names."""

    correlation_id: int
    leases: dict[str, int]
    ttl: float


class HubReleaseLease(msgspec.Struct, array_like=True, tag="release_lease", frozen=True):
    correlation_id: int
    name: str
    fence: int


class HubNeighbours(msgspec.Struct, array_like=True, tag="neighbours", frozen=True):
    correlation_id: int


class HubTell(msgspec.Struct, array_like=True, tag="tell", frozen=True):
    correlation_id: int
    node: str | None
    message: bytes


class HubReply(msgspec.Struct, array_like=True, tag="reply", frozen=True):
    """What was asked for; with nothing else: it was done. position: where the log stands."""

    correlation_id: int
    position: Position | None = None
    result: "HubResult | None" = None


class HubFailure(msgspec.Struct, array_like=True, tag="failure", frozen=True):
    """why: it was not done. conflict: a log stood elsewhere."""

    correlation_id: int
    why: str
    conflict: bool = False


class HubResult(msgspec.Struct, array_like=True, frozen=True):
    """What few requests ask for."""

    items: list[WireItem] = []
    present: dict[str, Info] = {}
    nodes: list[str] = []
    lease: Lease | None = None
    renewed: set[str] = set()


class HubDelivery(msgspec.Struct, array_like=True, tag="delivered", frozen=True):
    """A publication of the log `epoch`; or who joined or left."""

    channel: str
    item: WireItem | None = None
    epoch: str = ""
    joined: Info | None = None
    left: Info | None = None

    @classmethod
    def of(cls, it: Delivery) -> "HubDelivery":
        if isinstance(it, Published):
            return cls(it.channel, WireItem.of(it.publication), it.epoch)
        who = Info.of(it.info)
        return cls(it.channel, joined=who) if isinstance(it, Joined) else cls(it.channel, left=who)

    def delivery(self) -> Delivery:
        if self.item is not None:
            return Published(self.channel, self.item.publication(), self.epoch)
        if self.joined is not None:
            return Joined(self.channel, self.joined.info())
        if self.left is None:
            raise msgspec.ValidationError("nothing is delivered")
        return Left(self.channel, self.left.info())


class HubNotification(msgspec.Struct, array_like=True, tag="notification", frozen=True):
    """A control message from another worker."""

    body: bytes


HubRequest: TypeAlias = (
    HubSubscribe
    | HubUnsubscribe
    | HubPublish
    | HubRead
    | HubRemove
    | HubPresence
    | HubSetPresence
    | HubRenewPresence
    | HubTakeLease
    | HubRenewLeases
    | HubReleaseLease
    | HubNeighbours
    | HubTell
)
HubAnswer: TypeAlias = HubReply | HubFailure
to_hub = msgspec.msgpack.Decoder(list[HubHello | HubRequest])
to_worker = msgspec.msgpack.Decoder(list[HubReply | HubFailure | HubDelivery | HubNotification])
encode = msgspec.msgpack.Encoder().encode


class HubConnection(asyncio.Protocol):
    """One end of a connection. Raises nothing for whatever comes: one that carries no messages of ours is closed.

    receive: called with the messages of each packet, in one list. lost: called once, when the connection is no more.
    """

    def __init__(
        self,
        decoder: msgspec.msgpack.Decoder[Any],
        receive: Callable[["HubConnection", list[Any]], None],
        lost: Callable[["HubConnection"], None],
    ) -> None:
        self._decode = decoder.decode
        self._receive = receive
        self._lost = lost
        self._incoming = bytearray()  # of a packet that has not come whole
        self._outgoing: list[bytes] = []
        self._outgoing_size = 0
        self._loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        packets: bytes | bytearray = data
        if self._incoming:
            self._incoming += data
            packets = self._incoming
        at, end = 0, len(packets)
        try:
            while end - at >= 4:
                size = int.from_bytes(packets[at : at + 4], "big")
                if size > LONGEST:
                    raise msgspec.DecodeError(f"a packet of {size} bytes")
                after = at + 4 + size
                if after > end:
                    break
                self._receive(self, self._decode(packets[at + 4 : after]))
                at = after
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            log.error("workers: a message could not be read (%s), its connection is closed and made anew", error)
            self.close()
        if packets is self._incoming:
            del self._incoming[:at]
        else:
            self._incoming += data[at:]

    def send(self, message: Any) -> None:
        """At the end of the turn, with all others of it. message: bytes: encoded already."""
        if not self._outgoing:
            self._loop.call_soon(self._write)
        data = message if type(message) is bytes else encode(message)
        self._outgoing.append(data)
        self._outgoing_size += len(data)
        if self._outgoing_size > PORTION:
            self._write()

    def _write(self) -> None:
        outgoing, size = self._outgoing, self._outgoing_size
        self._outgoing, self._outgoing_size = [], 0
        if not outgoing or self.transport is None or self.transport.is_closing():
            return
        head = (size + 5).to_bytes(4, "big") + b"\xdd" + len(outgoing).to_bytes(4, "big")  # an array of so many
        self.transport.write(b"".join((head, *outgoing)))
        if self.transport.get_write_buffer_size() > BACKLOG:
            log.error("workers: one does not read its messages, it is disconnected and catches up from the logs")
            self.transport.abort()

    def close(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost(self)
