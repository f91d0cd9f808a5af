"""What a client protocol is to Freshet."""

from abc import ABC, abstractmethod
from typing import ClassVar

import msgspec

from freshet.model.commands import Command
from freshet.model.events import Event, Published
from freshet.model.frame import Frame, Handshake
from freshet.model.log import ClientInfo, Kind, Publication


class Dialect(ABC):
    """A client protocol. No I/O, no clock, no knowledge of sessions.

    name: the key under which what was encoded for one client is shared with all others.
    subprotocol: the WebSocket subprotocol that selects it; empty: none.
    has_heartbeat: the server asks each session whether its client is there; otherwise what carries the session does.
    answers_heartbeat: a client that is there says so; otherwise only its transport can tell.
    in_order: what a session is told alone comes behind what was published before; otherwise a reply may come first.
    is_seen: its clients stay, so that others in a channel may see them; otherwise they come and go with each request.
    tells_missed: the answer to `Subscribe` holds what the client missed; otherwise each is told as `Published`.
    """

    __slots__ = ()

    name: str
    has_heartbeat: ClassVar[bool] = True
    answers_heartbeat: ClassVar[bool] = True
    in_order: ClassVar[bool] = False
    is_seen: ClassVar[bool] = True
    subprotocol: ClassVar[str] = ""
    tells_missed: ClassVar[bool] = True

    @property
    def label(self) -> str:
        """In metrics: the name, without what tells one client's dialect from another's."""
        return self.name.partition(":")[0]

    def opened(self, request: Handshake) -> list[Command]:
        """What the opening request itself asks for."""
        return []

    @abstractmethod
    def receive(self, frame: Frame) -> list[Command]:
        """The commands in a frame. Raises `Disconnect` and nothing else, whatever the bytes."""

    @abstractmethod
    def encode(self, event: Event) -> Frame | None:
        """An event as a frame; None: this dialect has no word for it.

        For a `Delivery` the result depends on (name, event) alone: it is shared by all sessions. For what only one
        session is told it may raise `Disconnect`: in this dialect that news ends the session.
        """

    def encode_after(self, event: Published, before: Publication | None) -> Frame | None:
        """A publication for a client that asked for differences (`Subscribe.delta`).

        before: the one that it was told before this; None: this is the first. Shared as what `encode` gives.
        """
        return self.encode(event)

    def join(self, frames: list[Frame]) -> list[Frame]:
        """Fewer frames that say the same, where the protocol allows it."""
        return frames


HEARTBEAT = Frame(b"")
HEARTBEAT.wire = HEARTBEAT.deflated = b"\x89\x00"
"""What a dialect encodes as `Heartbeat` when it leaves that to the transport: an unsolicited WebSocket ping."""


def info_of(info: ClientInfo) -> dict[str, object]:
    """Who a client is, as JSON: what is not known is left out."""
    wire: dict[str, object] = {"user": info.user, "client": info.client}
    if info.conn_info:
        wire["conn_info"] = info.conn_info
    if info.chan_info:
        wire["chan_info"] = info.chan_info
    return wire


_valid = msgspec.json.Decoder(msgspec.Raw).decode


def kind_of(data: bytes) -> tuple[Kind, bytes]:
    """What a client's bytes are, and the bytes as they are passed on: JSON in one line, as `Kind` says."""
    try:
        _valid(data)
        return Kind.JSON, msgspec.json.format(data, indent=-1) if b"\n" in data else data
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        data.decode()
    except UnicodeDecodeError:
        return Kind.BYTES, data
    return Kind.TEXT, data
