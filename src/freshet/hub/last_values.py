"""What those subscribers of a state have who get differences: of each key the value that was sent last.

All of them have the same, so a change is encoded once for all. A value is known here once it was sent to all who were
there. Who comes in later has to have it too: it gets it along, or it is forgotten, and the next one goes out whole.
"""

from freshet.model.entries import StateEntry, entry_of
from freshet.model.events import Delivery, Published
from freshet.model.log import Publication


class LastValues:
    """limit: bytes of keys and values. A state holds no more, so beyond it removals were lost on their way: all that is
    known is forgotten. values: that the first of them has. idle: keys of those that have not changed since.
    """

    __slots__ = ("_idle", "_limit", "_size", "_values")

    def __init__(self, limit: int, values: dict[str, bytes]) -> None:
        self._limit = limit
        self._size = 0
        self._values: dict[str, bytes] = {}
        self._idle: set[str] = set()
        for key, value in values.items():
            self._keep(key, value)
        self._idle.update(self._values)

    def note(self, events: list[Delivery]) -> list[Publication | None]:
        """These are about to be sent. For each, what all have of its key before, as a publication; None: not known."""
        befores: list[Publication | None] = []
        for event in events:
            entry = entry_of(event.publication) if type(event) is Published else None
            if entry is None:
                befores.append(None)
                continue
            value = self._forget(entry.key)
            befores.append(Publication(value) if value else None)
            self._keep(entry.key, entry.value)
        return befores

    def admit(self, values: dict[str, bytes], *, returns: bool) -> list[StateEntry]:
        """One more is about to be among them, who gets these values as it comes in; empty: removed.

        returns: it has the rest of the state from before, on a connection of which nothing is known. So the answer is
        what it gets along: what is known here of that rest, but for what is idle, which is forgotten instead.
        """
        along: list[StateEntry] = []
        for key, value in list(self._values.items()):
            if returns and key not in values and key not in self._idle:
                along.append(StateEntry(key, value))
            elif values.get(key) != value:
                self._forget(key)
        return along

    def _keep(self, key: str, value: bytes) -> None:
        if not value:
            return
        self._values[key] = value
        self._size += len(key) + len(value)
        if self._size > self._limit:
            self._size = 0
            self._values.clear()
            self._idle.clear()

    def _forget(self, key: str) -> bytes:
        self._idle.discard(key)
        value = self._values.pop(key, b"")
        if value:
            self._size -= len(key) + len(value)
        return value
