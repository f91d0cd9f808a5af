"""Presence of this node's clients: set when they enter a channel, renewed for all of them together, removed at the end.

An engine takes a client for gone that is not set again within the presence time. A task and a round trip for each
would be thousands a second; so the node renews many clients by one call.
"""

from collections import OrderedDict

from freshet.engines.base import Engine, Present
from freshet.errors import EngineUnavailable
from freshet.runtime.tasks import Tasks
from freshet.runtime.wheel import Wheel
from freshet.session.session import Session
from freshet.session.subscription import Subscription

AT_ONCE = 1000  # clients in one call of the engine


class NodePresence:
    """time: seconds after which an engine takes a client for gone. Implements `wheel.Member`."""

    def __init__(self, engine: Engine, wheel: Wheel, tasks: Tasks, time: float) -> None:
        self.slot = -1
        self._engine = engine
        self._wheel = wheel
        self._tasks = tasks
        self._every = time / 2
        self._due: OrderedDict[tuple[Session, str], float] = OrderedDict()  # when to renew, the soonest first
        self._renewing = False

    def __len__(self) -> int:
        """How many subscriptions of this node are present in their channels."""
        return len(self._due)

    async def enter(self, session: Session, channel: str, subscription: Subscription) -> None:
        """Let others in the channel see the client. Raises `EngineUnavailable`."""
        self._due[session, channel] = self._wheel.clock.monotonic() + self._every
        if self.slot < 0:
            self._wheel.schedule(self, self._every)
        await self._engine.set_presence(channel, session.id, session.client_info(subscription.info))

    async def leave(self, session: Session, channel: str) -> None:
        """Raises `EngineUnavailable`: then the client is seen until the presence time is over."""
        self.forget(session, channel)
        await self._engine.set_presence(channel, session.id, None)

    def forget(self, session: Session, channel: str) -> None:
        """Renew it no longer."""
        self._due.pop((session, channel), None)
        if not self._due:
            self._wheel.cancel(self)

    def visit(self, now: float) -> float:
        """The wheel: renew those who are due."""
        if not self._due:
            return 0
        soonest = next(iter(self._due.values()))
        if soonest <= now and not self._renewing:
            self._renewing = True
            self._tasks.start(self._renew(), "presence: renewal")
        return max(self._wheel.tick, soonest - now)

    async def _renew(self) -> None:
        try:
            while due := self._take_due():
                infos = [(channel, session, session.subscriptions[channel].info) for session, channel in due]
                present = [Present(channel, session.id, session.client_info(info)) for channel, session, info in infos]
                try:
                    await self._engine.renew_presence(present)
                except EngineUnavailable:
                    self._retry(due)
                    raise
                for session, channel in due:
                    if (session, channel) not in self._due:  # it left meanwhile, perhaps before its renewal was taken
                        await self._engine.set_presence(channel, session.id, None)
        finally:
            self._renewing = False

    def _retry(self, due: list[tuple[Session, str]]) -> None:
        """Renew them soon, not an interval later: by then an engine that is back would take them for gone."""
        delay = self._every / 6
        again = self._wheel.clock.monotonic() + delay
        for key in reversed(due):
            if key in self._due:
                self._due[key] = again
                self._due.move_to_end(key, last=False)
        if self._due:
            self._wheel.schedule(self, delay)

    def _take_due(self) -> list[tuple[Session, str]]:
        """The next that are due, at most `AT_ONCE`; they are due again after an interval."""
        now = self._wheel.clock.monotonic()
        due: list[tuple[Session, str]] = []
        for key, when in self._due.items():
            if when > now or len(due) == AT_ONCE:
                break
            due.append(key)
        for key in due:
            self._due[key] = now + self._every
            self._due.move_to_end(key)
        return [(session, channel) for session, channel in due if channel in session.subscriptions]
