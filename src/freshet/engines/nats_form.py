"""How the NATS engine writes what it keeps and spreads: MessagePack, and names that any subject may hold."""

import base64
import hashlib
from collections.abc import Sequence
from typing import Protocol

import msgspec

from freshet.engines.info import Info
from freshet.model import Kind, Position, Publication

LONGEST = 180  # characters of a name in a subject, before it is hashed


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
    if len(raw) > LONGEST * 3 // 4:
        return "h" + hashlib.sha256(raw).hexdigest()
    return "n" + base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


class Stored(Protocol):
    """A message of the stream: its place, when it came there in seconds since 1970, and what it holds."""

    @property
    def seq(self) -> int: ...
    @property
    def time(self) -> float: ...
    @property
    def data(self) -> bytes: ...


def kept(found: Sequence[Stored], end: Position, seq: int, now: float) -> list[Publication]:
    """The publications that a log holds, the oldest first: without a gap up to `end`, which is the message `seq`.

    All that go together by size and time are those that the newest asked for.
    """
    newest_first: list[Publication] = []
    size = -1
    for stored in reversed(found):
        if stored.seq > seq:
            continue  # came after `end` was read
        entry = decode(stored.data)
        if not isinstance(entry, Entry) or entry.epoch != end.epoch or entry.cleared:
            break
        if not entry.items:
            continue
        if size < 0:
            if stored.time + entry.ttl <= now:
                break
            size = entry.size
        if entry.last != end.offset - len(newest_first):
            break  # some between are gone
        numbered = [item.publication(offset) for offset, item in enumerate(entry.items, entry.first)]
        newest_first += numbered[::-1]
        if len(newest_first) >= size:
            break
    return newest_first[: max(size, 0)][::-1]
