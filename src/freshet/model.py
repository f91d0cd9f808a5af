"""The values that every layer speaks: frames, what a channel's log holds, what clients ask, what they are told.

All are frozen once made. Payloads are bytes that pass through undecoded; `Publication.kind` says what they are.
"""

from enum import Enum
from typing import Any, NamedTuple, TypeAlias

import msgspec


class Frame:
    """Bytes on their way to or from a client, and whether they are binary.

    One frame is shared by every client that it goes to, so it also keeps its wire forms: a transport that serialises
    it once leaves the result here for the others.

    tail: what has to follow with nothing between: the attachments of a Socket.IO packet are frames of their own.
    """

    __slots__ = ("binary", "data", "deflated", "tail", "wire")

    def __init__(self, data: bytes, binary: bool = False, tail: "Frame | None" = None) -> None:
        self.data = data
        self.binary = binary
        self.tail = tail
        self.wire: bytes | None = None  # as one unmasked WebSocket message
        self.deflated: bytes | None = None  # the same with permessage-deflate

    @property
    def size(self) -> int:
        """Bytes of payload, its tail's too."""
        return len(self.data) + (self.tail.size if self.tail else 0)


class Handshake(msgspec.Struct, frozen=True):
    """The request that opened a client: what a dialect and the hook `on_connect` may look at.

    path: below the prefix under which Freshet is mounted, percent-decoded.
    headers: names in lower case; a name that came more than once is joined by `, `.
    query: of a name that came more than once, the last.
    client: the peer's address, `host:port`, or empty.
    """

    path: str
    query: dict[str, str] = {}
    headers: dict[str, str] = {}
    client: str = ""
    subprotocols: tuple[str, ...] = ()

    @property
    def token(self) -> str:
        """The token that came with the request: `?token=`, or `Authorization: Bearer`; empty: none."""
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        return self.query.get("token") or (token.strip() if scheme.lower() == "bearer" else "")


# ---------------------------------------------------------------------------------------------- the log of a channel


class Position(NamedTuple):
    """A place in a channel's log: `offset` publications of the log that has this `epoch`.

    Offsets start at 1 and rise by one. Two logs that once had the same channel name have different epochs, so a client
    of the first cannot mistake an offset of the second for its own. A channel without history has no log; its position
    is `NOWHERE`.
    """

    epoch: str
    offset: int


NOWHERE = Position("", 0)
OLDEST = Position("", -1)
"""Where a client stands that asks for all that a log still keeps, however much that is."""


class Kind(Enum):
    """What the bytes of a payload are."""

    JSON = "json"  # UTF-8 JSON on one line
    TEXT = "text"  # UTF-8 that is not JSON
    BYTES = "bytes"


class ClientInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who a client is, as others in a channel see it. `conn_info` and `chan_info` are JSON."""

    user: str
    client: str
    conn_info: msgspec.Raw = msgspec.Raw()
    chan_info: msgspec.Raw = msgspec.Raw()


class Publication(msgspec.Struct, frozen=True):
    """One item of a channel's log.

    offset: 0 in a channel that has no history.
    tags: short labels such as `{"event": "price"}`.
    info: the client that published it; None when the server did.
    """

    data: bytes
    offset: int = 0
    kind: Kind = Kind.JSON
    tags: dict[str, str] | None = None
    info: ClientInfo | None = None


class Stream(NamedTuple):
    """A part of a channel's log, and where the log stood when it was read."""

    publications: list[Publication]
    position: Position

    def reaches(self, since: Position, limit: int, reverse: bool) -> bool:
        """Whether a page that was read with these arguments leaves out nothing that came after `since`."""
        if since.epoch != self.position.epoch:
            return False
        return reverse or limit == 0 or self.follows(since)

    def follows(self, since: Position) -> bool:
        """Whether these are all the publications that came after `since`, none missing and of the same log.

        A `since` without an epoch is of whatever log there is: a client that has seen nothing yet wants all of it.
        """
        if since == OLDEST:
            return True
        if since.epoch not in ("", self.position.epoch) or since.offset > self.position.offset:
            return False
        if not self.publications:
            return since.offset == self.position.offset
        return self.publications[0].offset == since.offset + 1


class History(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much a channel's log keeps: the last `size` publications, until `ttl` seconds after the last of them."""

    size: int
    ttl: float


class PublishOptions(msgspec.Struct, frozen=True):
    """What comes with a publication's data.

    history: how long the log keeps it; None: the channel has no log.
    idempotency_key: a second publication with the same key in the same channel within 5 minutes is not made; its answer
        is the position of the first.
    """

    kind: Kind = Kind.JSON
    history: History | None = None
    tags: dict[str, str] | None = None
    info: ClientInfo | None = None
    idempotency_key: str | None = None


# -------------------------------------------------------------------------------------------- what a client asks


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

# -------------------------------------------------------------------------------------------- what a client is told


class Published(msgspec.Struct, frozen=True):
    """epoch: that of the log which gave the publication its offset."""

    channel: str
    publication: Publication
    epoch: str = ""


class Joined(msgspec.Struct, frozen=True):
    channel: str
    info: ClientInfo


class Left(msgspec.Struct, frozen=True):
    channel: str
    info: ClientInfo


class Subscribed(msgspec.Struct, frozen=True):
    """The answer to `Subscribe`, and with id 0 the news that the server subscribed this client.

    recovered: None when the client did not ask; True: `publications` are all that it missed; False: they could not be
        told, and `position` is where the log stands now.
    ttl: seconds until the subscription's token has to be refreshed; None: never.
    delta: after the first one, publications may be told as the difference to the one before; `publications` too.
    """

    channel: str
    id: int = 0
    position: Position = NOWHERE
    recoverable: bool = False
    recovered: bool | None = None
    publications: list[Publication] = []
    ttl: int | None = None
    data: bytes = b""
    delta: bool = False


class Connected(msgspec.Struct, frozen=True):
    """ttl: seconds until the connection's token has to be refreshed; None: never. ping: seconds between heartbeats.

    pid: with which the client can come back as this session; the same as before if it did.
    session, node: where requests of their own bring what the client says; empty: it says it where it hears.
    """

    id: int
    client: str
    ping: int
    ttl: int | None = None
    data: bytes = b""
    subscriptions: list[Subscribed] = []
    session: str = ""
    node: str = ""
    pid: str = ""


class Unsubscribed(msgspec.Struct, frozen=True):
    """The server ended a subscription. Codes from 2500 on ask the client to subscribe again."""

    channel: str
    code: int = 2000
    reason: str = "server unsubscribe"


class Unsubscription(msgspec.Struct, frozen=True):
    """The answer to `Unsubscribe`."""

    id: int


class Accepted(msgspec.Struct, frozen=True):
    """The answer to `Publish`."""

    id: int
    position: Position


class HistoryPage(msgspec.Struct, frozen=True):
    id: int
    stream: Stream


class PresenceList(msgspec.Struct, frozen=True):
    id: int
    clients: dict[str, ClientInfo]


class PresenceStats(msgspec.Struct, frozen=True):
    id: int
    clients: int
    users: int


class Answer(msgspec.Struct, frozen=True):
    """The answer to `Call`."""

    id: int
    data: bytes


class Refreshed(msgspec.Struct, frozen=True):
    """The answer to `Refresh`."""

    id: int
    client: str
    ttl: int | None


class SubscriptionRefreshed(msgspec.Struct, frozen=True):
    id: int
    ttl: int | None


class Alive(msgspec.Struct, frozen=True):
    """The answer to `Ping`."""

    id: int


class Refused(msgspec.Struct, frozen=True):
    """A command was refused. `command` is its type's name, for dialects that must tell them apart."""

    id: int
    code: int
    message: str
    temporary: bool = False


class Message(msgspec.Struct, frozen=True):
    """The server tells one client something that belongs to no channel."""

    data: bytes


class Emitted(msgspec.Struct, frozen=True):
    """The server has an event for one client. id: 0 when it wants no acknowledgement."""

    event: str
    arguments: list[Any]
    id: int = 0


class Acknowledged(msgspec.Struct, frozen=True):
    """The answer to `Emit`."""

    id: int
    arguments: list[Any]


class Disconnected(msgspec.Struct, frozen=True):
    """The server ends the session: the last news, where the transport has no word of its own for it."""

    code: int
    reason: str


class Heartbeat(msgspec.Struct, frozen=True):
    """The server is there, and asks whether the client is."""


Delivery: TypeAlias = Published | Joined | Left

Event: TypeAlias = (
    Delivery
    | Subscribed
    | Connected
    | Unsubscribed
    | Unsubscription
    | Accepted
    | HistoryPage
    | PresenceList
    | PresenceStats
    | Answer
    | Refreshed
    | SubscriptionRefreshed
    | Alive
    | Refused
    | Message
    | Emitted
    | Acknowledged
    | Disconnected
    | Heartbeat
)


def begun_by(event: Event) -> list[Subscribed]:
    """The subscriptions that begin with what a client is told."""
    if type(event) is Connected:
        return event.subscriptions
    return [event] if type(event) is Subscribed else []


Claims: TypeAlias = dict[str, Any]
