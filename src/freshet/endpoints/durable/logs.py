"""A stream as it lies in the engine: its channel's log, and beside it a log whose last item is the record.

Whoever changes the record, or writes in an order, appends only if the log stands where he has read it
(`PublishOptions.after`). So no node owns a stream, and nothing of it is kept here but a cache.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import NamedTuple

import msgspec

from freshet.endpoints.durable.record import StreamRecord, Writers
from freshet.errors import EngineUnavailable, PositionConflict
from freshet.model.log import History, Kind, Position, PublishOptions
from freshet.node.owners import Site
from freshet.rules.rules import ChannelRule
from freshet.runtime.locks import Locks
from freshet.session.outbox import AT_ONCE

log = logging.getLogger("freshet.streams")

RECORD = "\0stream:"  # before the channel: no client can name it, see `rules.OWN`
NOTICE = "stream"
PAGE = 1000  # publications that are read at once
COMPACTED = 64  # publications behind which the record is written anew, with what is known of writers
KNOWN = 1000  # streams whose writers are remembered
RENEWED = 1 / 4  # of a log's time, after which the record is written again so that it outlives the content

Append = Callable[[ChannelRule, str, bytes, PublishOptions], Awaitable[Position]]


class Loaded(NamedTuple):
    """A stream as it stands. record: None: there is none. at: of the record's log. tail: of the channel's."""

    record: StreamRecord | None
    at: Position
    tail: Position

    @property
    def end(self) -> int:
        return self.record.length(self.tail.offset) if self.record is not None else 0


class StreamLogs:
    """Those of a node. append: publishes in a channel."""

    def __init__(self, node: Site, append: Append) -> None:
        self._node = node
        self._append = append
        self._appended = 0
        self._locks = Locks[str]()
        self._writers: OrderedDict[str, tuple[Position, Writers]] = OrderedDict()
        self._notified: dict[str, set[Callable[[], None]]] = {}
        node.bus.handlers[NOTICE] = self._on_notice

    # ---------------------------------------------------------------------------------------------------- the record

    async def load(self, channel: str, keep: History) -> Loaded:
        """Raises `EngineUnavailable`."""
        engine = self._node.engine
        kept = await engine.history(RECORD + channel, _kept(keep), None, 1, reverse=True)
        tail = (await engine.history(channel, keep, None, 0)).position
        record = None
        if kept.publications:
            record = msgspec.msgpack.decode(kept.publications[0].data, type=StreamRecord)
        if record is None and tail.offset > 0:  # a channel in which somebody published
            record = StreamRecord(tail.epoch, 0, [(tail.epoch, -1)])
        if record is not None and (
            record.gone or record.epoch != tail.epoch or record.expired(self._node.clock.wall())
        ):
            record = None  # what it was the name of is no more
        return Loaded(record, kept.position, tail)

    async def save(self, channel: str, keep: History, loaded: Loaded, record: StreamRecord) -> Position:
        """Raises `PositionConflict` when another has changed it meanwhile."""
        record = msgspec.structs.replace(record, written=self._node.clock.wall())
        data = msgspec.msgpack.encode(record)
        options = PublishOptions(kind=Kind.BYTES, history=_kept(keep), after=loaded.at)
        return await self._node.engine.publish(RECORD + channel, data, options)

    async def touch(self, channel: str, keep: History, loaded: Loaded) -> None:
        """A stream that ends when nobody uses it is used; and the record is to outlive the content."""
        record, now = loaded.record, self._node.clock.wall()
        if record is None:
            return
        slides = record.ttl is not None and now > record.touched + min(1.0, record.ttl * RENEWED)
        if slides or (record.written and now > record.written + keep.ttl * RENEWED):
            with suppress(PositionConflict):  # another has written it, by which it was used
                await self.save(channel, keep, loaded, msgspec.structs.replace(record, touched=now))

    async def read_writers(self, channel: str, keep: History, loaded: Loaded) -> Writers:
        """What is known of those who wrote, up to the end of the log."""
        record = loaded.record
        assert record is not None
        known = self._writers.pop(channel, None)
        writers = known[1] if known and known[0] == loaded.at and known[1].at <= loaded.tail.offset else None
        if writers is None:
            writers = record.writers.copy()
            writers.at = max(writers.at, record.base)
        while writers.at < loaded.tail.offset:
            since = Position(loaded.tail.epoch, writers.at)
            page = await self._node.engine.history(channel, keep, since, PAGE)
            if not page.publications:
                writers.at = loaded.tail.offset  # the log keeps no more of it
            writers.read(page.publications)
            loaded = loaded._replace(tail=page.position)
        self._writers[channel] = loaded.at, writers
        while len(self._writers) > KNOWN:
            self._writers.popitem(last=False)
        return writers

    async def compact(self, channel: str, keep: History, loaded: Loaded) -> None:
        """Write down what is known of writers before the log loses it."""
        now = await self.load(channel, keep)
        if now.record is None or now.at != loaded.at:
            return
        writers = await self.read_writers(channel, keep, now)
        with suppress(PositionConflict):  # the next one does it
            await self.save(channel, keep, now, msgspec.structs.replace(now.record, writers=writers.copy()))

    async def append(self, channel: str, data: bytes, options: PublishOptions) -> Position:
        """Raises as `Engine.publish`, and `Refusal`."""
        self._appended += 1
        if not self._appended % AT_ONCE:
            await asyncio.sleep(0)  # other clients have their turn: one request may bring thousands
        rule, _ = self._node.rules.find(channel)
        options = msgspec.structs.replace(options, stamp=self._node.stamp())
        return await self._append(rule, channel, data, options)

    # -------------------------------------------------------------------------------------------------------- notices

    def watch(self, channel: str, notice: Callable[[], None]) -> Callable[[], None]:
        """Call `notice` when the stream is closed or deleted, on whatever node; the answer ends that.

        A notice can be lost: nobody may wait for one alone.
        """
        self._notified.setdefault(channel, set()).add(notice)

        def end() -> None:
            here = self._notified.get(channel, set())
            here.discard(notice)
            if not here:
                self._notified.pop(channel, None)

        return end

    async def notify(self, channel: str) -> None:
        self._noticed(channel)
        try:
            await self._node.bus.broadcast(NOTICE, channel.encode())
        except EngineUnavailable as why:
            log.warning("streams: readers on other nodes learn late that %r has ended: %s", channel, why)

    def _noticed(self, channel: str) -> None:
        for notice in list(self._notified.get(channel, ())):
            notice()

    async def _on_notice(self, body: bytes) -> bytes:
        self._noticed(body.decode())
        return b""

    async def lock(self, channel: str) -> None:
        if not self._locks.take(channel):
            await self._locks.wait(channel)

    def unlock(self, channel: str) -> None:
        self._locks.release(channel)


def _kept(keep: History) -> History:
    """How long the record is kept: longer than the content."""
    return History(2, 2 * keep.ttl)
