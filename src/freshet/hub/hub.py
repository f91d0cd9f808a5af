"""Who listens to what in this process; and the fan-out: each event encoded once per dialect, pushed to each listener.

A session that subscribes is first `Joining`: what is published while its history is read waits with it, and is merged
by offset when it settles, so that there is neither a gap nor a repeat between the two. The live flow itself has none
either: see `flow.py`. What it misses is read from the log.
"""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import suppress

from freshet.engines.base import Engine
from freshet.errors import Disconnect, EngineUnavailable
from freshet.hub.subscribers import Encoded, Joining, Listeners, Telling
from freshet.model.events import Delivery, Published
from freshet.model.log import NOWHERE, Position, Stream
from freshet.observe.counts import Counts, add
from freshet.rules.filters import Wanted
from freshet.rules.rules import ChannelRule
from freshet.session.outbox import Turn, spread
from freshet.session.session import Session

log = logging.getLogger("freshet.hub")

CHECKS_AT_ONCE = 32
TRIES = 3
QUIET = 1.0  # seconds between two words about logs that are lost


def _noted(task: asyncio.Task[None]) -> None:
    """Whoever waited for the task has its exception; perhaps nobody did."""
    if not task.cancelled() and (why := task.exception()) is not None:
        log.warning("the engine failed: %s", why)


class Hub:
    """engine: where the channels' logs are. turn: at whose end is fanned out. counts: what it adds to."""

    def __init__(self, engine: Engine, turn: Turn, counts: Counts | None = None) -> None:
        self.users: dict[str, tuple[Session, ...]] = {}  # most have one, for which a set would be large
        self.counts = counts or Counts()
        self._engine = engine
        self._turn = turn
        self._channels: dict[str, Listeners] = {}
        self._came: list[Listeners] = []  # those with something pending
        self._leaving: dict[str, asyncio.Task[None]] = {}  # channels that nobody listens to any longer
        self._checking_all: asyncio.Task[None] | None = None
        self._doubts = 0  # of all channels
        self._say_next = 0.0
        turn.flush = self.flush

    def channels(self) -> dict[str, int]:
        """How many sessions listen to each channel."""
        counts = (
            (it.channel, sum(len(group.outboxes) for group in it.groups.values())) for it in self._channels.values()
        )
        return {channel: count for channel, count in counts if count}

    # ------------------------------------------------------------------------------------------------------- sessions

    def enter(self, session: Session) -> None:
        add(self.counts.connected, session.dialect.label)
        if session.user:
            self.users[session.user] = (*self.users.get(session.user, ()), session)

    def exit(self, session: Session) -> None:
        others = tuple(each for each in self.users.pop(session.user, ()) if each is not session)
        if others:
            self.users[session.user] = others

    # -------------------------------------------------------------------------------------------------- subscriptions

    async def join(
        self, session: Session, channel: str, rule: ChannelRule, *, delta: bool = False, wanted: Wanted | None = None
    ) -> Joining:
        """The first step into a channel: from when this returns, what is published there waits with the session.

        delta: it wants to be told differences; the rule allows that. wanted: what it wants to hear; None: all.
        """
        listeners = self._channels.get(channel)
        if listeners is None:
            listeners = self._channels[channel] = Listeners(channel, rule)
        joining = Joining(session, listeners, rule, delta, wanted)
        listeners.joining.append(joining)
        try:
            if listeners.hearing is None:
                listeners.hearing = asyncio.get_running_loop().create_task(self._hear(listeners))
                listeners.hearing.add_done_callback(_noted)
            await asyncio.shield(listeners.hearing)
        except BaseException:
            self.abandon(joining)
            raise
        return joining

    async def _hear(self, listeners: Listeners) -> None:
        """Let the engine deliver what is published there."""
        try:
            if (leaving := self._leaving.get(listeners.channel)) is not None:
                await asyncio.shield(leaving)
            listeners.flow.begin(await self._engine.subscribe(listeners.channel, listeners.flow.keep))
        except BaseException:
            listeners.hearing = None
            raise
        self._release(listeners)

    async def reach(self, joining: Joining, position: Position) -> None:
        """Until all up to `position` of the log has been delivered to this node, so that all behind it will be.

        Raises `Disconnect` if the log is lost meanwhile, and `EngineUnavailable`.
        """
        flow = joining.listeners.flow
        for _ in range(TRIES):
            if not flow.is_behind(position):
                return
            await self._check(joining.listeners)
        if flow.is_behind(position):
            raise Disconnect.insufficient_state()

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
        told, recovered = self._told(joining, stream, since)
        listeners.add(joining.session, self._telling(joining, told), joining.wanted)
        return told, recovered

    def _told(self, joining: Joining, stream: Stream | None, since: Position | None) -> tuple[Stream, bool | None]:
        if stream is None:
            self.counts.unrecovered += since is not None
            return Stream([], NOWHERE), None if since is None else False
        read, (epoch, top) = stream
        later = [publication for publication in joining.waiting if publication.offset > top]
        position = Position(epoch, later[-1].offset) if later else stream.position
        if since is None:
            return Stream([], position), None
        complete = stream.follows(since) and (not later or later[0].offset == top + 1)
        self.counts.recovered += complete
        self.counts.unrecovered += not complete
        missed = read + later if complete else []
        if (wanted := joining.wanted) is not None:
            missed = [publication for publication in missed if wanted(publication.tags)]
        return Stream(missed, position), complete

    @staticmethod
    def _telling(joining: Joining, told: Stream) -> Telling:
        if not joining.delta:
            return Telling.WHOLE
        listeners = joining.listeners
        if listeners.last is None and told.publications:
            listeners.last = told.publications[-1]  # nobody else has been told anything that a difference could be to
        # What it was told last is what all others have, or else it begins with a whole one.
        up_to_date = bool(told.publications) and told.publications[-1] == listeners.last
        return Telling.DIFFERENCE if up_to_date else Telling.FIRST

    def abandon(self, joining: Joining) -> None:
        """It comes to nothing."""
        joining.listeners.joining.remove(joining)
        self._forget_if_empty(joining.listeners)

    def leave(self, session: Session, channel: str) -> None:
        listeners = self._channels.get(channel)
        if listeners is not None and listeners.remove(session):
            self._forget_if_empty(listeners)

    def _forget_if_empty(self, listeners: Listeners) -> None:
        if listeners or self._channels.get(listeners.channel) is not listeners:
            return
        del self._channels[listeners.channel]
        self._leaving[listeners.channel] = asyncio.get_running_loop().create_task(self._lose_interest(listeners))

    async def _lose_interest(self, listeners: Listeners) -> None:
        channel = listeners.channel
        try:
            if listeners.hearing is not None and not listeners.hearing.done():
                await asyncio.wait([listeners.hearing])
            if channel not in self._channels:
                await self._engine.unsubscribe(channel)
        except EngineUnavailable as why:
            log.warning("still listening to %r: %s", channel, why)
        finally:
            if self._leaving.get(channel) is asyncio.current_task():
                del self._leaving[channel]

    # -------------------------------------------------------------------------------------------------------- fan-out

    def deliver(self, event: Delivery) -> None:
        """What the engine calls, once per node. It is collected, and leaves at the end of the loop's turn."""
        listeners = self._channels.get(event.channel)
        if listeners is None or (type(event) is not Published and not listeners.announces):
            return
        if type(event) is Published and not listeners.flow.passes(event):
            if listeners.flow.hold(event):
                self._begin_check(listeners)
            return
        if not listeners.pending:
            self._came.append(listeners)
            self._turn.schedule()
        listeners.pending.append(event)

    # ------------------------------------------------------------------------------------------------- no silent loss

    def suspect(self, channel: str) -> None:
        """What the engine calls when publications may have been lost on the way here; "": in any channel."""
        if channel:
            if (listeners := self._channels.get(channel)) is not None:
                self._begin_check(listeners)
            return
        self._doubts += 1
        if self._checking_all is None:
            self._checking_all = asyncio.get_running_loop().create_task(self._check_all())

    async def _check_all(self) -> None:
        done = 0
        try:
            while done < self._doubts:
                done = self._doubts
                waiting = iter(list(self._channels.values()))
                await asyncio.gather(*(self._check_each(waiting) for _ in range(CHECKS_AT_ONCE)))
        finally:
            self._checking_all = None

    async def _check_each(self, waiting: Iterator[Listeners]) -> None:
        for listeners in waiting:
            with suppress(EngineUnavailable):  # there will be another doubt when it is back
                await self._check(listeners)

    def _begin_check(self, listeners: Listeners) -> asyncio.Task[None]:
        if listeners.checking is None:
            listeners.checking = asyncio.get_running_loop().create_task(self._compare(listeners))
            listeners.checking.add_done_callback(_noted)
        return listeners.checking

    async def _check(self, listeners: Listeners) -> None:
        await asyncio.shield(self._begin_check(listeners))

    async def _compare(self, listeners: Listeners) -> None:
        """With the log. What did not pass is delivered now; or it is lost, and the listeners are told."""
        flow = listeners.flow
        try:
            if flow.keep is None or listeners.hearing is None:
                return
            await asyncio.shield(listeners.hearing)
            stream = await self._engine.history(listeners.channel, flow.keep, flow.position)
            missing = flow.missing(stream)
            if missing is None:
                self.counts.losses += 1
                self._say_lost(listeners.channel)
                self._own_up(listeners)
                flow.begin(stream.position)
            else:
                self.counts.gaps += bool(missing)
                held, flow.held = flow.held, None
                for publication in missing:
                    self.deliver(Published(listeners.channel, publication, stream.position.epoch))
                flow.held = held
        finally:
            listeners.checking = None
        self._release(listeners)

    def _release(self, listeners: Listeners) -> None:
        for event in listeners.flow.release():
            self.deliver(event)

    def _say_lost(self, channel: str) -> None:
        """Not of each: when an engine has lost its logs, all are."""
        now = asyncio.get_running_loop().time()
        if now >= self._say_next:
            self._say_next = now + QUIET
            log.warning("%r is behind its log by more than that keeps: its listeners come back", channel)

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
        for group in listeners.groups.values():
            for outbox in group.outboxes.values():
                outbox.close(Disconnect.insufficient_state())
        for joining in listeners.joining:
            joining.session.outbox.close(Disconnect.insufficient_state())

    def _fan_out(self, listeners: Listeners, *, alone: bool = False) -> None:
        """alone: nothing else is fanned out in this turn."""
        events, listeners.pending = listeners.pending, []
        if not events:
            return
        self.counts.fanned_out += len(events)
        for joining in listeners.joining:
            joining.wait(events)
        whole: Encoded = {}
        for group in listeners.groups.values():
            if listeners.slow != "disconnect":
                told = group.offer(listeners.channel, events, whole, keyed=listeners.slow == "latest")
                add(self.counts.delivered, group.label, told * len(group.outboxes))
                continue
            each = group.encode(events, listeners.last, whole)
            add(self.counts.delivered, group.label, len(each) * len(group.outboxes))
            frames = group.dialect.join(each)
            # Nobody leaves while this runs: an outbox that is full says so to its transport, at the turn's end.
            if alone and len(frames) == 1:
                spread(group.outboxes.values(), frames[0])
            else:
                for frame in frames:
                    for outbox in group.outboxes.values():
                        outbox.push(frame)
        if listeners.delta:
            listeners.told(events)
