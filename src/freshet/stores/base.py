"""What a place that keeps the rooms' data promises. `tests/contracts/store.py` holds every store to it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Final, Literal, NamedTuple

REPLY_TIME = 300.0  # seconds for which a reply is remembered, at least
BACKLOG = 20_000  # requests that wait for a store

KEEP: Final = -1.0
"""As an alarm: as it was."""


class Change(NamedTuple):
    """What one transaction does to a room.

    entries: new values by their keys, which are not empty; None: deleted. clear: what the room kept is deleted before.
    alarm: when it is due, epoch seconds; None: never. reply: to the request with this id, remembered for `REPLY_TIME`.
    """

    entries: Mapping[str, bytes | None] = {}
    clear: bool = False
    alarm: float | None = KEEP
    reply: tuple[str, bytes] | None = None


class Due(NamedTuple):
    """A room whose alarm is due. at: epoch seconds."""

    room: str
    at: float


class Store(ABC):
    """The rooms' data: for each room entries in the order of their keys, one alarm, replies, and its fence.

    Who may write decides the fence, a number that rises with every change of the owner. It is compared in the
    transaction of each write. So an owner that was taken for dead, and goes on after a pause, writes nothing.

    All methods but `start` and `stop` raise `StoreUnavailable`. What was to be written then was not; or, if the
    connection broke before the reply, nobody knows.

    reach: which nodes may share what it keeps.
    """

    reach: ClassVar[Literal["process", "host", "cluster"]] = "cluster"

    @abstractmethod
    async def start(self) -> None:
        """Begin. Raises `StoreUnavailable`."""

    @abstractmethod
    async def stop(self) -> None:
        """End: what was asked before is done."""

    @abstractmethod
    async def claim(self, room: str, fence: int) -> int:
        """Take the room over: its fence from now on, `fence` or one more than the last, whichever is larger.

        Owners before can write nothing once this is done.
        """

    @abstractmethod
    async def commit(self, room: str, fence: int, change: Change) -> None:
        """All of `change`, or nothing; durable when this returns.

        Raises `StaleOwner` unless `fence` is the room's.
        """

    @abstractmethod
    async def get(self, room: str, keys: Sequence[str]) -> dict[str, bytes]:
        """The values of those keys that there are."""

    @abstractmethod
    async def scan(self, room: str, prefix: str = "", after: str = "", limit: int = -1) -> list[tuple[str, bytes]]:
        """Keys that begin with `prefix` and come behind `after`, with their values, ordered by UTF-8 bytes.

        limit: at most so many; below 0: all.
        """

    @abstractmethod
    async def reply(self, room: str, request: str) -> bytes | None:
        """The reply to the request with this id, if it was committed and is remembered."""

    @abstractmethod
    async def alarm(self, room: str) -> float | None:
        """When the room's alarm is due, epoch seconds."""

    @abstractmethod
    async def due(self, before: float, limit: int) -> list[Due]:
        """Alarms of all rooms that are due before `before`, the earliest first."""


def behind(prefix: str) -> str | None:
    """The least text that comes behind all those that begin with `prefix`, by code points; None: there is none."""
    for at in range(len(prefix) - 1, -1, -1):
        if (code := ord(prefix[at])) < 0x10FFFF:
            following = 0xE000 if code + 1 == 0xD800 else code + 1  # no text has halves of characters
            return prefix[:at] + chr(following)
    return None
