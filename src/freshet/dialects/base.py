"""The interface of a client protocol: frames to commands, events to frames, without I/O."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import ClassVar

import msgspec
from msgspec import DecodeError, Raw

from freshet.errors import Disconnect, Refusal
from freshet.model.commands import Command
from freshet.model.events import Event, Published, Refused
from freshet.model.frame import Frame, Handshake, batched
from freshet.model.json_text import is_json, one_line
from freshet.model.log import ClientInfo, Kind, Publication


class Dialect(ABC):
    """A client protocol. No I/O, no clock, no knowledge of sessions.

    name: the key under which an encoded publication is cached and shared by all sessions of this dialect.
    subprotocol: the WebSocket subprotocol that selects it; empty: none.
    has_heartbeat: the server sends `Heartbeat` to each session; otherwise what carries the session has its own.
    answers_heartbeat: the client answers with `Pong`; otherwise only its transport shows that it is alive.
    in_order: an event for one session leaves behind what was published before it; otherwise a reply may overtake.
    has_presence: its clients stay and count in the presence of a channel; otherwise a session is one request.
    batches: a frame may hold many commands, each of which is as large as a message may be.
    pages: what a session missed goes out a page at a time, however much it is.
    replays_in_reply: the reply to `Subscribe` holds the publications that were missed; otherwise each is replayed as
        `Published` behind it.
    """

    __slots__ = ()

    name: str
    has_heartbeat: ClassVar[bool] = True
    answers_heartbeat: ClassVar[bool] = True
    in_order: ClassVar[bool] = False
    has_presence: ClassVar[bool] = True
    subprotocol: ClassVar[str] = ""
    batches: ClassVar[bool] = False
    pages: ClassVar[bool] = False
    replays_in_reply: ClassVar[bool] = True

    @property
    def label(self) -> str:
        """In metrics: the name, without what tells one client's dialect from another's."""
        return self.name.partition(":")[0]

    @property
    def entries(self) -> "Dialect":
        """What encodes a channel's changes for a client that takes its state as entries; its name differs."""
        return self

    def opened(self, request: Handshake) -> list[Command]:
        """The commands that the opening request stands for, such as a URL that names a channel. Raises `Disconnect`."""
        return []

    @abstractmethod
    def receive(self, frame: Frame) -> Iterable[Command]:
        """The commands in a frame: a list, or an iterator that decodes each when it is asked for it.

        Either raises `Disconnect` and nothing else, whatever the bytes.
        """

    @abstractmethod
    def encode(self, event: Event) -> Frame | None:
        """An event as a frame; None: this dialect has no message for it.

        For a `Delivery` the result depends on (name, event) alone: it is shared by all sessions. For an event of one
        session it may raise `Disconnect`: in this dialect that event ends the session.
        """

    def encode_after(self, event: Published, before: Publication | None) -> Frame | None:
        """A publication for a client that asked for deltas (`Subscribe.delta`).

        before: the publication that it has; where it takes a state as entries, the key's value alone. None: it is not
        known, or this is its first. The result is shared as that of `encode` is.
        """
        return self.encode(event)

    def batch(self, frames: list[Frame]) -> list[Frame]:
        """Several frames for the same clients as one, of which an outbox can make what it has to write."""
        return batched(frames)

    def join(self, frames: list[Frame]) -> list[Frame]:
        """The same messages in fewer frames, in their order, where the protocol allows it."""
        return frames


def disconnect_for(refused: Refused) -> Disconnect:
    """The end of a session whose protocol has no reply that could carry a refusal: with its code and its reason."""
    return Disconnect((4000 if refused.temporary else 4500) + min(refused.code, 499), refused.message)


ALREADY = Refusal.already_subscribed().code


def refuse(refused: Refused) -> None:
    """End such a session, unless the server has subscribed it before its request. Raises `Disconnect`."""
    if refused.code != ALREADY:
        raise disconnect_for(refused)


HEARTBEAT = Frame(b"")
HEARTBEAT.wire = HEARTBEAT.deflated = b"\x89\x00"
"""The `Heartbeat` of a dialect that has no message for it: a WebSocket ping frame, sent as it is."""


def info_of(info: ClientInfo, json: Callable[[Raw], object] | None = None) -> dict[str, object]:
    """Who a client is, as an object; what is empty is left out. json: how the JSON in it is written; None: as it is."""
    wire: dict[str, object] = {"user": info.user, "client": info.client}
    if info.conn_info:
        wire["conn_info"] = info.conn_info if json is None else json(info.conn_info)
    if info.chan_info:
        wire["chan_info"] = info.chan_info if json is None else json(info.chan_info)
    return wire


_valid = msgspec.json.Decoder(Raw).decode


def kind_of(data: bytes) -> tuple[Kind, bytes]:
    """What a client's bytes are, and the bytes as they are passed on: JSON in one line, as `Kind` says.

    Raises RecursionError for JSON of more levels than can be read.
    """
    if not data.isascii():
        try:
            data.decode()  # the decoder of `Raw` does not look into strings
        except UnicodeDecodeError:
            return Kind.BYTES, data
    try:
        _valid(data)
    except DecodeError:
        if not is_json(data):
            return Kind.TEXT, data
    return Kind.JSON, one_line(data)
