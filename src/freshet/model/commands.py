"""What a client asks: frozen values that every dialect makes and `commands/` carries out."""

from typing import Any, TypeAlias

import msgspec

from freshet.model.log import Kind, Position


class Connect(msgspec.Struct, frozen=True):
    """only: the channels that the client can hear: the server subscribes it to no others. Empty: it hears all.

    pid, stamp: the session that was cut off, as which the client comes back, and what it received last (Socket.IO).
    """

    id: int = 0
    token: str = ""
    data: bytes = b""
    recover: dict[str, Position] = {}  # where the client stood in channels to which the server subscribes it
    name: str = ""
    version: str = ""
    only: tuple[str, ...] = ()
    pid: str = ""
    stamp: str = ""


class TagFilter(msgspec.Struct, frozen=True):
    """Publications with certain tags: a comparison of one, or with `op` several `nodes` combined. See `filters.py`."""

    op: str = ""
    key: str = ""
    cmp: str = ""
    val: str = ""
    vals: tuple[str, ...] = ()
    nodes: tuple["TagFilter", ...] = ()


class Subscribe(msgspec.Struct, frozen=True):
    """recover: where the client stands. or_refuse: it wants a refusal when it cannot be told all that it missed.

    delta: it knows how to apply the difference between a publication and the one before. filter: what it wants to hear.
    """

    channel: str
    id: int = 0
    token: str = ""
    data: bytes = b""
    recover: Position | None = None
    or_refuse: bool = False
    delta: bool = False
    filter: TagFilter | None = None


class Unsubscribe(msgspec.Struct, frozen=True):
    channel: str
    id: int = 0


class Publish(msgspec.Struct, frozen=True):
    channel: str
    data: bytes
    id: int = 0
    kind: Kind = Kind.JSON


class ReadHistory(msgspec.Struct, frozen=True):
    """limit: 0 asks for the position alone, below 0 for all."""

    channel: str
    id: int = 0
    limit: int = 0
    since: Position | None = None
    reverse: bool = False


class ReadPresence(msgspec.Struct, frozen=True):
    channel: str
    id: int = 0


class ReadPresenceStats(msgspec.Struct, frozen=True):
    channel: str
    id: int = 0


class Call(msgspec.Struct, frozen=True):
    method: str
    data: bytes = b""
    id: int = 0


class Send(msgspec.Struct, frozen=True):
    """A message to the server that wants no reply."""

    data: bytes


class Refresh(msgspec.Struct, frozen=True):
    token: str
    id: int = 0


class RefreshSubscription(msgspec.Struct, frozen=True):
    channel: str
    token: str
    id: int = 0


class Emit(msgspec.Struct, frozen=True):
    """A client has an event for the server's functions. id: 0 when it wants no acknowledgement."""

    event: str
    arguments: list[Any]
    id: int = 0


class Ping(msgspec.Struct, frozen=True):
    """A client asks whether the server is there."""

    id: int = 0


class Pong(msgspec.Struct, frozen=True):
    """A client answers the server's `Heartbeat`."""


Command: TypeAlias = (
    Connect
    | Subscribe
    | Unsubscribe
    | Publish
    | ReadHistory
    | ReadPresence
    | ReadPresenceStats
    | Call
    | Send
    | Emit
    | Refresh
    | RefreshSubscription
    | Ping
    | Pong
)
