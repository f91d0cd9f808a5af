"""How a client leaves: a channel, or for good. Whoever wants it, all traces of it go here."""

from freshet.errors import Disconnect
from freshet.hub.hub import Hub
from freshet.model.events import Unsubscribed
from freshet.node.presence import NodePresence
from freshet.node.registry import Registry
from freshet.observe.counts import Counts, add
from freshet.rules.hooks import Hook, Hooks
from freshet.runtime.tasks import Tasks
from freshet.session.session import Session
from freshet.session.subscription import Subscription


class Leaving:
    """What has to let go of a session, and the hook that is run when it has."""

    def __init__(
        self, registry: Registry, hub: Hub, presence: NodePresence, hooks: Hooks, tasks: Tasks, counts: Counts
    ) -> None:
        self._registry = registry
        self._hub = hub
        self._presence = presence
        self._hooks = hooks
        self._tasks = tasks
        self._counts = counts

    async def unsubscribe(self, session: Session, channel: str, event: Unsubscribed | None) -> Subscription | None:
        """End a subscription; None: there is none. event: for a client that did not ask for it."""
        subscription = session.subscriptions.pop(channel, None)
        if subscription is None:
            return None
        self._hub.leave(session, channel)
        if event is not None:
            session.push(event)
        if subscription.present:
            await self._presence.leave(session, channel)
        return subscription

    def ended(self, session: Session) -> None:
        """The session is over."""
        self._registry.ended(session)
        if not session.connected:
            return
        if session.ended is not None:
            add(self._counts.ended, session.ended.code)
        present = []
        for channel, subscription in session.subscriptions.items():
            self._hub.leave(session, channel)
            if subscription.present:
                self._presence.forget(session, channel)
                present.append(channel)
        hook = session.on_disconnect or self._hooks.disconnect
        if hook is not None or present:
            self._tasks.start(self._after(session, present, hook, session.ended), "session: end")

    async def _after(self, session: Session, present: list[str], hook: Hook | None, why: Disconnect | None) -> None:
        try:
            for channel in present:
                await self._presence.leave(session, channel)
        finally:
            if hook is not None:
                await hook(session, why=why)
