"""A room's state: a map of keys, the same for all who are subscribed, and kept with what the room stores.

Each change is written together with what the hook writes, and with the publication that it makes. That is what goes out
once it is durable; whoever owns the room after a crash sends it again. So the channel's log leaves out no change, and a
snapshot together with all that was published since it was asked for is the state.
"""

import math
import secrets
from collections.abc import Iterator, Mapping
from heapq import nsmallest
from typing import Any, Protocol

import msgspec
from msgspec.structs import replace

from freshet.config import State
from freshet.errors import Refusal
from freshet.model.entries import ANY, RESERVED, EntryChange, EntryResult, StateEntry
from freshet.model.json_text import decode, one_line
from freshet.model.log import Position, Publication
from freshet.rooms.paging import Changes
from freshet.rules.hooks import as_expected, to_json

INTERNAL, INTERNAL_END = "\1", "\1\U0010ffff"
"""Before, and behind, the keys of a room's store that are not its hooks'."""

ENTRY, UNSENT, ALARM = f"{INTERNAL}entry:", f"{INTERNAL}unsent", f"{INTERNAL}alarm"
ENTRY_KEY = 255  # bytes
OVERHEAD = 64  # bytes that an entry counts beside its key, value and tags
CONFIRM = 2.0  # seconds after which it is looked whether what was written has gone out

_encode = msgspec.msgpack.encode


class Transaction(Protocol):
    """What a state is written with. now: epoch seconds. write: None deletes."""

    def now(self) -> float: ...

    def write(self, key: str, value: bytes | None) -> None: ...


class _KeptEntry(msgspec.Struct, array_like=True):
    """until: epoch seconds; 0: it does not expire."""

    value: bytes
    tags: dict[str, str] | None = None
    until: float = 0.0


class _Unsent(msgspec.Struct, array_like=True, frozen=True):
    """Changes of one transaction. id: under which the engine takes each once, whoever sends it."""

    id: str = ""
    entries: list[StateEntry] = []

    def publications(self) -> list[tuple[Publication, str]]:
        """Each, and its key."""
        return [(it.publication(), f"state:{self.id}:{at}") for at, it in enumerate(self.entries)]


_decode_kept = msgspec.msgpack.Decoder(_KeptEntry).decode
_decode_unsent = msgspec.msgpack.Decoder(_Unsent).decode


class RoomState(Mapping[str, Any]):
    """The state of a room, as its hooks read and change it: `self.state["a"]`, `await self.state.set("a", 1)`.

    A change is seen at once by the hook that makes it, and goes out when that is durable: see `RoomStore`.

    A key is text of 1 to 255 bytes; a value is what msgspec and pydantic can write as JSON.
    """

    def __init__(self, step: Transaction, options: State) -> None:
        self._step = step
        self._options = options
        self._entries: dict[str, _KeptEntry] = {}
        self._size = 0
        self._alarm: float | None = None  # of the room's hooks, epoch seconds
        self._unsent = _Unsent()  # of the last transaction that changed something, as it is kept
        self._staged: dict[str, StateEntry] = {}  # changes of the transaction that is open, the last of each key
        self._all_out = True
        self._changes = Changes() if options.mode == "ephemeral" else None  # otherwise the log has them

    # -------------------------------------------------------------------------------------------------- what hooks do

    def __getitem__(self, key: str) -> Any:
        kept = self._find(key)
        if kept is None:
            raise KeyError(key)
        return decode(kept.value)

    def __iter__(self) -> Iterator[str]:
        return iter([key for key in sorted(self._entries) if self._find(key) is not None])

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _find(self, key: str) -> _KeptEntry | None:
        kept = self._entries.get(key)
        return None if kept is None or 0 < kept.until <= self._step.now() else kept

    async def set(
        self,
        key: str,
        value: Any,
        *,
        ttl: float | None = None,
        tags: Mapping[str, str] | None = None,
        expect: Any = ANY,
    ) -> bool:
        """Whether it was done: not if the entry's value is not the one that is expected.

        ttl: seconds after which it expires; None: as the option `state` says. expect: `MISSING`: there must be none.
        Raises Refusal 106 or 107 for what is too large or cannot be.
        """
        labels = dict(tags) if tags else None
        change = EntryChange("set", key, to_json(value), ttl=ttl, tags=labels, expect=as_expected(expect))
        return not self.carry_out(change).why

    async def add(self, key: str, number: float = 1, *, ttl: float | None = None) -> int | float:
        """Add to an entry that is a number, 0 if it is not there: its new value. Raises Refusal 107 for another."""
        total: int | float = decode(self.carry_out(EntryChange("add", key, to_json(number), ttl=ttl)).value)
        return total

    async def remove(self, key: str, *, expect: Any = ANY) -> bool:
        """Whether it was there, and as expected."""
        return self.carry_out(EntryChange("remove", key, expect=as_expected(expect))).changed

    async def clear(self) -> None:
        """Remove all entries."""
        self.carry_out(EntryChange("clear"))

    # ------------------------------------------------------------------------------------------------------- changes

    def carry_out(self, change: EntryChange) -> EntryResult:
        """Do it, in the transaction that is open. Raises `Refusal`."""
        if change.what == "read":
            return self._read(change)
        if change.what == "clear":
            for key in list(self._entries):
                self._write(key, None)
            return EntryResult(changed=True)
        _check_key(change.key)
        kept = self._find(change.key)
        value = kept.value if kept is not None else b""
        if change.exists is not None and change.exists is (kept is None):
            return EntryResult(why="key_not_found" if change.exists else "key_exists", value=value)
        if change.expect is not None and not _same(value, change.expect):
            return EntryResult(why="value_mismatch", value=value)
        if change.what == "remove":
            if kept is not None:
                self._write(change.key, None)
            return EntryResult(changed=kept is not None)
        new = _sum(value, change.value) if change.what == "add" else one_line(change.value)
        tags = change.tags if change.tags is not None or kept is None or change.what == "set" else kept.tags
        self._put(change.key, _KeptEntry(new, tags, self._until(change.ttl)))
        return EntryResult(changed=True, value=new)

    def _until(self, ttl: float | None) -> float:
        seconds = self._options.ttl if ttl is None else ttl
        if not 0 <= seconds < math.inf:
            raise Refusal.bad_request(f"ttl: expected seconds, 0 or more, got {seconds}")
        return self._step.now() + seconds if seconds else 0.0

    def _put(self, key: str, kept: _KeptEntry) -> None:
        for name in kept.tags or ():
            if name in RESERVED:
                raise Refusal.bad_request(f"tags: an entry has {', '.join(RESERVED)} of its own")
        if self._size - _size(key, self._entries.get(key)) + _size(key, kept) > self._options.size:
            raise Refusal.limit_exceeded(f"the entries of a state: at most {self._options.size} bytes, see state.size")
        self._write(key, kept)

    def _write(self, key: str, kept: _KeptEntry | None) -> None:
        self._step.write(ENTRY + key, _encode(kept) if kept is not None else None)
        before = self._entries.pop(key, None)
        self._size += _size(key, kept) - _size(key, before)
        if kept is not None:
            self._entries[key] = kept
        tags = kept.tags if kept is not None else before.tags if before is not None else None
        if self._changes is not None:
            self._changes.note(key, tags)
        self._staged[key] = StateEntry(key, kept.value if kept is not None else b"", tags)

    def preview(self, change: EntryChange) -> bytes:
        """What the entry's value would be, as JSON; empty: there would be none. Raises `Refusal`."""
        if change.what != "add":
            return change.value
        kept = self._find(change.key)
        return _sum(kept.value if kept is not None else b"", change.value)

    def expire(self) -> None:
        """Remove what has expired."""
        now = self._step.now()
        for key in [key for key, kept in self._entries.items() if 0 < kept.until <= now]:
            self._write(key, None)

    def _read(self, change: EntryChange) -> EntryResult:
        if change.key:
            kept = self._find(change.key)
            found = [StateEntry(change.key, kept.value, kept.tags)] if kept is not None else []
            return EntryResult(entries=found)
        now, limit = self._step.now(), change.limit
        there = [key for key, kept in self._entries.items() if key > change.after and not 0 < kept.until <= now]
        more = 0 <= limit < len(there)
        keys = nsmallest(limit, there) if more else sorted(there)  # a small page of many entries costs little
        rows = [(key, self._entries[key]) for key in keys]
        result = EntryResult(entries=[StateEntry(key, it.value, it.tags) for key, it in rows], more=more)
        return result if self._changes is None else self._of_flow(result, self._changes, change.since)

    def _of_flow(self, page: EntryResult, changes: Changes, since: Position | None) -> EntryResult:
        """A page with what makes all of them one state. since: where the first was. Raises `Refusal` 112."""
        if since is None:
            return replace(page, position=changes.position)
        changed = changes.since(since)
        if page.more:
            return replace(page, position=since)
        kept = {key: self._find(key) for key in changed}
        later = [
            StateEntry(key, it.value, it.tags) if (it := kept[key]) is not None else StateEntry(key, b"", tags)
            for key, tags in changed.items()
        ]
        return replace(page, position=since, later=later)

    # -------------------------------------------------------------------------------------------------- the room's step

    def load(self, rows: list[tuple[str, bytes]], alarm: float | None) -> None:
        """Begin with what the store has under `INTERNAL`. alarm: of the room; the hooks', if it had no state."""
        kept = dict(rows)
        self._entries = {key.removeprefix(ENTRY): _decode_kept(row) for key, row in rows if key.startswith(ENTRY)}
        self._size = sum(_size(key, it) for key, it in self._entries.items())
        self._unsent = _decode_unsent(kept[UNSENT]) if UNSENT in kept else _Unsent()
        at = msgspec.msgpack.decode(kept[ALARM], type=float | None) if ALARM in kept else None
        self._alarm = at if kept else alarm
        self._all_out = not self._unsent.entries

    def rows(self) -> dict[str, bytes]:
        """All that the store has of it, for a transaction that clears the rest."""
        rows = {ENTRY + key: _encode(kept) for key, kept in self._entries.items()}
        return rows | {ALARM: _encode(self._alarm), UNSENT: _encode(self._unsent)}

    def forget(self) -> None:
        self._staged.clear()

    @property
    def is_out(self) -> bool:
        """Whether all that was committed has gone out."""
        return self._all_out

    @property
    def hooks_alarm(self) -> float | None:
        return self._alarm

    def unsent(self) -> list[tuple[Publication, str]]:
        """What was committed and has to go out: see `_Unsent.publications`."""
        return self._unsent.publications()

    def sent(self) -> None:
        self._all_out = True

    def confirm(self) -> bool:
        """What went out is forgotten, in the transaction that is open. Whether there was anything."""
        if not self._all_out or not self._unsent.entries:
            return False
        self._unsent = _Unsent()
        self._step.write(UNSENT, _encode(self._unsent))
        return True

    def prepare(self, alarm: float | None, keep: float) -> tuple[dict[str, bytes], float | None]:
        """What goes into the transaction beside the entries, and the room's alarm.

        alarm: what the hooks set; `keep`: nothing.
        """
        rows: dict[str, bytes] = {}
        if alarm != keep:
            self._alarm = alarm
            rows[ALARM] = _encode(alarm)
        if self._staged:
            self._unsent = _Unsent(secrets.token_hex(8), list(self._staged.values()))
            rows[UNSENT] = _encode(self._unsent)
            self._all_out = False
            self._staged = {}
        dues = [kept.until for kept in self._entries.values() if kept.until]
        if self._alarm is not None:
            dues.append(self._alarm)
        if self._unsent.entries:
            dues.append(self._step.now() + CONFIRM)
        return rows, min(dues, default=None)


def _size(key: str, kept: _KeptEntry | None) -> int:
    if kept is None:
        return 0
    tags = sum(len(name) + len(value) for name, value in kept.tags.items()) if kept.tags else 0
    return OVERHEAD + len(key.encode()) + len(kept.value) + tags


def _check_key(key: str) -> None:
    if not 0 < len(key.encode(errors="replace")) <= ENTRY_KEY:
        raise Refusal.bad_request(f"key: expected 1 to {ENTRY_KEY} bytes")
    if "\0" in key:
        raise Refusal.bad_request("key: expected text without the character 0")


def _same(value: bytes, expected: bytes) -> bool:
    """Whether two JSON texts say the same."""
    if value == expected:
        return True
    return bool(value and expected) and decode(value) == decode(expected)


def _sum(value: bytes, number: bytes) -> bytes:
    parts = [decode(it) if it else 0 for it in (value, number)]
    for part in parts:
        if isinstance(part, bool) or not isinstance(part, int | float):
            raise Refusal.bad_request(f"add: expected two numbers, got {part!r}")
    total = parts[0] + parts[1]
    if (isinstance(total, float) and not math.isfinite(total)) or abs(total) > 2**63:
        raise Refusal.bad_request("add: the sum is out of range")
    return to_json(total)
