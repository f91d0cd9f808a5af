"""How the NATS engine writes what it keeps and spreads: MessagePack, and names that any subject may hold."""

import base64
import hashlib
from typing import NamedTuple

import msgspec

from freshet.engines.codec import Info
from freshet.model.log import Kind, Publication

LONGEST = 135  # bytes of a name in a subject, before it is hashed


class Item(msgspec.Struct, frozen=True, array_like=True):
    """A publication."""

    kind: Kind
    data: bytes
    tags: dict[str, str] | None = None
    info: Info | None = None

    def publication(self, offset: int) -> Publication:
        return Publication(self.data, offset, self.kind, self.tags, self.info.info() if self.info is not None else None)


class Entry(msgspec.Struct, frozen=True, array_like=True, tag="log"):
    """One message of a log: what was published together, from the offset `first` on.

    Without items it is a mark: the log stands at `first`, and with `cleared` it holds nothing before.
    size, ttl: of the history that the newest of them asks for.
    """

    epoch: str
    first: int
    items: list[Item]
    size: int
    ttl: float
    cleared: bool = False

    @property
    def last(self) -> int:
        return self.first + max(0, len(self.items) - 1)


class Said(msgspec.Struct, frozen=True, array_like=True, tag="said"):
    """Published in a channel without a log."""

    item: Item


class Came(msgspec.Struct, frozen=True, array_like=True, tag="came"):
    """A client is there: told, and kept in the bucket."""

    client: str
    info: Info


class Went(msgspec.Struct, frozen=True, array_like=True, tag="went"):
    info: Info


class Control(msgspec.Struct, frozen=True, array_like=True, tag="node"):
    """What one node tells another."""

    sender: str
    message: bytes


class Foreign(Exception):
    """A message that is not of our form."""


encode = msgspec.msgpack.Encoder().encode
_decoder: msgspec.msgpack.Decoder[Entry | Said | Came | Went | Control] = msgspec.msgpack.Decoder(
    Entry | Said | Came | Went | Control
)


def decode(data: bytes) -> Entry | Said | Came | Went | Control:
    """Raises Foreign."""
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise Foreign from None


def token(name: str) -> str:
    """A part of a subject that stands for any name, and for no other."""
    raw = name.encode()
    if len(raw) > LONGEST:
        return "h" + hashlib.sha256(raw).hexdigest()
    return "n" + base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


class Names(NamedTuple):
    """Our subjects and streams in NATS. kind: log, once or flow."""

    prefix: str

    def all(self, kind: str) -> str:
        return f"{self.prefix}.{kind}.>"

    def channel(self, kind: str, channel: str) -> str:
        return f"{self.prefix}.{kind}.{token(channel)}"

    def node(self, node: str | None) -> str:
        return f"{self.prefix}.nodes" if node is None else f"{self.prefix}.node.{token(node)}"

    @property
    def bucket(self) -> str:
        return f"{self.prefix}-presence"

    def client(self, channel: str, client: str | None) -> str:
        """Where a client is in the bucket; None: all of a channel."""
        return f"$KV.{self.bucket}.{token(channel)}.{token(client) if client is not None else '*'}"
