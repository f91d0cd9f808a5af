"""What the NATS engine stores and sends, in MessagePack, and the subjects that it is sent to."""

import base64
import hashlib
from typing import NamedTuple

import msgspec

from freshet.engines.codec import Info, Offset, check_text
from freshet.model.log import Kind, Publication, Stamp

LONGEST = 135  # bytes of a name in a subject, before it is hashed


class BrokerMessage(NamedTuple):
    """A message as NATS brought it.

    reply: the subject that a reply would go to. headers: `NATS/1.0`, with a status or not, then lines; or empty.
    """

    subject: str
    reply: str
    headers: bytes
    data: bytes

    @property
    def status(self) -> int:
        """What the server sends instead of a message, such as 503: nobody is subscribed. 0: it is a message."""
        code = self.headers[9:12]
        return int(code) if code.isdigit() else 0

    def header(self, name: bytes) -> bytes:
        """The first value of that name; empty when there is none."""
        _, found, rest = self.headers.partition(b"\r\n" + name + b":")
        return rest.partition(b"\r\n")[0].strip() if found else b""


class EncodedPublication(msgspec.Struct, frozen=True, array_like=True):
    """A publication without its offset, which is that of its message and its place in there."""

    kind: Kind
    data: bytes
    tags: dict[str, str] | None = None
    info: Info | None = None
    stamp: Stamp | None = None

    def __post_init__(self) -> None:
        if self.kind is not Kind.BYTES:
            check_text(self.data)

    def at(self, offset: int) -> Publication:
        """The publication, with its offset."""
        info = self.info.info() if self.info is not None else None
        return Publication(self.data, offset, self.kind, self.tags, info, self.stamp)


# The tags below are in streams that exist, and nodes of two versions run side by side while they are replaced: so they
# stay, whatever the classes are called.


class LogMessage(msgspec.Struct, frozen=True, array_like=True, tag="log"):
    """One message of a log: what was published together, from the offset `first` on.

    Without items it is a mark: the log stands at `first`, and with `cleared` it holds nothing before.
    size, ttl: of the history that the newest of them asks for.
    """

    epoch: str
    first: Offset
    items: list[EncodedPublication]
    size: int
    ttl: float
    cleared: bool = False

    @property
    def last(self) -> int:
        """The offset of the last item."""
        return self.first + max(0, len(self.items) - 1)


class UnloggedMessage(msgspec.Struct, frozen=True, array_like=True, tag="said"):
    """A publication in a channel without a log."""

    item: EncodedPublication


class ClientJoined(msgspec.Struct, frozen=True, array_like=True, tag="came"):
    """A client is in a channel: sent to its subscribers, and the client's entry in the bucket."""

    client: str
    info: Info


class ClientLeft(msgspec.Struct, frozen=True, array_like=True, tag="went"):
    """A client is no longer in a channel: sent to its subscribers."""

    info: Info


class ControlMessage(msgspec.Struct, frozen=True, array_like=True, tag="node"):
    """A control message from the node `sender`."""

    sender: str
    message: bytes


class UnknownMessage(Exception):
    """A message that no node has sent: it is not of our form."""


Decoded = LogMessage | UnloggedMessage | ClientJoined | ClientLeft | ControlMessage

encode = msgspec.msgpack.Encoder().encode
_decoder: msgspec.msgpack.Decoder[Decoded] = msgspec.msgpack.Decoder(Decoded)


def decode(data: bytes) -> Decoded:
    """Raises UnknownMessage."""
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise UnknownMessage from None


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
        """The subjects of all channels."""
        return f"{self.prefix}.{kind}.>"

    def channel(self, kind: str, channel: str) -> str:
        """The subject of one channel."""
        return f"{self.prefix}.{kind}.{token(channel)}"

    def node(self, node: str | None) -> str:
        """The subject of control messages to one node; None: to all."""
        return f"{self.prefix}.nodes" if node is None else f"{self.prefix}.node.{token(node)}"

    @property
    def bucket(self) -> str:
        """The name of the bucket that presence is in."""
        return f"{self.prefix}-presence"

    def client(self, channel: str, client: str | None) -> str:
        """The subject of a client's entry in the bucket; None: of all in a channel."""
        return f"$KV.{self.bucket}.{token(channel)}.{token(client) if client is not None else '*'}"
