"""Who listens to what in this process; and the fan-out: each event encoded once per dialect, pushed to each listener.

A session that subscribes is first `Joining`: what is published while its history is read waits with it, and is merged
by offset when it settles, so that there is neither a gap nor a repeat between the two.
"""

import asyncio
import logging

from freshet.channels import ChannelRule
from freshet.dialects.base import Dialect
from freshet.engines.base import Engine
from freshet.errors import Disconnect
from freshet.model import NOWHERE, Delivery, Frame, Position, Publication, Published, Stream
from freshet.outbox import Outbox, Turn
from freshet.session import Session

log = logging.getLogger("freshet.hub")


class Listeners:
    """Who listens to one channel.

    groups: of each dialect in use here, the outboxes by session. pending: what came in this turn. heard: the engine
    knows that this node listens. announces: they are told who comes and goes.
    """

    __slots__ = ("announces", "channel", "groups", "heard", "joining", "pending")

    def __init__(self, channel: str, rule: ChannelRule) -> None:
        self.channel = channel
        self.announces = rule.join_leave
        self.groups: dict[str, tuple[Dialect, dict[Session, Outbox]]] = {}
        self.heard = False
        self.joining: list[Joining] = []
        self.pending: list[Delivery] = []

    def __bool__(self) -> bool:
        return bool(self.groups or self.joining)


class Joining:
    """A session on its way into a channel.

    waiting: the last `limit` of what was published since it began.
    """

    __slots__ = ("channel", "limit", "listeners", "session", "waiting")

    def __init__(self, session: Session, listeners: Listeners, rule: ChannelRule) -> None:
        self.session = session
        self.channel = listeners.channel
        self.listeners = listeners
        self.limit = rule.history.size if rule.history else 0
        self.waiting: list[Publication] = []

    def wait(self, events: list[Delivery]) -> None:
        self.waiting += [event.publication for event in events if type(event) is Published]
        del self.waiting[: max(0, len(self.waiting) - self.limit)]


class Hub:
    """engine: where the channels' logs are. turn: at whose end is fanned out."""

    def __init__(self, engine: Engine, turn: Turn) -> None:
        self.users: dict[str, tuple[Session, ...]] = {}  # most have one, for which a set would be large
        self._engine = engine
        self._turn = turn
        self._channels: dict[str, Listeners] = {}
        self._came: list[Listeners] = []  # those with something pending
        self._interest = asyncio.Lock()  # one order in which this node begins and ends to listen
        self._tasks: set[asyncio.Task[None]] = set()
        turn.flush = self.flush

    def channels(self) -> dict[str, int]:
        """How many sessions listen to each channel."""
        counts = (
            (it.channel, sum(len(outboxes) for _, outboxes in it.groups.values())) for it in self._channels.values()
        )
        return {channel: count for channel, count in counts if count}

    # ------------------------------------------------------------------------------------------------------- sessions

    def enter(self, session: Session) -> None:
        if session.user:
            self.users[session.user] = (*self.users.get(session.user, ()), session)

    def exit(self, session: Session) -> None:
        others = tuple(each for each in self.users.pop(session.user, ()) if each is not session)
        if others:
            self.users[session.user] = others

    # -------------------------------------------------------------------------------------------------- subscriptions

    async def join(self, session: Session, channel: str, rule: ChannelRule) -> Joining:
        """The first step into a channel: from when this returns, what is published there waits with the session."""
        listeners = self._channels.get(channel)
        if listeners is None:
            listeners = self._channels[channel] = Listeners(channel, rule)
        joining = Joining(session, listeners, rule)
        listeners.joining.append(joining)
        try:
            if not listeners.heard:
                async with self._interest:
                    await self._engine.subscribe(channel)
                listeners.heard = True
        except BaseException:
            self.abandon(joining)
            raise
        return joining

    def settle(self, joining: Joining, stream: Stream | None, since: Position | None) -> tuple[Stream, bool | None]:
        """The last step: the session now hears the live flow.

        stream: what the log held after `since`; None when the channel has no log.
        The answer is all that the session has to be told before the live flow begins, the place where that is, and
        whether these are all publications after `since` (None when it did not ask). The caller tells the session
        before it gives the loop a turn.
        """
        listeners = joining.listeners
        # What was published in this turn goes to those who are in, and to `joining.waiting`. Who came and went is told
        # at the turn's end, to this session too: it sees itself join.
        news = [event for event in listeners.pending if type(event) is not Published]
        listeners.pending = [event for event in listeners.pending if type(event) is Published]
        self._fan_out(listeners)
        listeners.pending = news
        listeners.joining.remove(joining)
        session = joining.session
        name = session.dialect.name
        if name not in listeners.groups:
            listeners.groups[name] = (session.dialect, {})
        listeners.groups[name][1][session] = session.outbox
        if stream is None:
            return Stream([], NOWHERE), None if since is None else False
        read, (epoch, top) = stream
        later = [publication for publication in joining.waiting if publication.offset > top]
        position = Position(epoch, later[-1].offset) if later else stream.position
        if since is None:
            return Stream([], position), None
        complete = stream.follows(since) and (not later or later[0].offset == top + 1)
        return Stream(read + later if complete else [], position), complete

    def abandon(self, joining: Joining) -> None:
        """It comes to nothing."""
        joining.listeners.joining.remove(joining)
        self._forget_if_empty(joining.listeners)

    def leave(self, session: Session, channel: str) -> None:
        listeners = self._channels.get(channel)
        if listeners is None:
            return
        _, outboxes = listeners.groups.get(session.dialect.name, (None, {}))
        if outboxes.pop(session, None) is None:
            return
        if not outboxes:
            del listeners.groups[session.dialect.name]
        self._forget_if_empty(listeners)

    def _forget_if_empty(self, listeners: Listeners) -> None:
        if listeners or self._channels.get(listeners.channel) is not listeners:
            return
        del self._channels[listeners.channel]
        task = asyncio.get_running_loop().create_task(self._lose_interest(listeners.channel))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _lose_interest(self, channel: str) -> None:
        async with self._interest:
            if channel not in self._channels:
                await self._engine.unsubscribe(channel)

    # -------------------------------------------------------------------------------------------------------- fan-out

    def deliver(self, event: Delivery) -> None:
        """What the engine calls, once per node. It is collected, and leaves at the end of the loop's turn."""
        listeners = self._channels.get(event.channel)
        if listeners is None or (type(event) is not Published and not listeners.announces):
            return
        if not listeners.pending:
            self._came.append(listeners)
            self._turn.schedule()
        listeners.pending.append(event)

    def flush(self) -> None:
        came, self._came = self._came, []
        for listeners in came:
            try:
                self._fan_out(listeners, alone=len(came) == 1)
            except Exception:
                log.exception("could not tell what happened in %r", listeners.channel)
                self._own_up(listeners)

    @staticmethod
    def _own_up(listeners: Listeners) -> None:
        """What cannot be told is not kept quiet: these clients come back and ask what they missed."""
        for _, outboxes in listeners.groups.values():
            for outbox in outboxes.values():
                outbox.close(Disconnect.insufficient_state())

    def _fan_out(self, listeners: Listeners, *, alone: bool = False) -> None:
        """alone: nothing else is fanned out in this turn."""
        events, listeners.pending = listeners.pending, []
        if not events:
            return
        for joining in listeners.joining:
            joining.wait(events)
        for dialect, outboxes in listeners.groups.values():
            encoded = [dialect.encode(event) for event in events]
            frames: list[Frame] = dialect.join([frame for frame in encoded if frame is not None])
            # Nobody leaves while this runs: an outbox that is full says so to its transport, at the turn's end.
            if alone and len(frames) == 1:
                for outbox in outboxes.values():
                    outbox.send(frames[0])
            else:
                for frame in frames:
                    for outbox in outboxes.values():
                        outbox.push(frame)
