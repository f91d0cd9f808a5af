"""What a channel's log holds, and positions in it.

Payloads are bytes that pass through undecoded; `Publication.kind` says what they are.
"""

from enum import Enum
from typing import Any, NamedTuple, TypeAlias

import msgspec


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


NOTHING = msgspec.Raw()
"""No JSON at all: one for all clients of which nothing is known."""


class ClientInfo(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Who a client is, as others in a channel see it. `conn_info` and `chan_info` are JSON."""

    user: str
    client: str
    conn_info: msgspec.Raw = NOTHING
    chan_info: msgspec.Raw = NOTHING

    @property
    def size(self) -> int:
        """Bytes of it in a list, nearly."""
        return 80 + len(self.user) + len(self.conn_info) + len(self.chan_info)


class Stamp(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How a publication came in: it travels with it to every node, and to no client.

    at: epoch seconds when it was accepted, by the clock of that node. node: which that was. trace: a W3C `traceparent`
    of what published it; empty: nobody traces it.
    """

    at: float
    node: str
    trace: str = ""


class Publication(msgspec.Struct, frozen=True, gc=False):  # logs hold many, of which none refers to itself
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
    stamp: Stamp | None = None

    @property
    def size(self) -> int:
        """Bytes that it holds in memory, nearly; on its way to a client it has fewer, unless it is escaped."""
        size = 200 + len(self.data)
        if self.tags:
            size += sum(100 + len(name) + len(value) for name, value in self.tags.items())
        return size + 200 + self.info.size if self.info else size


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
    """How much a channel's log keeps: the last `size` publications, until `ttl` seconds after the last of them.

    bytes: that the logs of all channels with this history may hold in memory together; 0: any number.
    """

    size: int
    ttl: float
    bytes: int = 0


class PublishOptions(msgspec.Struct, frozen=True):
    """What comes with a publication's data.

    history: how long the log keeps it; None: the channel has no log.
    idempotency_key: a second publication with the same key in the same channel within 5 minutes is not made; its answer
        is the position of the first.
    after: it is appended only if the log stands exactly there, otherwise `PositionConflict` is raised; None: wherever
        it stands. With a history alone, and without a key.
    """

    kind: Kind = Kind.JSON
    history: History | None = None
    tags: dict[str, str] | None = None
    info: ClientInfo | None = None
    idempotency_key: str | None = None
    stamp: Stamp | None = None
    after: Position | None = None


Claims: TypeAlias = dict[str, Any]
