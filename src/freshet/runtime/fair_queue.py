"""Fair queueing: what many ask for is done a portion in each turn of the event loop, address by address.

Whoever asks for more than that waits; neither those who share the loop with him nor who asks from another address wait
for all of it. Those of one address have their turns connection by connection: behind a proxy they are all of one.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from time import perf_counter

log = logging.getLogger("freshet.fair_queue")

MILLISECOND = 1e-3
LEAST = 0.5 * MILLISECOND  # of one turn; more where the rest of it takes longer, so that neither starves the other
MOST = 5 * MILLISECOND

Work = Callable[[], None]
Connections = dict[asyncio.BaseTransport, deque[Work]]
"""What waits, by connection, the next one first."""


class FairQueue:
    """Of one event loop. Nothing is scheduled while nothing is asked for.

    here: the event loop, if it is the one that runs this. now: seconds.
    """

    __slots__ = ("_here", "_is_scheduled", "_left", "_length", "_now", "_since", "_spent", "_waiting")

    def __init__(
        self,
        here: Callable[[], asyncio.AbstractEventLoop] = asyncio.get_running_loop,
        now: Callable[[], float] = perf_counter,
    ) -> None:
        self._here = here
        self._now = now
        self._waiting: dict[str, Connections] = {}  # by address, the next one first
        self._length = 0
        self._is_scheduled = False
        self._since = 0.0  # when this turn began
        self._spent = 0.0  # seconds of it
        self._left = LEAST

    @property
    def has_time(self) -> bool:
        """Whether something may be done at once: nobody waits, and there is time left for it in this turn."""
        return self._left > 0 and not self._waiting

    def do(self, work: Work, transport: asyncio.BaseTransport) -> None:
        """Do it at once if there is time, else when it is the turn of its address. transport: whose peer asks."""
        if self.has_time:
            self._run(work, transport)
        else:
            self.defer(work, transport)

    def defer(self, work: Work, transport: asyncio.BaseTransport) -> None:
        """As `do`, but not in this turn."""
        peer = transport.get_extra_info("peername")
        address = str(peer[0]) if isinstance(peer, tuple) else ""
        connections = self._waiting.setdefault(address, {})
        (connections.get(transport) or connections.setdefault(transport, deque())).append(work)
        self._length += 1
        self._schedule()

    def charge(self, seconds: float) -> None:
        """So much was done in this turn, or will be by what has begun in it."""
        self._schedule()
        self._spent += seconds
        self._left -= seconds

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self._since, self._spent = self._now(), 0.0
            self._here().call_soon(self._turn)

    def _run(self, work: Work, transport: asyncio.BaseTransport) -> None:
        self._schedule()
        began = self._now()
        try:
            work()
        except Exception:
            log.exception("a client's input failed, it is cut")
            transport.abort()  # type: ignore[attr-defined] # all that are read have it
        self.charge(self._now() - began)

    def _turn(self) -> None:
        """The next turn has begun."""
        now = self._now()
        others = now - self._since - self._spent
        self._since, self._spent, self._left = now, 0.0, LEAST
        self._is_scheduled = False
        if self._waiting:
            self._left = min(max(others, LEAST), MOST)
            self._schedule()
        for _ in range(self._length):  # who has more to do has his turn in the next one
            if self._left <= 0:
                break
            self._run(*self._next())

    def _next(self) -> tuple[Work, asyncio.BaseTransport]:
        address = next(iter(self._waiting))
        connections = self._waiting.pop(address)
        transport = next(iter(connections))
        waiting = connections.pop(transport)
        work = waiting.popleft()
        self._length -= 1
        if waiting:
            connections[transport] = waiting
        if connections:
            self._waiting[address] = connections
        return work, transport
