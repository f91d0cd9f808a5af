"""The logs of the NATS engine: all in one stream, a subject for each channel.

A stream for each channel would cost the server some 70 KiB and open files. So a channel's offsets are in its messages,
and whoever appends names the message of that subject that it comes behind: if another node was quicker, JetStream
refuses, and it is done again behind that one's. What a node publishes in a channel meanwhile is batched into the next
message.

A node that remembers a higher offset than the log holds knows that JetStream has lost some: it begins a new epoch.
"""

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from freshet.engines.base import check_position, new_epoch
from freshet.engines.nats.connection import NatsConnection
from freshet.engines.nats.messages import EncodedPublication, LogMessage, Names, UnknownMessage, decode, encode, token
from freshet.engines.nats.streams import REPEATS, Appended, BrokerStream, StoredMessage
from freshet.engines.nats.url import NatsSettings
from freshet.errors import EngineUnavailable, PositionConflict, TooLargeForEngine
from freshet.model.log import NOWHERE, History, Position, Publication, Stream
from freshet.runtime.clock import Clock
from freshet.runtime.tasks import Tasks

log = logging.getLogger("freshet")

LONGER = 86_400  # seconds for which a log's end outlives its publications
TAILS = 10_000  # channels whose end is remembered
BATCH = 100  # publications in one message
BATCH_BYTES = 64 * 1024
BACKLOG_BYTES = 64 * 1024 * 1024  # of publications that are not acknowledged


class _Tail(NamedTuple):
    """The end of a log. seq: the sequence number of that message in the stream."""

    epoch: str
    offset: int
    seq: int


class _Unacknowledged(NamedTuple):
    """alone: it goes in a message of its own. after: where the log has to stand; None: anywhere."""

    item: EncodedPublication
    keep: History
    key: str | None
    position: asyncio.Future[Position]
    alone: bool
    after: Position | None


class ChannelLogs:
    """The methods do what those of `Engine` promise; each has the time of one request."""

    def __init__(self, connection: NatsConnection, settings: NatsSettings, clock: Clock) -> None:
        self._connection = connection
        self._names = Names(settings.prefix)
        self._clock = clock
        form = {
            "subjects": [self._names.all("log")],
            "republish": {"src": self._names.all("log"), "dest": self._names.all("flow")},
            "storage": settings.storage,
            "num_replicas": settings.replicas,
            "duplicate_window": REPEATS,
        }
        self.stream = BrokerStream(connection, f"{settings.prefix}-log", 2.0 * LONGER, form)
        self._tails: OrderedDict[str, _Tail] = OrderedDict()  # by channel, the last used at the end
        self._backlogs: dict[str, deque[_Unacknowledged]] = {}  # by channel; one that is there is being appended
        self._backlog_bytes = 0
        self._tasks = Tasks()

    async def stop(self) -> None:
        """What is not acknowledged fails."""
        await self._tasks.stop()
        await self.stream.stop()
        self._tails.clear()

    def note(self, channel: str, message: LogMessage, seq: int) -> None:
        """JetStream has stored this, at `seq`."""
        self._remember(channel, _Tail(message.epoch, message.last, seq))

    # -------------------------------------------------------------------------------------------------------- reading

    async def history(self, channel: str, keep: History, since: Position | None, limit: int, reverse: bool) -> Stream:
        """See `Engine.history`."""
        async with self._connection.deadline():
            await self.stream.keep_for(keep.ttl + LONGER)
            while (tail := await self._tail(channel)) is None:
                await self._mark(channel, _Tail(new_epoch(), 0, 0))
            position = Position(tail.epoch, tail.offset)
            if not limit or (since is not None and not reverse and since.offset >= tail.offset):
                return Stream([], position)
            now, found = await self.stream.read(self._subject(channel), tail.seq)
        publications = kept(found, position, tail.seq, now)
        if since is not None:
            place = since.offset
            publications = [it for it in publications if (it.offset < place if reverse else it.offset > place)]
        if reverse:
            publications.reverse()
        return Stream(publications if limit < 0 else publications[:limit], position)

    async def remove(self, channel: str) -> None:
        """See `Engine.remove_history`."""
        async with self._connection.deadline():
            while (tail := await self._tail(channel)) is not None:
                if await self._mark(channel, tail, cleared=True):
                    self.stream.trim(self._subject(channel), keep=1)
                    return

    async def _tail(self, channel: str) -> _Tail | None:
        """The end of a log as the stream has it; None when there is none."""
        while True:
            remembered = self._tails.get(channel)  # before it is read: what is appended meanwhile is no loss
            if (found := await self.stream.last(self._subject(channel))) is None:
                self._tails.pop(channel, None)
                return None
            message = _log_message(found)
            if message is None:  # no node has written it: what is behind it has no offset
                await self._mark(channel, _Tail(new_epoch(), 0, found.seq))
                continue
            tail = _Tail(message.epoch, message.last, found.seq)
            if _is_further(remembered, tail):
                log.warning("nats: JetStream has lost the end of the log of %r, which goes on in a new epoch", channel)
                self._tails.pop(channel, None)
                await self._mark(channel, _Tail(new_epoch(), tail.offset, tail.seq))
            elif found.time < self._clock.wall() - self.stream.ages / 2:  # so that it does not end while it is used
                await self._mark(channel, tail)
            else:
                self._remember(channel, tail)
                return tail

    async def _mark(self, channel: str, tail: _Tail, cleared: bool = False) -> bool:
        """Append that the log stands there, without a publication. Whether nobody else was quicker."""
        mark = LogMessage(tail.epoch, tail.offset, [], 0, 0.0, cleared)
        return await self.stream.append(self._subject(channel), encode(mark), tail.seq) is not None

    def _remember(self, channel: str, tail: _Tail) -> None:
        """What comes late, or after JetStream has lost some, does not make us forget how far the log was."""
        if _is_further(self._tails.get(channel), tail):
            return
        self._tails[channel] = tail
        self._tails.move_to_end(channel)
        if len(self._tails) > TAILS:
            self._tails.popitem(last=False)

    # ------------------------------------------------------------------------------------------------------ appending

    async def append(
        self, channel: str, item: EncodedPublication, keep: History, key: str | None, after: Position | None = None
    ) -> Position:
        """Into the log, batched with all that this node publishes there at the same time."""
        size = len(item.data)
        if self._backlog_bytes and self._backlog_bytes + size > BACKLOG_BYTES:
            raise EngineUnavailable("NATS does not keep up: too many publications wait")
        loop = asyncio.get_running_loop()
        position: asyncio.Future[Position] = loop.create_future()
        backlog = self._backlogs.get(channel)
        if backlog is None:
            backlog = self._backlogs[channel] = deque()
            self._tasks.start(self._append_all(channel, backlog), "nats: append to a log")
        alone = key is not None or after is not None
        backlog.append(_Unacknowledged(item, keep, key, position, alone, after))
        self._backlog_bytes += size
        try:
            return await position
        finally:
            self._backlog_bytes -= size

    async def _append_all(self, channel: str, backlog: deque[_Unacknowledged]) -> None:
        """One message after the other, as each names the one before it. If one fails, those that wait do too."""
        error: BaseException = EngineUnavailable("the engine was stopped")
        batch: list[_Unacknowledged] = []
        try:
            while backlog:
                batch = _next_batch(backlog)
                if (ages := batch[-1].keep.ttl + LONGER) > self.stream.ages:
                    async with self._connection.deadline():
                        await self.stream.keep_for(ages)
                try:
                    position = await self._append(channel, batch)  # without a timer: in the rule it is one request
                except PositionConflict as conflict:
                    _fail(batch, conflict)
                    continue
                except TooLargeForEngine as too_large:
                    if len(batch) == 1:
                        _fail(batch, too_large)
                    else:
                        backlog.extendleft(each._replace(alone=True) for each in reversed(batch))
                    continue
                for index, each in enumerate(batch):
                    if not each.position.done():
                        each.position.set_result(Position(position.epoch, position.offset + index))
        except EngineUnavailable as unavailable:
            error = unavailable
        finally:
            del self._backlogs[channel]
            _fail((*batch, *backlog), error)

    async def _append(self, channel: str, batch: list[_Unacknowledged]) -> Position:
        """One message. The position of its first publication."""
        keep, key, after, subject = batch[-1].keep, batch[0].key, batch[0].after, self._subject(channel)
        items = [each.item for each in batch]
        message_id = message_id_of(channel, key) if key is not None else None

        async def behind(tail: _Tail) -> tuple[LogMessage, Appended | None]:
            check_position(after, Position(tail.epoch, tail.offset))
            message = LogMessage(tail.epoch, tail.offset + 1, items, keep.size, keep.ttl)
            return message, await self.stream.append(subject, encode(message), tail.seq, message_id)

        remembered = self._tails.get(channel) or _Tail(new_epoch(), 0, 0)
        if after is not None and (remembered.epoch, remembered.offset) != after:
            async with self._connection.deadline():
                remembered = await self._tail(channel) or _Tail(new_epoch(), 0, 0)
        message, appended = await behind(remembered)
        if appended is None:  # another node was quicker, or what we remember is gone
            async with self._connection.deadline():
                while appended is None:
                    message, appended = await behind(await self._tail(channel) or _Tail(new_epoch(), 0, 0))
        if appended.duplicate:
            first = await self.stream.at(appended.seq)
            before = _log_message(first) if first is not None else None
            return Position(before.epoch, before.first) if before is not None else NOWHERE  # it is no longer kept
        self._remember(channel, _Tail(message.epoch, message.last, appended.seq))
        step = max(8, keep.size // 4)
        if message.last > keep.size and (message.first - 1) // step != message.last // step:
            self.stream.trim(subject, keep.size + 2)  # and two marks
        return Position(message.epoch, message.first)

    def _subject(self, channel: str) -> str:
        return self._names.channel("log", channel)


def _fail(those: Iterable[_Unacknowledged], error: BaseException) -> None:
    for each in those:
        if not each.position.done():
            each.position.set_exception(error)


def message_id_of(channel: str, key: str) -> str:
    """By which JetStream knows a publication again that has this idempotency key."""
    return f"{token(channel)}.{token(key)}"


def _is_further(remembered: _Tail | None, tail: _Tail) -> bool:
    return remembered is not None and remembered.epoch == tail.epoch and remembered.offset > tail.offset


def _next_batch(backlog: deque[_Unacknowledged]) -> list[_Unacknowledged]:
    """The next that go together: what has a key is alone, as JetStream knows keys by message.

    So are those that were too large together: one that is too large by itself fails by itself.
    """
    batch = [backlog.popleft()]
    size = len(batch[0].item.data)
    while not batch[0].alone and backlog and not backlog[0].alone and len(batch) < BATCH:
        size += len(backlog[0].item.data)
        if size > BATCH_BYTES:
            break
        batch.append(backlog.popleft())
    return batch


def _log_message(found: StoredMessage) -> LogMessage | None:
    """What is stored in a log; None when no node has written it."""
    try:
        message = decode(found.data)
    except UnknownMessage:
        return None
    return message if isinstance(message, LogMessage) else None


def kept(found: Sequence[StoredMessage], end: Position, seq: int, now: float) -> list[Publication]:
    """The publications that a log holds, the oldest first: without a gap up to `end`, which is the message `seq`.

    By size and time, these are those that the newest asked for. now: seconds since 1970, by the server's clock.
    """
    newest_first: list[Publication] = []
    size = -1
    for stored in reversed(found):
        message = _log_message(stored)
        if stored.seq > seq or message is None:
            continue  # came after `end` was read; or no node has written it
        if message.epoch != end.epoch or message.cleared:
            break
        if not message.items:
            continue
        if size < 0:
            if stored.time + message.ttl <= now:
                break
            size = message.size
        if message.last != end.offset - len(newest_first):
            break  # some between are gone
        numbered = [item.at(offset) for offset, item in enumerate(message.items, message.first)]
        newest_first += numbered[::-1]
        if len(newest_first) >= size:
            break
    return newest_first[: max(size, 0)][::-1]
