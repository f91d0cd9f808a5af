"""What the server took from a user whose client may be away, so that it is not given back as the client resumes.

An order to unsubscribe or to disconnect reaches sessions. A client that was cut off has none, only what is kept for it:
so what was taken is an item of a small log of the user's, as old as what is kept can be, and read before that is used.
"""

from collections.abc import Callable, Collection

import msgspec

from freshet.engines.base import WITHDRAWN, Engine
from freshet.model.log import History, PublishOptions

ITEMS = 100  # that are kept of a user; when there were more, all of its sessions begin anew
MARGIN = 60.0  # seconds that they outlast what they are held against


class _Item(msgspec.Struct, frozen=True, array_like=True):
    """channel: empty: all. session: the id of the only one that it is about; empty: all but those in `keep`."""

    channel: str
    session: str
    keep: list[str]

    def concerns(self, session: str, rooms: Collection[str]) -> bool:
        about = session == self.session if self.session else session not in self.keep
        return about and (not self.channel or self.channel in rooms)


_decode = msgspec.json.Decoder(_Item).decode


class Withdrawn:
    """longest: seconds for which any client may resume; 0: none may, and nothing is kept."""

    def __init__(self, engine: Engine, longest: Callable[[], float]) -> None:
        self._engine = engine
        self._longest = longest

    @property
    def _history(self) -> History:
        return History(ITEMS, self._longest() + MARGIN)

    async def withdraw(self, user: str, channel: str, session: str, keep: Collection[str]) -> None:
        """Implements `node.leaving.Withdraw`."""
        if self._longest():
            item = msgspec.json.encode(_Item(channel, session, list(keep)))
            await self._engine.publish(f"{WITHDRAWN}{user}", item, PublishOptions(history=self._history))

    async def concerns(self, user: str, session: str, rooms: Collection[str]) -> bool:
        """Whether a session of the user may not go on as it was. Raises EngineUnavailable."""
        stream = await self._engine.history(f"{WITHDRAWN}{user}", self._history)
        items = [_decode(each.data) for each in stream.publications]
        return len(items) >= ITEMS or any(item.concerns(session, rooms) for item in items)
