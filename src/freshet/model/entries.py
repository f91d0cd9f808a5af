"""What a state's entries are on their way: what is asked of a state, and what its subscribers are told.

A change of an entry is a publication in the state's channel, with the tags `event` and `key`; its data is an object
that any client can read. A client that has a word of its own for entries gets them as such: see `Dialect.entries`.
"""

from enum import Enum
from typing import Literal, NamedTuple

import msgspec

from freshet.errors import Refusal
from freshet.model.log import ClientInfo, Kind, Position, Publication

CHANGE, SNAPSHOT = "state", "snapshot"
"""The tag `event` of a change, and of all entries as they are when a client comes in."""

RESERVED = ("event", "key")
"""Tags that an entry cannot have of its own."""


class Expected(Enum):
    """What may be expected of an entry where it is no value: that there is none (`MISSING`), or anything (`ANY`)."""

    ANY = "any"
    MISSING = "missing"


ANY, MISSING = Expected.ANY, Expected.MISSING

_text = msgspec.json.Encoder().encode


class StateEntry(msgspec.Struct, array_like=True, frozen=True):
    """One entry. value: JSON on one line; empty: it was removed. tags: what subscribers may filter by.

    info: the client that it is about.
    """

    key: str
    value: bytes
    tags: dict[str, str] | None = None
    info: ClientInfo | None = None

    def publication(self) -> Publication:
        """The change as it goes out, without an offset."""
        key = _text(self.key)
        data = b'{"key":%b,"value":%b}' % (key, self.value) if self.value else b'{"key":%b,"removed":true}' % key
        return Publication(data, 0, Kind.JSON, {**(self.tags or {}), "event": CHANGE, "key": self.key}, self.info)


def entry_of(publication: Publication) -> StateEntry | None:
    """The entry that a publication changes; None: it is none of a state."""
    tags = publication.tags
    if tags is None or tags.get("event") != CHANGE or (key := tags.get("key")) is None:
        return None
    begin = b'{"key":%b,"value":' % _text(key)
    own = {name: value for name, value in tags.items() if name not in RESERVED}
    return StateEntry(
        key,
        publication.data[len(begin) : -1] if publication.data.startswith(begin) else b"",
        own or None,
        publication.info,
    )


def snapshot_of(entries: list[StateEntry]) -> Publication:
    """All entries, for a client that has no word of its own for them."""
    data = b'{"state":{%b}}' % b",".join(b"%b:%b" % (_text(it.key), it.value) for it in entries)
    return Publication(data, 0, Kind.JSON, {"event": SNAPSHOT})


class EntryChange(msgspec.Struct, array_like=True, frozen=True):
    """What is asked of a state.

    what: `set`, `remove`, `add` (a number to the entry's), `clear`, or `read`. value: JSON; to add: a number.
    ttl: seconds after which the entry expires; None: as the state's option says. expect: the value that the entry must
    have now, as JSON; empty: there must be none; None: any. exists: it must, or must not, be there. after, limit: of
    the keys that are read; below 0: all. since: where the first page was, if this is a later one.
    """

    what: Literal["set", "remove", "add", "clear", "read"]
    key: str = ""
    value: bytes = b""
    ttl: float | None = None
    tags: dict[str, str] | None = None
    expect: bytes | None = None
    exists: bool | None = None
    after: str = ""
    limit: int = -1
    since: Position | None = None


class EntryResult(msgspec.Struct, array_like=True, frozen=True):
    """changed: it was done, and was not as it should be already. why: what it was not done for; empty: it was.

    value: that of the entry now, as JSON; empty: there is none. entries, more: what was read, and whether more follow.
    position, later: of a state without a log: where the first page was; with the last page: what was changed since.
    """

    changed: bool = False
    why: Literal["", "key_exists", "key_not_found", "value_mismatch"] = ""
    value: bytes = b""
    entries: list[StateEntry] = []
    more: bool = False
    position: Position | None = None
    later: list[StateEntry] = []

    def check(self) -> None:
        """Raises `Refusal` if it was not done."""
        if self.why:
            raise Refusal.conflict(f"{self.why}: the entry is {self.value.decode() or 'not there'}")


class EntryPage(NamedTuple):
    """Which entries a client gets as it comes in. after: the last key that it has. limit: below 0: all.

    since: where its first page was; None: this is the first.
    """

    after: str = ""
    limit: int = -1
    since: Position | None = None
