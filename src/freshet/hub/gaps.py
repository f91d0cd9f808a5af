"""What is done about a gap in the live flow: the channel's log is read for what is missing, and that is delivered.

A gap that the log cannot fill is not kept quiet: the channel's subscribers are evicted, reconnect, and ask what they
missed. Where a gap is noticed: see `continuity.py`.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress

from freshet.engines.base import Engine
from freshet.errors import Disconnect, EngineUnavailable
from freshet.hub.subscribers import Subscribers
from freshet.model.events import Delivery, Published
from freshet.observe.counts import Counts
from freshet.observe.logs import BoundedLog
from freshet.runtime.tasks import Tasks

log = logging.getLogger("freshet.hub")

CHECKS_AT_ONCE = 32
LOG_INTERVAL = 1.0  # seconds between two log lines about publications that are lost


class GapChecks:
    """channels: of the hub, by name. deliver: takes what was missing."""

    def __init__(
        self,
        engine: Engine,
        channels: Mapping[str, Subscribers],
        deliver: Callable[[Delivery], None],
        counts: Counts,
        tasks: Tasks,
    ) -> None:
        self._engine = engine
        self._channels = channels
        self._deliver = deliver
        self._counts = counts
        self._tasks = tasks
        self._checking_all: asyncio.Task[None] | None = None
        self._suspicions = 0  # of all channels
        self._bounded_log = BoundedLog(log, LOG_INTERVAL)

    def suspect(self, channel: str) -> None:
        """Publications may have been lost on the way here; "": in any channel."""
        if channel:
            if (subscribers := self._channels.get(channel)) is not None:
                self.begin_check(subscribers)
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
                await self.check(subscribers)

    def begin_check(self, subscribers: Subscribers) -> asyncio.Task[None]:
        """Read the log, or go on reading it."""
        if subscribers.gap_check is None:
            work = self._fill_gap(subscribers)
            subscribers.gap_check = self._tasks.start(work, f"hub: gap check of {subscribers.channel!r}")
        return subscribers.gap_check

    async def check(self, subscribers: Subscribers) -> None:
        """Until all that the log held when it was read has been delivered, or is lost. Raises `EngineUnavailable`."""
        await asyncio.shield(self.begin_check(subscribers))

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
                self._counts.losses += 1
                self._warn_of_loss(subscribers.channel)
                evict(subscribers)
                continuity.begin(stream.position)
            else:
                self._counts.gaps += bool(missing)
                held, continuity.held = continuity.held, None
                for publication in missing:
                    self._deliver(Published(subscribers.channel, publication, stream.position.epoch))
                continuity.held = held
        finally:
            subscribers.gap_check = None
        self.release(subscribers)

    def release(self, subscribers: Subscribers) -> None:
        """What was held can try again."""
        for event in subscribers.continuity.release():
            self._deliver(event)

    def _warn_of_loss(self, channel: str) -> None:
        """Not of each: when an engine has lost its logs, all are."""
        self._bounded_log.warning(
            "gap",
            "gap in %r that its log cannot fill (history too short, or the engine lost it): its subscribers were "
            "disconnected with 3010, and reconnect",
            channel,
        )


def evict(subscribers: Subscribers) -> None:
    """What cannot be delivered is not kept quiet: these clients reconnect and ask what they missed."""
    for group in subscribers.groups.values():
        for outbox in group.outboxes.values():
            outbox.close(Disconnect.insufficient_state())
    for joining in subscribers.joining:
        joining.session.outbox.close(Disconnect.insufficient_state())
