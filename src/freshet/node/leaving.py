"""How a client leaves: a channel, or for good. Whoever wants it, all traces of it go here."""

import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from types import MappingProxyType

from freshet.errors import Disconnect, EngineUnavailable
from freshet.hub.hub import Hub
from freshet.model.events import Unsubscribed
from freshet.node.invoking import Invoking
from freshet.node.owners import Door
from freshet.node.presence import NodePresence
from freshet.node.registry import Registry
from freshet.observe.counts import Counts, add
from freshet.observe.logs import BoundedLog
from freshet.rules.hooks import Hook, Hooks
from freshet.rules.rules import Owner
from freshet.runtime.tasks import Tasks
from freshet.session.session import Session
from freshet.session.subscription import Subscription

bounded_log = BoundedLog(logging.getLogger("freshet.leaving"))

SHUTDOWN = Disconnect.shutdown().code

Withdraw = Callable[[str, str, str, Collection[str]], Awaitable[None]]
"""Learns what the server takes: of which user, in which channel (empty: all), by which session's id (empty: all but
those of the last argument), so that a client that is away does not get it back. Raises EngineUnavailable."""


class Leaving:
    """What has to let go of a session, and the hook that is run when it has."""

    def __init__(
        self,
        registry: Registry,
        hub: Hub,
        presence: NodePresence,
        invoking: Invoking,
        hooks: Hooks,
        tasks: Tasks,
        counts: Counts,
        *,
        doors: Mapping[Owner, Door] = MappingProxyType({}),
    ) -> None:
        self._registry = registry
        self._hub = hub
        self._presence = presence
        self._invoking = invoking
        self._hooks = hooks
        self._tasks = tasks
        self._counts = counts
        self._doors = doors
        self.withdrawals: list[Withdraw] = []

    async def withdraw(self, user: str, channel: str = "", client: str = "", keep: Collection[str] = ()) -> None:
        """What is kept for clients that are away does not outlast what the server does with those that are here."""
        for withdraw in self.withdrawals:
            await withdraw(user, channel, client, keep)

    async def unsubscribe(self, session: Session, channel: str, event: Unsubscribed | None) -> Subscription | None:
        """End a subscription, also one that has not begun yet; None: there is none to end.

        event: for a client that did not ask for it.
        """
        if session.reservations and (reservation := session.reserved(channel)) is not None:
            reservation.revoked = True
        subscription = session.subscriptions.pop(channel, None)
        if subscription is None:
            return None
        self._hub.leave(session, channel)
        self._left(session, channel, subscription)
        if event is not None:
            session.push(event)
        if subscription.present:
            try:
                await self._presence.leave(session, channel)
            except EngineUnavailable as why:  # the subscription has ended all the same
                bounded_log.warning(
                    "presence",
                    "%r left %r, but the engine is away (%s): others see it there until timing.presence_ttl is over",
                    session,
                    channel,
                    why,
                )
        return subscription

    def ended(self, session: Session) -> None:
        """The session is over. What is still entering a channel for it, or running a hook, learns of that."""
        self._registry.ended(session)
        why = session.ended or Disconnect.normal()
        if why.code != SHUTDOWN:  # a server that stops lets hooks end: see `Node.stop`
            self._invoking.client_gone(session)
        present = []
        for channel, subscription in session.subscriptions.items():
            self._hub.leave(session, channel)
            self._left(session, channel, subscription)
            if subscription.present:
                self._presence.forget(session, channel)
                present.append(channel)
        hook = None
        if session.connected:
            add(self._counts.ended, why.code)
            hook = session.on_disconnect or self._hooks.disconnect
        if session.moved:
            present = []  # as the other session, the client is still there
        if hook is not None or present:
            self._tasks.start(self._after(session, present, hook, why), "session: end")

    def _left(self, session: Session, channel: str, subscription: Subscription) -> None:
        if (door := self._doors.get(subscription.rule.owner)) is not None:
            door.leave(session, channel)

    async def _after(self, session: Session, present: list[str], hook: Hook | None, why: Disconnect) -> None:
        try:
            for channel in present:
                await self._presence.leave(session, channel)
        finally:
            if hook is not None:
                await self._invoking.invoke(hook, None, session, why=why)
