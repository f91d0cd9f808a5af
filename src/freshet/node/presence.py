"""Presence of this node's clients: set when they enter a channel, renewed for all of them together, removed at the end.

An engine takes a client for gone that is not set again within the presence time. A task and a round trip for each
would be thousands a second; so the node renews many clients by one call.

A client may leave and come back while the engine has not carried out the first of it. So of one client in one channel
the calls run one after the other, and each looks, when its turn has come, whether it still says what is so.
"""

from collections import OrderedDict
from collections.abc import Coroutine
from typing import Any, Protocol

import msgspec

from freshet.engines.base import Engine, Present
from freshet.errors import EngineUnavailable
from freshet.model.log import ClientInfo
from freshet.runtime.locks import Locks
from freshet.runtime.tasks import Tasks
from freshet.runtime.wheel import Wheel

AT_ONCE = 1000  # clients in one call of the engine


Place = tuple[str, str]
"""A channel, and the id of a client: the session of one that resumes has the id of the one before."""


class Attendant(Protocol):
    """Who is in a channel: a session, or an agent of a run."""

    @property
    def id(self) -> str: ...

    def client_info(self, channel_info: msgspec.Raw) -> ClientInfo:
        """How others in the channel see it."""


class Attendance(Protocol):
    """How it is in that channel, such as by a subscription. info: JSON that others there see."""

    @property
    def info(self) -> msgspec.Raw: ...


class _Here:
    """A client that is in a channel. due: when to renew it, in monotonic seconds."""

    __slots__ = ("due", "session", "subscription")

    def __init__(self, session: Attendant, subscription: Attendance, due: float) -> None:
        self.session = session
        self.subscription = subscription
        self.due = due

    def info(self) -> ClientInfo:
        return self.session.client_info(self.subscription.info)


class NodePresence:
    """time: seconds after which an engine takes a client for gone. Implements `wheel.Member`."""

    def __init__(self, engine: Engine, wheel: Wheel, tasks: Tasks, time: float) -> None:
        self.slot = -1
        self._engine = engine
        self._wheel = wheel
        self._tasks = tasks
        self._every = time / 2
        self._here: OrderedDict[Place, _Here] = OrderedDict()  # the soonest due first
        self._locks = Locks[Place]()
        self._renewing = False

    def __len__(self) -> int:
        """How many subscriptions of this node are present in their channels."""
        return len(self._here)

    def enter(self, session: Attendant, channel: str, subscription: Attendance) -> Coroutine[Any, Any, None]:
        """From now on it is renewed, and others in the channel see it when what this answers has been awaited.

        That raises `EngineUnavailable`.
        """
        place = channel, session.id
        here = _Here(session, subscription, self._wheel.clock.monotonic() + self._every)
        self._here[place] = here
        self._here.move_to_end(place)
        if self.slot < 0:
            self._wheel.schedule(self, self._every)
        return self._say(place, here)

    def leave(self, session: Attendant, channel: str) -> Coroutine[Any, Any, None]:
        """From now on it is not renewed, and not seen any more when what this answers has been awaited.

        That raises `EngineUnavailable`: then the client is seen until the presence time is over.
        """
        self.forget(session, channel)
        return self._say((channel, session.id), None)

    async def _say(self, place: Place, here: _Here | None) -> None:
        """Let the engine know what is so, if it still is."""
        if not self._locks.take(place):
            await self._locks.wait(place)
        try:
            if self._here.get(place) is here:
                await self._engine.set_presence(*place, here.info() if here else None)
        finally:
            self._locks.release(place)

    def forget(self, session: Attendant, channel: str) -> None:
        """Renew it no longer."""
        place = channel, session.id
        here = self._here.get(place)
        if here is None or here.session is not session:
            return
        del self._here[place]
        if not self._here:
            self._wheel.cancel(self)

    def visit(self, now: float) -> float:
        """The wheel: renew those who are due."""
        if not self._here:
            return 0
        soonest = next(iter(self._here.values())).due
        if soonest <= now and not self._renewing:
            self._renewing = True
            self._tasks.start(self._renew(), "presence: renewal")
        return max(self._wheel.tick, soonest - now)

    async def _renew(self) -> None:
        try:
            while due := self._take_due():
                present = [Present(*place, here.info()) for place, here in due]
                try:
                    await self._engine.renew_presence(present)
                except EngineUnavailable:
                    self._retry(due)
                    raise
                for place, here in due:
                    now = self._here.get(place)
                    if now is not here:  # it left meanwhile, perhaps before its renewal was taken; or came again
                        await self._say(place, now)
        finally:
            self._renewing = False

    def _retry(self, due: list[tuple[Place, _Here]]) -> None:
        """Renew them soon, not an interval later: by then an engine that is back would take them for gone."""
        delay = self._every / 6
        again = self._wheel.clock.monotonic() + delay
        for place, here in reversed(due):
            if self._here.get(place) is here:
                here.due = again
                self._here.move_to_end(place, last=False)
        if self._here:
            self._wheel.schedule(self, delay)

    def _take_due(self) -> list[tuple[Place, _Here]]:
        """The next that are due, at most `AT_ONCE`; they are due again after an interval."""
        now = self._wheel.clock.monotonic()
        due: list[tuple[Place, _Here]] = []
        for place, here in self._here.items():
            if here.due > now or len(due) == AT_ONCE:
                break
            due.append((place, here))
        for place, here in due:
            here.due = now + self._every
            self._here.move_to_end(place)
        return due
