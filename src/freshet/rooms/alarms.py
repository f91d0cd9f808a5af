"""When alarms are due. Those of rooms that are, or were, on this node by its own clock; all others are looked for."""

import asyncio
import logging
from collections.abc import Callable
from heapq import heapify, heappop, heappush

from freshet.errors import FreshetError
from freshet.node.owners import Site
from freshet.observe.logs import BoundedLog
from freshet.runtime.clock import Timer
from freshet.runtime.tasks import Tasks
from freshet.stores.base import Store

bounded_log = BoundedLog(logging.getLogger("freshet.rooms"))

SEARCH = 1.0  # seconds between searches in the store
RESCUE = 2.0  # seconds after which an alarm that another node should have fired is fired by any
AT_ONCE = 100


class Alarms:
    """fire: begins to fire a room's alarm that is due, or was; whoever does so looks again."""

    def __init__(self, node: Site, store: Store, fire: "Callable[[str], asyncio.Future[None]]") -> None:
        self._node = node
        self._store = store
        self._fire = fire
        self._at: dict[str, float] = {}  # of the rooms that were on this node: epoch seconds
        self._heap: list[tuple[float, str]] = []
        self._timer: Timer | None = None
        self._tasks = Tasks()

    def __len__(self) -> int:
        """How many are known here."""
        return len(self._at)

    def start(self) -> None:
        self._tick()

    async def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await self._tasks.stop()
        self._at.clear()
        self._heap.clear()

    def note(self, room: str, at: float | None) -> None:
        """A room on this node has set its alarm. at: epoch seconds; None: there is none."""
        if at is None:
            self._at.pop(room, None)
            return
        self._at[room] = at
        heappush(self._heap, (at, room))
        if len(self._heap) > 2 * len(self._at) + 100:  # most were set anew
            self._heap = [(at, room) for room, at in self._at.items()]
            heapify(self._heap)
        if self._timer is not None and self._heap[0] == (at, room):
            self._schedule()

    def _tick(self) -> None:
        self._schedule()
        if not len(self._tasks):
            self._tasks.start(self._search(), "rooms: search for alarms")

    def _schedule(self) -> None:
        """One timer for all, at most `SEARCH` seconds away: a clock that is set makes no alarm late for long."""
        if self._timer is not None:
            self._timer.cancel()
        clock = self._node.clock
        now = clock.wall()
        while self._heap and self._heap[0][0] <= now:
            at, room = heappop(self._heap)
            if self._at.get(room) == at:
                del self._at[room]
                self._fire(room)
        delay = min(SEARCH, max(0.001, self._heap[0][0] - now)) if self._heap else SEARCH
        self._timer = clock.call_later(delay, self._tick)

    async def _search(self) -> None:
        """Fire what is due, so many at a time: after a long standstill that may be most of all rooms."""
        late = RESCUE if self._node.engine.shared else 0.0
        found: set[str] = set()
        try:
            while True:
                due = {it.room for it in await self._store.due(self._node.clock.wall() - late, AT_ONCE)}
                firing = [self._fire(room) for room in due]
                if len(due) < AT_ONCE or due <= found:  # else what could not be fired would be found for ever
                    return
                found |= due
                await asyncio.wait(firing)
        except FreshetError as why:
            bounded_log.warning(
                "alarms", "rooms: alarms could not be looked for, trying again in %g s: %s", SEARCH, why
            )
