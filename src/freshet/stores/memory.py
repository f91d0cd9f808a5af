"""The store of one process: what its rooms keep is gone when it ends."""

from bisect import bisect_left, bisect_right, insort
from collections import OrderedDict
from collections.abc import Sequence

from freshet.errors import StaleOwner
from freshet.runtime.clock import SYSTEM, Clock
from freshet.stores.base import KEEP, REPLY_TIME, Change, Due, Store


class _Kept:
    """What one room keeps. keys: in order."""

    __slots__ = ("alarm", "entries", "fence", "keys")

    def __init__(self) -> None:
        self.fence = 0
        self.alarm: float | None = None
        self.entries: dict[str, bytes] = {}
        self.keys: list[str] = []

    def write(self, key: str, value: bytes | None) -> None:
        if value is not None:
            if key not in self.entries:
                insort(self.keys, key)
            self.entries[key] = value
        elif self.entries.pop(key, None) is not None:
            del self.keys[bisect_left(self.keys, key)]


class MemoryStore(Store):
    reach = "process"

    def __init__(self, clock: Clock = SYSTEM) -> None:
        self._wall = clock.wall
        self._rooms: dict[str, _Kept] = {}
        self._alarms: dict[str, float] = {}
        self._replies: OrderedDict[tuple[str, str], tuple[float, bytes]] = OrderedDict()  # until when, and which

    async def start(self) -> None:
        """There is nothing to open."""

    async def stop(self) -> None:
        """What it keeps lives as long as this object: an application may be started again."""

    async def claim(self, room: str, fence: int) -> int:
        kept = self._rooms.setdefault(room, _Kept())
        kept.fence = max(fence, kept.fence + 1)
        return kept.fence

    async def commit(self, room: str, fence: int, change: Change) -> None:
        kept = self._rooms.get(room)
        if kept is None or kept.fence != fence:
            raise StaleOwner(f"{room!r} has another owner")
        if change.clear:
            kept.entries.clear()
            kept.keys.clear()
        for key, value in change.entries.items():
            kept.write(key, value)
        if change.alarm is None:
            self._alarms.pop(room, None)
        elif change.alarm != KEEP:
            self._alarms[room] = change.alarm
        if change.reply is not None:
            self._remember(room, *change.reply)

    def _remember(self, room: str, request: str, reply: bytes) -> None:
        now = self._wall()
        self._replies[room, request] = (now + REPLY_TIME, reply)
        while next(iter(self._replies.values()))[0] <= now:
            self._replies.popitem(last=False)

    async def get(self, room: str, keys: Sequence[str]) -> dict[str, bytes]:
        kept = self._rooms.get(room)
        return {key: kept.entries[key] for key in keys if key in kept.entries} if kept is not None else {}

    async def scan(self, room: str, prefix: str = "", after: str = "", limit: int = -1) -> list[tuple[str, bytes]]:
        kept = self._rooms.get(room)
        if kept is None:
            return []
        found: list[tuple[str, bytes]] = []
        for at in range(max(bisect_left(kept.keys, prefix), bisect_right(kept.keys, after)), len(kept.keys)):
            key = kept.keys[at]
            if not key.startswith(prefix) or len(found) == limit:
                break
            found.append((key, kept.entries[key]))
        return found

    async def reply(self, room: str, request: str) -> bytes | None:
        known = self._replies.get((room, request))
        return known[1] if known is not None else None

    async def alarm(self, room: str) -> float | None:
        return self._alarms.get(room)

    async def due(self, before: float, limit: int) -> list[Due]:
        due = sorted((at, room) for room, at in self._alarms.items() if at < before)
        return [Due(room, at) for at, room in due[:limit]]
