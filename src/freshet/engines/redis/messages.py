"""What the Redis engine keeps and broadcasts: names, MessagePack, and how replies of scripts are read."""

import binascii
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from freshet.engines.base import Lease
from freshet.engines.codec import Info
from freshet.errors import EngineUnavailable
from freshet.model.events import Delivery, Joined, Left, Published
from freshet.model.log import ClientInfo, Kind, Position, Publication, PublishOptions, Stamp, Stream

SLOTS = 16384

Part = bytes | str | int


class ScriptCall(NamedTuple):
    """A script by its name, the keys that it uses, and its other arguments."""

    name: str
    keys: list[bytes]
    arguments: tuple[Part, ...]


class LinkEvents(NamedTuple):
    """message: something was published on a topic. restored: a connection was lost, and is open again with all its
    topics. moved: a server no longer has a topic that it had (in a cluster).
    """

    message: Callable[[bytes, bytes], None]
    restored: Callable[[], None]
    moved: Callable[[], None]


class ForeignMessage(Exception):
    """What came is not of our form."""


class RedisBody(msgspec.Struct, frozen=True, array_like=True):
    """A publication as it is kept and broadcast."""

    kind: Kind
    data: bytes
    tags: dict[str, str] | None = None
    info: Info | None = None
    stamp: Stamp | None = None

    def publication(self, offset: int) -> Publication:
        """The same at its place in the log. Raises ValueError for what is none."""
        if not self.data.isascii() and self.kind is not Kind.BYTES:
            self.data.decode()
        if not 0 <= offset < 1 << 63:
            raise ValueError("an offset that no log has")
        info = self.info.info() if self.info is not None else None
        return Publication(self.data, offset, self.kind, self.tags, info, self.stamp)


class NodeMessage(msgspec.Struct, frozen=True, array_like=True):
    """What one node sends to another. sender: its name."""

    sender: str
    message: bytes


class ChannelNames:
    """The keys of a channel in Redis, its topic, and its slot in a cluster."""

    __slots__ = ("_stem", "slot", "topic")

    def __init__(self, prefix: str, topic_prefix: str, name: str) -> None:
        # A hash tag ends at the first brace and is not empty.
        tag = name.replace("%", "%25").replace("{", "%7B").replace("}", "%7D") or "%"
        self._stem = f"{prefix}:{{{tag}}}:".encode()
        self.topic = f"{topic_prefix}:{{{tag}}}:flow".encode()
        self.slot = slot_of(tag.encode())

    def keys(self, *kinds: str) -> list[bytes]:
        """The keys of these kinds; `engine.py` lists them."""
        return [self._stem + kind.encode() for kind in kinds]


_UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)
_NOT_A_REPLY = (*_UNREADABLE, TypeError, LookupError, AttributeError, OverflowError)
_encode = msgspec.msgpack.Encoder().encode
_decode_body = msgspec.msgpack.Decoder(RedisBody).decode
_decode_node_message = msgspec.msgpack.Decoder(NodeMessage).decode
_decode_info = msgspec.msgpack.Decoder(Info).decode


def slot_of(tag: bytes) -> int:
    """The slot of all keys and topics with the hash tag `{tag}`."""
    return binascii.crc_hqx(tag, 0) % SLOTS


def node_topic(topic_prefix: str, node: str | None) -> tuple[int, bytes]:
    """The slot and the topic of what is sent to one node, or to all."""
    tag = "nodes" if node is None else f"node:{node}"
    return slot_of(tag.encode()), f"{topic_prefix}:{{{tag}}}".encode()


# ------------------------------------------------------------------------------------------------------------- encoding


def encode_publication(data: bytes, options: PublishOptions) -> bytes:
    """The body of a publication."""
    info = Info.of(options.info) if options.info is not None else None
    return _encode(RedisBody(options.kind, data, options.tags, info, options.stamp))


def encode_info(info: ClientInfo) -> bytes:
    """A client, as presence keeps it."""
    return _encode(Info.of(info))


def encode_node_message(sender: str, message: bytes) -> bytes:
    """What one node sends to another."""
    return _encode(NodeMessage(sender, message))


# ------------------------------------------------------------------------------------------------------------- decoding


def decode_delivery(channel: str, data: bytes) -> Delivery:
    """What was broadcast: `p` offset `:` epoch `:` body, `j` info, `l` info. Raises ForeignMessage for all else."""
    try:
        if data[:1] == b"p":
            offset, epoch, body = data[1:].split(b":", 2)
            return Published(channel, _decode_body(body).publication(int(offset)), epoch.decode())
        if data[:1] in (b"j", b"l"):
            return (Joined if data[:1] == b"j" else Left)(channel, _decode_info(data[1:]).info())
    except _UNREADABLE:
        pass
    raise ForeignMessage


def decode_node_message(data: bytes) -> NodeMessage:
    """Raises ForeignMessage."""
    try:
        return _decode_node_message(data)
    except _UNREADABLE:
        raise ForeignMessage from None


def read_position(reply: Any) -> Position:
    """Of the script `publish`. Raises EngineUnavailable for a reply that it never gives."""
    try:
        epoch, offset = reply
        return Position(epoch.decode(), int(offset))
    except _NOT_A_REPLY:
        raise _unexpected("a publication", reply) from None


def read_stream(reply: Any) -> Stream:
    """Of the script `history`. Raises EngineUnavailable for a reply that it never gives."""
    try:
        epoch, offset, entries = reply
        publications = [_decode_body(fields[1]).publication(int(id.partition(b"-")[0])) for id, fields in entries]
        return Stream(publications, Position(epoch.decode(), int(offset)))
    except _NOT_A_REPLY:
        raise _unexpected("a history", reply) from None


def read_presence(reply: Any) -> tuple[int, bool, dict[str, ClientInfo]]:
    """Of the script `presence`: how many are there, whether it has more to remove, and who is there if it was asked.

    Raises EngineUnavailable for a reply that it never gives.
    """
    try:
        number, more, clients = reply
        pairs = zip(clients[::2], clients[1::2], strict=True)
        return int(number), bool(more), {client.decode(): _decode_info(info).info() for client, info in pairs}
    except _NOT_A_REPLY:
        raise _unexpected("presence", reply) from None


def read_lease(reply: Any) -> Lease | None:
    """Of the script `lease`; None: nobody has it. Raises EngineUnavailable for a reply that it never gives."""
    try:
        fence, _, owner = reply.decode().partition(":")
        return Lease(owner, int(fence)) if reply else None
    except _NOT_A_REPLY:
        raise _unexpected("a lease", reply) from None


def read_renewed(reply: Any) -> list[bool]:
    """Of the script `renew_leases`, for each lease. Raises EngineUnavailable for a reply that it never gives."""
    if not isinstance(reply, list):
        raise _unexpected("leases", reply)
    return [it == 1 for it in reply]


def _unexpected(what: str, reply: Any) -> EngineUnavailable:
    return EngineUnavailable(
        f"Redis replied something unexpected ({type(reply).__name__}) for {what}; does another program use its keys?"
    )
