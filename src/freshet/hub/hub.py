"""Who is subscribed to what in this process; and the fan-out: each event encoded once per dialect, pushed to each.

A session that subscribes is first `Joining`: what is published while its history is read is queued for it, and is
merged by offset when it settles, so that there is neither a gap nor a repeat between the two. The live flow itself has
none either: see `continuity.py`. What it missed is read from the log. Its own join is queued too, and who comes and
goes behind it: first the reply, then these, then what is published, whatever the engine.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import suppress

from freshet.engines.base import Engine
from freshet.errors import Disconnect, EngineUnavailable
from freshet.hub.subscribers import Delta, Encoded, Joining, Subscribers
from freshet.model.events import Delivery, Published
from freshet.model.log import NOWHERE, Position, Publication, Stream
from freshet.observe.counts import Counts, add
from freshet.observe.logs import BoundedLog
from freshet.rules.filters import CompiledFilter
from freshet.rules.rules import ChannelRule
from freshet.runtime.tasks import Tasks
from freshet.session.outbox import Turn, broadcast
from freshet.session.session import Session

log = logging.getLogger("freshet.hub")

CHECKS_AT_ONCE = 32
TRIES = 3
LOG_INTERVAL = 1.0  # seconds between two log lines about publications that are lost


class Hub:
    """engine: where the channels' logs are. turn: at whose end is fanned out. counts: what it adds to."""

    def __init__(self, engine: Engine, turn: Turn, counts: Counts | None = None) -> None:
        self.counts = counts or Counts()
        self._engine = engine
        self._turn = turn
        self._channels: dict[str, Subscribers] = {}
        self._pending: list[Subscribers] = []  # those with events of this turn
        self._unsubscribing: dict[str, asyncio.Task[None]] = {}  # channels without subscribers
        self._checking_all: asyncio.Task[None] | None = None
        self._suspicions = 0  # of all channels
        self._bounded_log = BoundedLog(log, LOG_INTERVAL)
        self._tasks = Tasks()
        # Called when a channel got its first subscriber here (True), or lost its last one.
        self.occupancy: Callable[[str, bool], None] | None = None
        turn.flush = self.flush

    async def stop(self) -> None:
        """End what is under way. The sessions are gone by then, or do not matter any more."""
        await self._tasks.stop()

    def channels(self) -> dict[str, int]:
        """How many sessions are subscribed to each channel."""
        counts = (
            (it.channel, sum(len(group.outboxes) for group in it.groups.values())) for it in self._channels.values()
        )
        return {channel: count for channel, count in counts if count}

    # -------------------------------------------------------------------------------------------------- subscriptions

    async def join(
        self,
        session: Session,
        channel: str,
        rule: ChannelRule,
        *,
        delta: bool = False,
        tag_filter: CompiledFilter | None = None,
    ) -> Joining:
        """The first step into a channel: from when this returns, what is published there is queued for the session.

        delta: it wants differences; the rule allows that. tag_filter: which publications it wants; None: all.
        """
        subscribers = self._channels.get(channel)
        if subscribers is None:
            subscribers = self._channels[channel] = Subscribers(channel, rule)
        joining = Joining(session, subscribers, rule, delta, tag_filter)
        subscribers.joining.append(joining)
        try:
            if subscribers.engine_subscription is None:
                work = self._subscribe(subscribers)
                subscribers.engine_subscription = self._tasks.start(work, f"hub: subscribe to {channel!r}")
            await asyncio.shield(subscribers.engine_subscription)
        except BaseException:
            self.abandon(joining)
            raise
        return joining

    async def _subscribe(self, subscribers: Subscribers) -> None:
        """Let the engine deliver what is published there."""
        try:
            if (unsubscribing := self._unsubscribing.get(subscribers.channel)) is not None:
                await asyncio.shield(unsubscribing)
            keep = subscribers.continuity.keep
            subscribers.continuity.begin(await self._engine.subscribe(subscribers.channel, keep))
        except BaseException:
            subscribers.engine_subscription = None
            raise
        self._release(subscribers)

    async def catch_up(self, joining: Joining, position: Position) -> None:
        """Until all up to `position` of the log has been delivered to this node, so that all behind it will be.

        Raises `Disconnect` if the log is lost meanwhile, and `EngineUnavailable`.
        """
        continuity = joining.subscribers.continuity
        for _ in range(TRIES):
            if not continuity.is_behind(position):
                return
            await self._check(joining.subscribers)
        if continuity.is_behind(position):
            raise Disconnect.insufficient_state()

    def settle(self, joining: Joining, stream: Stream | None, since: Position | None) -> tuple[Stream, bool | None]:
        """The last step: the session is now subscribed to the live flow.

        stream: what the log held after `since`; None when the channel has no log.
        The answer is all that the session has to get before the live flow begins, the position where that is, and
        whether these are all publications after `since` (None when it did not ask). The caller pushes them to the
        session before it gives the loop a turn.
        """
        subscribers = joining.subscribers
        self._fan_out(subscribers)  # what came in this turn goes to those who are in, and is queued for this one
        subscribers.joining.remove(joining)
        behind = self._behind(joining, stream)
        replay, recovered = self._replay(joining, stream, since)
        subscribers.add(joining.session, self._delta(joining, replay), joining.tag_filter, mapped=joining.mapped)
        if not subscribers.occupied:
            subscribers.occupied = True
            if self.occupancy is not None:
                self.occupancy(subscribers.channel, True)
        greeting = [Published(joining.channel, publication) for publication in (*joining.greeting, *behind)]
        if joining.welcome or greeting:  # at the turn's end, behind the reply, before all that comes in this channel
            subscribers.welcomes[joining.session] = [*joining.welcome, *greeting]
            self._schedule(subscribers)
        return replay, recovered

    @staticmethod
    def _behind(joining: Joining, stream: Stream | None) -> list[Publication]:
        """What goes behind a greeting, and not into the reply: what came since the log was read."""
        if not joining.owned:
            return []
        backlog, joining.backlog = joining.backlog, []
        if stream is not None:
            backlog = [each for each in backlog if each.offset > stream.position.offset]
            if backlog and backlog[0].offset != stream.position.offset + 1:
                joining.session.outbox.close(Disconnect.insufficient_state())
        tag_filter = joining.tag_filter
        return [each for each in backlog if tag_filter is None or tag_filter(each.tags)]

    def _replay(self, joining: Joining, stream: Stream | None, since: Position | None) -> tuple[Stream, bool | None]:
        if stream is None:
            self.counts.unrecovered += since is not None
            return Stream([], NOWHERE), None if since is None else False
        read, (epoch, top) = stream
        later = [publication for publication in joining.backlog if publication.offset > top]
        position = Position(epoch, later[-1].offset) if later else stream.position
        if since is None:
            return Stream([], position), None
        complete = stream.follows(since) and (not later or later[0].offset == top + 1)
        self.counts.recovered += complete
        self.counts.unrecovered += not complete
        missed = read + later if complete else []
        if (tag_filter := joining.tag_filter) is not None:
            missed = [publication for publication in missed if tag_filter(publication.tags)]
        return Stream(missed, position), complete

    @staticmethod
    def _delta(joining: Joining, replay: Stream) -> Delta:
        if not joining.delta:
            return Delta.NONE
        subscribers = joining.subscribers
        if subscribers.last is None and replay.publications:
            subscribers.last = replay.publications[-1]  # nobody else has anything that a difference could be to
        # What it got last is what all others have, or else it begins with a whole one.
        up_to_date = bool(replay.publications) and replay.publications[-1] == subscribers.last
        return Delta.ON if up_to_date else Delta.FIRST

    def abandon(self, joining: Joining) -> None:
        """It comes to nothing."""
        joining.subscribers.joining.remove(joining)
        self._forget_if_empty(joining.subscribers)

    def leave(self, session: Session, channel: str) -> None:
        subscribers = self._channels.get(channel)
        if subscribers is not None and subscribers.remove(session):
            self._forget_if_empty(subscribers)

    def _forget_if_empty(self, subscribers: Subscribers) -> None:
        channel = subscribers.channel
        if subscribers or self._channels.get(channel) is not subscribers:
            return
        del self._channels[channel]
        if subscribers.occupied and self.occupancy is not None:
            self.occupancy(channel, False)
        work = self._unsubscribe(subscribers)
        self._unsubscribing[channel] = self._tasks.start(work, f"hub: unsubscribe from {channel!r}")

    async def _unsubscribe(self, subscribers: Subscribers) -> None:
        channel = subscribers.channel
        try:
            if subscribers.engine_subscription is not None and not subscribers.engine_subscription.done():
                await asyncio.wait([subscribers.engine_subscription])
            if channel not in self._channels:
                await self._engine.unsubscribe(channel)
        finally:
            if self._unsubscribing.get(channel) is asyncio.current_task():
                del self._unsubscribing[channel]

    # ----------------------------------------------------------------------------------------------------------- gaps

    def deliver(self, event: Delivery) -> None:
        """What the engine calls, once per node. It is collected, and leaves at the end of the loop's turn."""
        subscribers = self._channels.get(event.channel)
        if subscribers is None or (type(event) is not Published and not subscribers.join_leave):
            return
        if type(event) is Published and not subscribers.continuity.passes(event):
            if subscribers.continuity.hold(event):
                self._begin_check(subscribers)
            return
        if not subscribers.pending:
            self._schedule(subscribers)
        subscribers.pending.append(event)

    def _schedule(self, subscribers: Subscribers) -> None:
        self._turn.schedule()
        self._pending.append(subscribers)

    def suspect(self, channel: str) -> None:
        """What the engine calls when publications may have been lost on the way here; "": in any channel."""
        if channel:
            if (subscribers := self._channels.get(channel)) is not None:
                self._begin_check(subscribers)
            return
        self._suspicions += 1
        if self._checking_all is None:
            self._checking_all = self._tasks.start(self._check_all(), "hub: gap check of all channels")

    async def _check_all(self) -> None:
        done = 0
        try:
            while done < self._suspicions:
                done = self._suspicions
                left = iter(list(self._channels.values()))
                await asyncio.gather(*(self._check_each(left) for _ in range(CHECKS_AT_ONCE)))
        finally:
            self._checking_all = None

    async def _check_each(self, left: Iterator[Subscribers]) -> None:
        for subscribers in left:
            with suppress(EngineUnavailable):  # all are suspected again when it is back
                await self._check(subscribers)

    def _begin_check(self, subscribers: Subscribers) -> asyncio.Task[None]:
        if subscribers.gap_check is None:
            work = self._fill_gap(subscribers)
            subscribers.gap_check = self._tasks.start(work, f"hub: gap check of {subscribers.channel!r}")
        return subscribers.gap_check

    async def _check(self, subscribers: Subscribers) -> None:
        await asyncio.shield(self._begin_check(subscribers))

    async def _fill_gap(self, subscribers: Subscribers) -> None:
        """Compare with the log. What did not pass is delivered now; or it is lost, and the subscribers are evicted."""
        continuity = subscribers.continuity
        try:
            if continuity.keep is None or subscribers.engine_subscription is None:
                return
            await asyncio.shield(subscribers.engine_subscription)
            stream = await self._engine.history(subscribers.channel, continuity.keep, continuity.position)
            missing = continuity.missing(stream)
            if missing is None:
                self.counts.losses += 1
                self._warn_of_loss(subscribers.channel)
                self._evict(subscribers)
                continuity.begin(stream.position)
            else:
                self.counts.gaps += bool(missing)
                held, continuity.held = continuity.held, None
                for publication in missing:
                    self.deliver(Published(subscribers.channel, publication, stream.position.epoch))
                continuity.held = held
        finally:
            subscribers.gap_check = None
        self._release(subscribers)

    def _release(self, subscribers: Subscribers) -> None:
        for event in subscribers.continuity.release():
            self.deliver(event)

    def _warn_of_loss(self, channel: str) -> None:
        """Not of each: when an engine has lost its logs, all are."""
        self._bounded_log.warning(
            "gap",
            "gap in %r that its log cannot fill (history too short, or the engine lost it): its subscribers were "
            "disconnected with 3010, and reconnect",
            channel,
        )

    @staticmethod
    def _evict(subscribers: Subscribers) -> None:
        """What cannot be delivered is not kept quiet: these clients reconnect and ask what they missed."""
        for group in subscribers.groups.values():
            for outbox in group.outboxes.values():
                outbox.close(Disconnect.insufficient_state())
        for joining in subscribers.joining:
            joining.session.outbox.close(Disconnect.insufficient_state())

    # -------------------------------------------------------------------------------------------------------- fan-out

    def flush(self) -> None:
        pending, self._pending = self._pending, []
        for subscribers in pending:
            try:
                self._fan_out(subscribers, alone=len(pending) == 1)
            except Exception:
                log.exception(
                    "fan-out in %r failed: its subscribers were disconnected with 3010, and reconnect",
                    subscribers.channel,
                )
                self._evict(subscribers)

    def _fan_out(self, subscribers: Subscribers, *, alone: bool = False) -> None:
        """alone: nothing else is fanned out in this turn."""
        if subscribers.welcomes:
            self._welcome(subscribers)
        events, subscribers.pending = subscribers.pending, []
        if not events:
            return
        self.counts.fanned_out += len(events)
        for joining in subscribers.joining:
            joining.queue(events)
        whole: Encoded = {}
        for group in subscribers.groups.values():
            if subscribers.slow != "disconnect":
                pushed = group.offer(subscribers.channel, events, whole, conflate=subscribers.slow == "latest")
                add(self.counts.delivered, group.label, pushed * len(group.outboxes))
                continue
            each = group.encode(events, subscribers.last, whole)
            add(self.counts.delivered, group.label, len(each) * len(group.outboxes))
            frames = group.dialect.join(each)
            # Nobody leaves while this runs: an outbox that is full says so to its transport, at the turn's end.
            if alone and len(frames) == 1:
                broadcast(group.outboxes.values(), frames[0])
            else:
                for frame in frames:
                    for outbox in group.outboxes.values():
                        outbox.push(frame)
        if subscribers.delta:
            subscribers.fanned_out(events)

    def _welcome(self, subscribers: Subscribers) -> None:
        welcomes, subscribers.welcomes = subscribers.welcomes, {}
        for session, events in welcomes.items():
            for event in events:
                frame = subscribers.dialect_of(session).encode(event)
                if frame is not None:
                    session.outbox.push(frame)
                    add(self.counts.delivered, session.dialect.label, 1)
