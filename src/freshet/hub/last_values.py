"""What those subscribers of a state have who get differences: of each key the value that was sent last.

All of them have the same, so a change is encoded once for all. A value is known here once it was sent to all who were
there. Who comes in later has to have it too: it gets it along, or it is forgotten, and the next one goes out whole.
"""

from freshet.model.entries import StateEntry, entry_of
from freshet.model.events import Delivery, Published
from freshet.model.log import Publication


class LastValues:
    """limit: bytes of keys and values. A state holds no more, so beyond it removals were lost on their way: all that is
    known is forgotten.
    """

    __slots__ = ("_limit", "_size", "_values")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._values: dict[str, bytes] = {}

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
            if entry.value:
                self._values[entry.key] = entry.value
                self._size += len(entry.key) + len(entry.value)
        if self._size > self._limit:
            self._size = 0
            self._values.clear()
        return befores

    def admit(self, values: dict[str, bytes], *, returns: bool) -> list[StateEntry]:
        """One more is about to be among them, who gets these values as it comes in; empty: removed.

        returns: it has the rest of the state from before. What is known here of that is the answer: it gets it along,
        for what it has from another connection is not known.
        """
        along: list[StateEntry] = []
        for key, value in list(self._values.items()):
            if returns and key not in values:
                along.append(StateEntry(key, value))
            elif values.get(key) != value:
                self._forget(key)
        return along

    def _forget(self, key: str) -> bytes:
        value = self._values.pop(key, b"")
        if value:
            self._size -= len(key) + len(value)
        return value
