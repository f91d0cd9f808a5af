"""Who is subscribed to what in this process; and the fan-out: each event encoded once per dialect, pushed to each.

A session that subscribes is first `Joining`: what is published while its history is read is queued for it, and is
merged by offset when it settles, so that there is neither a gap nor a repeat between the two. The live flow itself has
none either: see `continuity.py`. What it missed is read from the log. Its own join is queued too, and who comes and
goes behind it: first the reply, then these, then what is published, whatever the engine.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from functools import partial

from freshet.engines.base import Engine
from freshet.errors import Disconnect
from freshet.hub.counting import FannedOut, count
from freshet.hub.gaps import GapChecks, evict
from freshet.hub.subscribers import Delta, Encoded, Follow, Joining, Subscribers, Tap
from freshet.model.events import Delivery, Published
from freshet.model.log import NOWHERE, Position, Publication, Stream
from freshet.observe.counts import Counts, add
from freshet.observe.tracing import FanOut
from freshet.rules.filters import CompiledFilter
from freshet.rules.rules import ChannelRule
from freshet.runtime.tasks import Tasks
from freshet.session.outbox import Turn, broadcast
from freshet.session.session import Session

log = logging.getLogger("freshet.hub")

TRIES = 3


class Hub:
    """engine: where the channels' logs are. turn: at whose end is fanned out. counts: what it adds to.

    node: the name of this one. wall: epoch seconds, as nodes stamp publications.
    """

    def __init__(
        self,
        engine: Engine,
        turn: Turn,
        counts: Counts | None = None,
        *,
        node: str = "",
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.counts = counts or Counts()
        self._node = node
        self._wall = wall
        self._unwritten: list[FannedOut] = []  # of this turn
        self._engine = engine
        self._turn = turn
        self._channels: dict[str, Subscribers] = {}
        self._pending: list[Subscribers] = []  # those with events of this turn
        self._unsubscribing: dict[str, asyncio.Task[None]] = {}  # channels without subscribers
        self._tasks = Tasks()
        self._gaps = GapChecks(engine, self._channels, self.deliver, self.counts, self._tasks)
        # Called when a channel got its first subscriber here (True), or lost its last one.
        self.occupancy: Callable[[str, bool], None] | None = None
        # Called when what is traced has been fanned out.
        self.traced: Callable[[FanOut], None] | None = None
        self._fan_outs: list[FanOut] = []  # of this turn
        turn.flush = self.flush
        turn.written = self._written

    async def stop(self) -> None:
        """End what is under way. The sessions are gone by then, or do not matter any more."""
        await self._tasks.stop()

    def channels(self) -> dict[str, int]:
        """How many sessions are subscribed to each channel."""
        return {it.channel: it.count for it in self._channels.values() if it.groups}

    def activity(self) -> Iterator[tuple[str, int, int]]:
        """Each channel with a subscriber, how many it has, and how many events were fanned out there so far."""
        return ((it.channel, it.count, it.fanned_out_total) for it in list(self._channels.values()) if it.groups)

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
        subscribers = self._known(channel, rule)
        joining = Joining(session, subscribers, rule, delta, tag_filter)
        subscribers.joining.append(joining)
        try:
            await self._subscribed(subscribers)
        except BaseException:
            self.abandon(joining)
            raise
        return joining

    async def tap(self, channel: str, rule: ChannelRule, take: Tap) -> Callable[[], None]:
        """Let `take` have all that is fanned out in a channel from now on, which is not counted as a subscription.

        The answer ends that. Raises EngineUnavailable.
        """
        subscribers = self._known(channel, rule)
        subscribers.taps = (*subscribers.taps, take)
        try:
            await self._subscribed(subscribers)
        except BaseException:
            self._untap(subscribers, take)
            raise
        return partial(self._untap, subscribers, take)

    def _untap(self, subscribers: Subscribers, take: Tap) -> None:
        subscribers.taps = tuple(each for each in subscribers.taps if each is not take)
        self._forget_if_empty(subscribers)

    async def follow(self, channel: str, rule: ChannelRule, take: Follow) -> Callable[[], None]:
        """As `tap`, for who comes and goes there, as soon as the engine says so."""
        subscribers = self._known(channel, rule)
        subscribers.follows = (*subscribers.follows, take)
        try:
            await self._subscribed(subscribers)
        except BaseException:
            self._unfollow(subscribers, take)
            raise
        return partial(self._unfollow, subscribers, take)

    def _unfollow(self, subscribers: Subscribers, take: Follow) -> None:
        subscribers.follows = tuple(each for each in subscribers.follows if each is not take)
        self._forget_if_empty(subscribers)

    def _known(self, channel: str, rule: ChannelRule) -> Subscribers:
        subscribers = self._channels.get(channel)
        if subscribers is None:
            subscribers = self._channels[channel] = Subscribers(channel, rule)
        return subscribers

    async def _subscribed(self, subscribers: Subscribers) -> None:
        if subscribers.engine_subscription is None:
            work = self._subscribe(subscribers)
            subscribers.engine_subscription = self._tasks.start(work, f"hub: subscribe to {subscribers.channel!r}")
        if subscribers.engine_subscription.done():  # mostly it is: others came before
            subscribers.engine_subscription.result()
        else:
            await asyncio.shield(subscribers.engine_subscription)

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
        self._gaps.release(subscribers)

    async def catch_up(self, joining: Joining, position: Position) -> None:
        """Until all up to `position` of the log has been delivered to this node, so that all behind it will be.

        Raises `Disconnect` if the log is lost meanwhile, and `EngineUnavailable`.
        """
        continuity = joining.subscribers.continuity
        for _ in range(TRIES):
            if not continuity.is_behind(position):
                return
            await self._gaps.check(joining.subscribers)
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
        delta = self._delta(joining, replay)
        if delta is Delta.KEYED:
            later = [*replay.publications, *joining.greeting, *behind]
            subscribers.admit(joining, later)
        subscribers.add(joining.session, delta, joining.tag_filter, mapped=joining.mapped)
        if not subscribers.occupied:
            subscribers.occupied = True
            if self.occupancy is not None:
                self.occupancy(subscribers.channel, True)
        greeting = [Published(joining.channel, publication) for publication in (*joining.greeting, *behind)]
        if joining.welcome or greeting:  # at the turn's end, behind the reply, before all that comes in this channel
            subscribers.welcomes[joining.session] = [*joining.welcome, *greeting]
            self._turn.schedule()
            self._pending.append(subscribers)
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
        if complete:
            self.counts.replayed.observe(len(read) + len(later))
        missed = read + later if complete else []
        if (tag_filter := joining.tag_filter) is not None:
            missed = [publication for publication in missed if tag_filter(publication.tags)]
        return Stream(missed, position), complete

    @staticmethod
    def _delta(joining: Joining, replay: Stream) -> Delta:
        if not joining.delta:
            return Delta.NONE
        if joining.mapped:
            return Delta.KEYED
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
        if subscribers.occupied:
            subscribers.occupied = False
            if self.occupancy is not None:
                self.occupancy(channel, False)
        if subscribers.taps or subscribers.follows:
            return
        del self._channels[channel]
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

    # ------------------------------------------------------------------------------------------------ from the engine

    def deliver(self, event: Delivery) -> None:
        """What the engine calls, once per node. It is collected, and leaves at the end of the loop's turn."""
        subscribers = self._channels.get(event.channel)
        if subscribers is None:
            return
        if isinstance(event, Published):
            if event.publication.offset and not subscribers.continuity.passes(event):
                if subscribers.continuity.hold(event):
                    self._gaps.begin_check(subscribers)
                return
        else:
            for take in subscribers.follows:
                take(event)
            if not subscribers.join_leave:
                return
        if not subscribers.pending:
            if not self._turn.scheduled:
                self._turn.schedule()
            self._pending.append(subscribers)
        subscribers.pending.append(event)

    def suspect(self, channel: str) -> None:
        """What the engine calls when publications may have been lost on the way here; "": in any channel."""
        self._gaps.suspect(channel)

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
                evict(subscribers)

    def _fan_out(self, subscribers: Subscribers, *, alone: bool = False) -> None:
        """alone: nothing else is fanned out in this turn."""
        if subscribers.welcomes:
            self._welcome(subscribers)
        events, subscribers.pending = subscribers.pending, []
        if not events:
            return
        self.counts.fanned_out += len(events)
        if self.traced is not None:
            self._note(subscribers, events)
        subscribers.fanned_out_total += len(events)
        for take in subscribers.taps:
            take(events)
        for joining in subscribers.joining:
            joining.queue(events)
        whole: Encoded = {}
        keyed = subscribers.last_values.note(events) if subscribers.last_values is not None else ()
        for group in subscribers.groups.values():
            if subscribers.slow != "disconnect":
                offered = group.offer(subscribers.channel, events, whole, conflate=subscribers.slow == "latest")
                self._unwritten.append((group.label, len(group.outboxes), events, offered, offered))
                continue
            each = group.encode(events, subscribers.last, whole, keyed)
            frames = each if len(each) < 2 else group.dialect.join(each)
            shared = frames if len(frames) < 2 else group.dialect.batch(frames)
            self._unwritten.append((group.label, len(group.outboxes), events, each, frames))
            # Nobody leaves while this runs: an outbox that is full says so to its transport, at the turn's end.
            if alone and len(shared) == 1:
                broadcast(group.outboxes.values(), shared[0])
            else:
                for frame in shared:
                    for outbox in group.outboxes.values():
                        outbox.push(frame)
        if subscribers.delta:
            subscribers.fanned_out(events)

    def _note(self, subscribers: Subscribers, events: list[Delivery]) -> None:
        """A fan-out begins, which is traced if what it has is."""
        stamps = [event.publication.stamp for event in events if type(event) is Published]
        if traces := [stamp.trace for stamp in stamps if stamp is not None and stamp.trace]:
            number = sum(len(group.outboxes) for group in subscribers.groups.values())
            self._fan_outs.append(FanOut(subscribers.channel, traces, len(traces), number, time.time_ns()))

    def _written(self) -> None:
        """The turn is over: what was fanned out in it has been given to the sockets."""
        if self._fan_outs and self.traced is not None:
            fan_outs, self._fan_outs = self._fan_outs, []
            for fan_out in fan_outs:
                self.traced(fan_out)
        if self._unwritten:
            unwritten, self._unwritten = self._unwritten, []
            count(self.counts, unwritten, self._wall(), self._node)

    def _welcome(self, subscribers: Subscribers) -> None:
        welcomes, subscribers.welcomes = subscribers.welcomes, {}
        for session, events in welcomes.items():
            for event in events:
                frame = subscribers.encode_for(session, event)
                if frame is not None:
                    session.outbox.push(frame)
                    self.counts.sent += 1
                    self.counts.sent_bytes += frame.size
                    add(self.counts.delivered, session.dialect.label, 1)
