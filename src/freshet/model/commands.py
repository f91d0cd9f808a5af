"""What a client asks: frozen values that every dialect makes and `commands/` carries out."""

import msgspec

from freshet.errors import Refusal
from freshet.model.entries import EntryChange, EntryPage
from freshet.model.log import Kind, Position


class Command(msgspec.Struct, frozen=True):
    """What a client asks. An endpoint may bring commands of its own: see `commands.dispatch`."""


class Connect(Command, frozen=True):
    """only: the channels of which the client can get events: the server subscribes it to no others. Empty: all."""

    id: int = 0
    token: str = ""
    data: bytes = b""
    recover: dict[str, Position] = {}  # where the client stood in channels to which the server subscribes it
    name: str = ""
    version: str = ""
    only: tuple[str, ...] = ()


class Declined(Command, frozen=True):
    """What a client asked for is refused already where it is read: the dialect knows better than to pass it on."""

    why: Refusal
    id: int = 0


class TagFilter(msgspec.Struct, frozen=True):
    """Publications with certain tags: a comparison of one, or with `op` several `nodes` combined. See `filters.py`."""

    op: str = ""
    key: str = ""
    cmp: str = ""
    val: str = ""
    vals: tuple[str, ...] = ()
    nodes: tuple["TagFilter", ...] = ()


class Subscribe(Command, frozen=True):
    """recover: where the client stands. or_refuse: it wants a refusal when not all that it missed can be replayed.

    delta: it knows how to apply the difference between a publication and the one before, or of an entry between two of
    its values. filter: which publications it wants. entries: it takes the channel's state as entries of its own
    protocol, from this page on; None: as publications.
    """

    channel: str
    id: int = 0
    token: str = ""
    data: bytes = b""
    recover: Position | None = None
    or_refuse: bool = False
    delta: bool = False
    filter: TagFilter | None = None
    entries: EntryPage | None = None


class Unsubscribe(Command, frozen=True):
    channel: str
    id: int = 0


class Publish(Command, frozen=True):
    """change: of the channel's state; None: it is a publication."""

    channel: str
    data: bytes
    id: int = 0
    kind: Kind = Kind.JSON
    change: EntryChange | None = None


class AskRoom(Command, frozen=True):
    """A request over HTTP to a room. request: as rooms have it."""

    channel: str
    request: bytes
    id: int = 0


class Manage(Command, frozen=True):
    """To create, close or delete a channel as a durable stream."""

    channel: str


class ReadHistory(Command, frozen=True):
    """limit: 0 asks for the position alone, below 0 for all."""

    channel: str
    id: int = 0
    limit: int = 0
    since: Position | None = None
    reverse: bool = False


class ReadPresence(Command, frozen=True):
    channel: str
    id: int = 0


class ReadPresenceStats(Command, frozen=True):
    channel: str
    id: int = 0


class Call(Command, frozen=True):
    method: str
    data: bytes = b""
    id: int = 0


class Send(Command, frozen=True):
    """A message to the server that wants no reply."""

    data: bytes


class Refresh(Command, frozen=True):
    token: str
    id: int = 0


class RefreshSubscription(Command, frozen=True):
    channel: str
    token: str
    id: int = 0


class Ping(Command, frozen=True):
    """A client asks whether the server is there."""

    id: int = 0


class Pong(Command, frozen=True):
    """A client answers the server's `Heartbeat`."""
