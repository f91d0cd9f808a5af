"""The end of what has a time limit: a client's token, and the tokens of its subscriptions.

A client has a grace in which it may refresh a token that is over; where the application decides that, it is asked as
soon as the token is over. Nothing has a timer of its own: the wheel visits.
"""

from collections.abc import Callable

from freshet.config import Timing
from freshet.errors import Disconnect, Refusal
from freshet.model.events import Unsubscribed
from freshet.node.invoking import Invoking
from freshet.node.leaving import Leaving
from freshet.rules.hooks import Hook, Hooks
from freshet.runtime.tasks import Tasks
from freshet.session.session import Session
from freshet.session.subscription import Subscription

RETRY = 1.0  # seconds after which the application is asked again


class Expiry:
    """wall: seconds since 1970. hooks, invoking: the application's word on who may stay."""

    def __init__(
        self,
        timing: Timing,
        leaving: Leaving,
        tasks: Tasks,
        wall: Callable[[], float],
        hooks: Hooks,
        invoking: Invoking,
    ) -> None:
        self._timing = timing
        self._leaving = leaving
        self._tasks = tasks
        self._wall = wall
        self._hooks = hooks
        self._invoking = invoking
        self._asking: set[Session] = set()

    def check(self, session: Session) -> float:
        """End what is over. The answer: seconds until the next end, or until it is worth looking again."""
        wall, grace = self._wall(), self._timing.expiry_grace
        due = self._timing.ping_interval
        if session.expires:
            if wall >= session.expires + grace:
                session.close(Disconnect.expired())
                return due
            due = min(due, self._ask(session, wall), session.expires + grace - wall)
        for channel, subscription in list(session.subscriptions.items()):
            if not subscription.expires:
                continue
            if wall >= subscription.expires + grace:
                self._tasks.start(self._end(session, channel, subscription), "expiry: subscription")
            else:
                due = min(due, subscription.expires + grace - wall)
        return max(due, 0.1)

    def _ask(self, session: Session, wall: float) -> float:
        """Ask the application, where it decides who may stay. The answer: seconds until it is to be asked."""
        if self._hooks.refresh is None:
            return self._timing.ping_interval
        if wall < session.expires:
            return session.expires - wall
        if session not in self._asking:
            self._asking.add(session)
            self._tasks.start(self._refresh(session, self._hooks.refresh), "expiry: refresh")
        return RETRY

    async def _refresh(self, session: Session, hook: Hook) -> None:
        """Let the session stay for as long as the application says. Without an answer, it is asked again."""
        try:
            session.expires = await self._invoking.invoke(hook, session, session) or 0.0
        except Disconnect as why:
            session.close(why)
        except Refusal as why:
            if not why.temporary:
                session.close(Disconnect.expired())
        finally:
            self._asking.discard(session)

    async def _end(self, session: Session, channel: str, subscription: Subscription) -> None:
        """Unless it was refreshed meanwhile, or is another one."""
        over = self._wall() >= subscription.expires + self._timing.expiry_grace
        if over and session.subscriptions.get(channel) is subscription:
            await self._leaving.unsubscribe(session, channel, Unsubscribed(channel, 2501, "subscription expired"))
