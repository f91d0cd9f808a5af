"""What the workers of one host and their hub say to each other, and the line on which they do.

A message is its length in four bytes and a MessagePack array. What is said in one turn of the loop is written at once.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, TypeAlias, cast

import msgspec

from freshet.engines.codec import Info
from freshet.model.events import Delivery, Joined, Left, Published
from freshet.model.log import History, Kind, Position, Publication

log = logging.getLogger("freshet.engines.local")

LONGEST = 256 << 20  # bytes of a message
UNWRITTEN = 256 << 20  # bytes: who is so far behind is cut off, and reads from the logs what it missed


class WireItem(msgspec.Struct, array_like=True, frozen=True):
    """A `Publication`."""

    data: bytes
    offset: int
    kind: str
    tags: dict[str, str] | None
    sender: Info | None

    @classmethod
    def of(cls, it: Publication) -> "WireItem":
        return cls(it.data, it.offset, it.kind.value, it.tags, Info.of(it.info) if it.info else None)

    def publication(self) -> Publication:
        sender = self.sender.info() if self.sender else None
        return Publication(self.data, self.offset, Kind(self.kind), self.tags, sender)


class HubHello(msgspec.Struct, array_like=True, tag="hello", frozen=True):
    """The first message of a worker. engine: the URL of the one that it wants. presence_time: seconds."""

    node: str
    engine: str
    presence_time: float


class HubSubscribe(msgspec.Struct, array_like=True, tag="subscribe", frozen=True):
    number: int
    channel: str
    keep: History | None


class HubUnsubscribe(msgspec.Struct, array_like=True, tag="unsubscribe", frozen=True):
    number: int
    channel: str


class HubPublish(msgspec.Struct, array_like=True, tag="publish", frozen=True):
    number: int
    channel: str
    item: WireItem
    keep: History | None
    key: str | None


class HubRead(msgspec.Struct, array_like=True, tag="read", frozen=True):
    number: int
    channel: str
    keep: History
    since: Position | None
    limit: int
    reverse: bool


class HubRemove(msgspec.Struct, array_like=True, tag="remove", frozen=True):
    number: int
    channel: str


class HubPresence(msgspec.Struct, array_like=True, tag="presence", frozen=True):
    number: int
    channel: str


class HubSetPresence(msgspec.Struct, array_like=True, tag="set_presence", frozen=True):
    number: int
    channel: str
    client: str
    who: Info | None


class HubNeighbours(msgspec.Struct, array_like=True, tag="neighbours", frozen=True):
    number: int


class HubTell(msgspec.Struct, array_like=True, tag="tell", frozen=True):
    number: int
    node: str | None
    message: bytes


class HubReply(msgspec.Struct, array_like=True, tag="answer", frozen=True):
    number: int
    position: Position | None = None
    items: list[WireItem] = []
    present: dict[str, Info] = {}
    nodes: list[str] = []
    failed: str = ""


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
        assert self.left is not None
        return Left(self.channel, self.left.info())


class HubNotice(msgspec.Struct, array_like=True, tag="heard", frozen=True):
    message: bytes


HubRequest: TypeAlias = (
    HubSubscribe
    | HubUnsubscribe
    | HubPublish
    | HubRead
    | HubRemove
    | HubPresence
    | HubSetPresence
    | HubNeighbours
    | HubTell
)
to_hub = msgspec.msgpack.Decoder(HubHello | HubRequest)
to_worker = msgspec.msgpack.Decoder(HubReply | HubDelivery | HubNotice)
encode = msgspec.msgpack.Encoder().encode


class HubConnection(asyncio.Protocol):
    """One end of a line. Raises nothing for whatever comes: a line that makes no sense is closed."""

    def __init__(self, hear: Callable[["HubConnection", bytes], None], lost: Callable[["HubConnection"], None]) -> None:
        self._hear = hear
        self._lost = lost
        self._came = bytearray()
        self._unsaid: list[bytes] = []
        self._loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        came = self._came
        came += data
        at, end = 0, len(came)
        try:
            while end - at >= 4:
                size = int.from_bytes(came[at : at + 4], "big")
                if size > LONGEST:
                    raise msgspec.DecodeError(f"a message of {size} bytes")
                after = at + 4 + size
                if after > end:
                    break
                self._hear(self, bytes(came[at + 4 : after]))
                at = after
        except msgspec.MsgspecError as error:
            log.error("a line within this host made no sense: %s", error)
            self.close()
        del came[:at]

    def say(self, message: Any) -> None:
        """At the end of the turn, with all else that is said in it."""
        if not self._unsaid:
            self._loop.call_soon(self._write)
        data = message if isinstance(message, bytes) else encode(message)
        self._unsaid += (len(data).to_bytes(4, "big"), data)

    def _write(self) -> None:
        unsaid, self._unsaid = self._unsaid, []
        if self.transport is None or self.transport.is_closing():
            return
        self.transport.write(b"".join(unsaid))
        if self.transport.get_write_buffer_size() > UNWRITTEN:
            log.error("a worker is too far behind: it is cut off")
            self.transport.abort()

    def close(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost(self)
