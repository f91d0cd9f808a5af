"""What this node owns: for each name a lease in the engine, which it renews, and a fence in the store.

The lease only says who should act; the store decides by the fence who can write. A node stops acting by its own
monotonic clock, well before the engine lets another have it: that nobody acts is better than that two do. What it was
late to renew, because it stood still for a moment, is still its own if the engine says that nobody has had it since.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from typing import NamedTuple, Protocol

from freshet.engines.base import Lease
from freshet.errors import EngineUnavailable, FreshetError
from freshet.node.owners import Site
from freshet.observe.logs import BoundedLog
from freshet.runtime.clock import Timer
from freshet.runtime.locks import Locks
from freshet.runtime.tasks import Tasks

log = logging.getLogger("freshet.ownership")
bounded_log = BoundedLog(log)

RENEWED_AT, GIVEN_UP_AT = 1 / 3, 2 / 3  # of the lease's time, since the last renewal was asked for
TRIES = 3  # of a take-over that takes longer than the lease
TICK = 1 / 12  # of the lease's time: so often it is looked what is to be renewed
RELEASED_AT_ONCE = 100  # so that many that are released together hold up nobody else


class NotOwner(FreshetError):
    """Another node owns it, or nobody does at the moment. What was asked was not done."""


class Owned(NamedTuple):
    """fence: the store's. until: monotonic seconds."""

    lease: Lease
    fence: int
    until: float


class Fences(Protocol):
    """Where what is owned is kept: it decides who may write; see `Store.claim`."""

    async def claim(self, name: str, fence: int, /) -> int: ...


class Leases:
    """ttl: seconds after which others may take over what a node owned that is gone.

    lost: called with what is not owned any more, though it was not released.
    """

    def __init__(self, node: Site, store: Fences, ttl: float, lost: Callable[[str], None]) -> None:
        self._node = node
        self._store = store
        self._ttl = ttl
        self._lost = lost
        self._owned: dict[str, Owned] = {}
        self._leaving: dict[str, None] = {}  # what is to be released, unless somebody wants it before
        self._locks = Locks[str]()
        self._tasks = Tasks()
        self._timer: Timer | None = None
        self._renewing: asyncio.Task[None] | None = None
        self._releasing: asyncio.Task[None] | None = None
        self._running = False

    def __len__(self) -> int:
        """How many names this node owns."""
        return len(self._owned)

    def start(self) -> None:
        self._running = True
        self._timer = self._node.clock.call_later(self._ttl * TICK, self._tick)

    async def stop(self) -> None:
        """Release all that is owned, and acquire nothing any more."""
        self._running = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._releasing is not None:
            await asyncio.wait([self._releasing])
        await self._tasks.stop()
        self._leaving = dict.fromkeys(self._owned)
        await self._release_all()

    def fence(self, name: str) -> int:
        """With which to write, now; then it is not released, if it was to be. Raises `NotOwner`."""
        owned = self._owned.get(name)
        if owned is None:
            raise NotOwner(f"{name!r} is not owned by this node")
        if self._node.clock.monotonic() >= owned.until:
            raise NotOwner(f"the lease of {name!r} was not renewed in time")
        self._leaving.pop(name, None)
        return owned.fence

    def lose(self, name: str) -> None:
        """It is another's now, or will be: the store or the engine said so, or the time is over."""
        self._leaving.pop(name, None)
        if self._owned.pop(name, None) is not None:
            self._lost(name)

    async def acquire(self, name: str) -> str:
        """The node that owns `name`: this one from now on, if nobody does.

        Then those that owned it before can write nothing any more. Raises `EngineUnavailable`, `StoreUnavailable`.
        """
        if not self._locks.take(name):
            await self._locks.wait(name)
        try:
            with suppress(NotOwner):
                self.fence(name)
                return self._node.id
            return await self._take(name)
        finally:
            self._locks.release(name)

    async def _take(self, name: str) -> str:
        if not self._running:
            raise EngineUnavailable("this node stops")
        clock, claimed, fence = self._node.clock, None, 0
        if await self._is_renewed(name):
            return self._node.id
        self.lose(name)  # another may have had it
        for _ in range(TRIES):
            began = clock.monotonic()
            lease = await self._node.engine.take_lease(name, self._node.id, self._ttl)
            if lease.owner != self._node.id:
                return lease.owner
            try:
                if lease != claimed:  # else it was renewed: nobody has had it since its fence was claimed
                    fence, claimed = await self._store.claim(name, lease.fence), lease
            except BaseException:
                with suppress(EngineUnavailable):
                    await self._node.engine.release_lease(name, lease)
                raise
            until = began + self._ttl * GIVEN_UP_AT
            if clock.monotonic() < until:
                self._owned[name] = Owned(lease, fence, until)
                return self._node.id
        raise EngineUnavailable(
            f"to take over {name!r} takes longer than its lease: set rooms.lease or runs.lease higher"
        )

    def release_soon(self, name: str) -> None:
        """As `release`, in a while, unless somebody acts under it before."""
        if name in self._owned:
            self._leaving[name] = None
            if self._releasing is None or self._releasing.done():
                self._releasing = self._tasks.start(self._release_all(), "ownership: release leases")

    async def _release_all(self) -> None:
        while self._leaving:
            some = list(islice(self._leaving, RELEASED_AT_ONCE))
            await asyncio.gather(*(self._release(name) for name in some))

    async def _release(self, name: str) -> None:
        if not self._locks.take(name):
            await self._locks.wait(name)
        try:
            if name in self._leaving:
                del self._leaving[name]
                await self._let_go(name)
        finally:
            self._locks.release(name)

    async def _is_renewed(self, name: str) -> bool:
        """Whether what was not renewed in time is still owned: then nobody has had it since."""
        late = self._owned.get(name)
        if late is not None:
            await self._renew({name: late}, self._node.clock.monotonic())
            late = self._owned.get(name)
        return late is not None and self._node.clock.monotonic() < late.until

    async def release(self, name: str) -> None:
        """Let another node have it, whichever is asked next."""
        if not self._locks.take(name):
            await self._locks.wait(name)
        try:
            self._leaving.pop(name, None)
            await self._let_go(name)
        finally:
            self._locks.release(name)

    async def _let_go(self, name: str) -> None:
        owned = self._owned.pop(name, None)
        if owned is not None:
            with suppress(EngineUnavailable):  # it ends by itself
                await self._node.engine.release_lease(name, owned.lease)

    # ------------------------------------------------------------------------------------------------------- renewal

    def _tick(self) -> None:
        """Have all that is due renewed, in one request: also what is late, under which nobody acts until then."""
        self._timer = self._node.clock.call_later(self._ttl * TICK, self._tick)
        now = self._node.clock.monotonic()
        due = now + self._ttl * (GIVEN_UP_AT - RENEWED_AT)
        asked = {name: owned for name, owned in self._owned.items() if owned.until <= due}
        late = sum(1 for owned in asked.values() if owned.until <= now)
        if late:
            bounded_log.warning(
                "late",
                "ownership: %d leases were not renewed in time, what is asked of their owner waits: this process stood "
                "still, or the engine is slow; if it happens again, set rooms.lease or runs.lease higher",
                late,
            )
        if asked and (self._renewing is None or self._renewing.done()):
            self._renewing = self._tasks.start(self._renew(asked, now), "ownership: renew leases")

    async def _renew(self, asked: dict[str, Owned], began: float) -> None:
        fences = {name: owned.lease.fence for name, owned in asked.items()}
        try:
            renewed = await self._node.engine.renew_leases(self._node.id, fences, self._ttl)
        except EngineUnavailable as why:
            bounded_log.warning("away", "ownership: %d leases were not renewed (%s), trying again", len(asked), why)
            ended = self._node.clock.monotonic() - self._ttl * (1 - GIVEN_UP_AT)
            self._give_up(asked, {name for name, owned in asked.items() if owned.until > ended})
            return
        until = began + self._ttl * GIVEN_UP_AT
        for name, owned in asked.items():
            if name in renewed and self._owned.get(name) is owned:  # not released meanwhile
                self._owned[name] = asked[name] = owned._replace(until=until)
        self._give_up(asked, renewed)

    def _give_up(self, asked: dict[str, Owned], kept: set[str]) -> None:
        lost = [name for name, owned in asked.items() if name not in kept and self._owned.get(name) is owned]
        if lost:
            log.warning(
                "ownership: %d leases are no longer this node's, they are given up: %r, ...", len(lost), lost[0]
            )
        for name in lost:
            self.lose(name)
