"""The end of what has a time limit: a client's token, and the tokens of its subscriptions.

A client has a grace in which it may refresh a token that is over. Nothing has a timer of its own: the wheel visits.
"""

from collections.abc import Callable

from freshet.config import Timing
from freshet.errors import Disconnect
from freshet.model.events import Unsubscribed
from freshet.node.leaving import Leaving
from freshet.runtime.tasks import Tasks
from freshet.session.session import Session
from freshet.session.subscription import Subscription


class Expiry:
    """wall: seconds since 1970."""

    def __init__(self, timing: Timing, leaving: Leaving, tasks: Tasks, wall: Callable[[], float]) -> None:
        self._timing = timing
        self._leaving = leaving
        self._tasks = tasks
        self._wall = wall

    def check(self, session: Session) -> float:
        """End what is over. The answer: seconds until the next end, or until it is worth looking again."""
        wall, grace = self._wall(), self._timing.expiry_grace
        due = self._timing.ping_interval
        if session.expires:
            if wall >= session.expires + grace:
                session.close(Disconnect.expired())
                return due
            due = min(due, session.expires + grace - wall)
        for channel, subscription in list(session.subscriptions.items()):
            if not subscription.expires:
                continue
            if wall >= subscription.expires + grace:
                self._tasks.start(self._end(session, channel, subscription), "expiry: subscription")
            else:
                due = min(due, subscription.expires + grace - wall)
        return max(due, 0.1)

    async def _end(self, session: Session, channel: str, subscription: Subscription) -> None:
        """Unless it was refreshed meanwhile, or is another one."""
        over = self._wall() >= subscription.expires + self._timing.expiry_grace
        if over and session.subscriptions.get(channel) is subscription:
            await self._leaving.unsubscribe(session, channel, Unsubscribed(channel, 2501, "subscription expired"))
