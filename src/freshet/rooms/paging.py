"""What a state without a log remembers for clients that read it page by page: which keys were changed last.

A page of a flow may be older than the next one. So the last page comes with all that was changed since the first.
"""

import secrets

from freshet.errors import Refusal
from freshet.model.log import Position

MOST = 1000  # keys; a flow in which more are changed begins anew

Tags = dict[str, str] | None


class Changes:
    """Of one activation of a room: its name is the epoch of positions, and the number of changes so far the offset."""

    def __init__(self) -> None:
        self._epoch = secrets.token_hex(6)
        self._number = 0
        self._forgotten = 0  # the number of the last change that is not known any more
        self._last: dict[str, tuple[int, Tags]] = {}  # by key, the oldest first

    @property
    def position(self) -> Position:
        return Position(self._epoch, self._number)

    def note(self, key: str, tags: Tags) -> None:
        self._number += 1
        self._last.pop(key, None)
        self._last[key] = self._number, tags
        if len(self._last) > MOST:
            self._forgotten, _ = self._last.pop(next(iter(self._last)))

    def since(self, position: Position) -> dict[str, Tags]:
        """The keys that were changed since, with their tags. Raises `Refusal` 112 when that is not known."""
        epoch, offset = position
        if epoch != self._epoch or offset < self._forgotten:
            raise Refusal.unrecoverable_position()
        return {key: tags for key, (number, tags) in self._last.items() if number > offset}
