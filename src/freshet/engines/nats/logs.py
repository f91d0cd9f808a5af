"""The logs of the NATS engine: all in one stream, a subject for each channel.

A stream for each channel would cost the server some 70 KiB and open files. So a channel's offsets are in its messages,
and whoever appends says behind which message of that subject: if another node was quicker, JetStream refuses, and it is
done again behind that one's. What a node publishes in a channel meanwhile goes together in the next message.

A node that remembers a higher offset than the log holds has seen JetStream forget: it begins a new epoch.
"""

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import NamedTuple

from freshet.engines.base import new_epoch
from freshet.engines.nats.access import Where
from freshet.engines.nats.link import Link
from freshet.engines.nats.messages import Entry, Foreign, Item, Names, decode, encode, token
from freshet.engines.nats.streams import REPEATS, Stored
from freshet.engines.nats.streams import Stream as Place
from freshet.errors import EngineUnavailable
from freshet.model.log import NOWHERE, History, Position, Publication, Stream
from freshet.runtime.clock import Clock

log = logging.getLogger("freshet")

LONGER = 86_400  # seconds for which a log's place outlives its publications
TAILS = 10_000  # channels whose last place is remembered
TOGETHER = 100  # publications in one message
TOGETHER_BYTES = 64 * 1024
WAITING_BYTES = 64 * 1024 * 1024  # of publications


class _Tail(NamedTuple):
    """The last of a log. seq: the place of that message in the stream."""

    epoch: str
    offset: int
    seq: int


class _Waiting(NamedTuple):
    item: Item
    keep: History
    key: str | None
    answer: asyncio.Future[Position]


class Logs:
    """The methods do what those of `Engine` promise; those that wait have the time of one request together."""

    def __init__(self, link: Link, where: Where, clock: Clock) -> None:
        self._link = link
        self._names = Names(where.prefix)
        self._clock = clock
        form = {
            "subjects": [self._names.all("log")],
            "republish": {"src": self._names.all("log"), "dest": self._names.all("flow")},
            "storage": where.storage,
            "num_replicas": where.replicas,
            "duplicate_window": REPEATS,
        }
        self.place = Place(link, f"{where.prefix}-log", 2.0 * LONGER, form)
        self._tails: OrderedDict[str, _Tail] = OrderedDict()  # by channel, the last used at the end
        self._waiting: dict[str, deque[_Waiting]] = {}  # by channel
        self._waiting_bytes = 0
        self._appending: set[asyncio.Task[None]] = set()

    async def stop(self) -> None:
        for task in self._appending:
            task.cancel()
        await asyncio.gather(*self._appending, return_exceptions=True)
        self._tails.clear()

    def hear(self, channel: str, entry: Entry, seq: int) -> None:
        """JetStream has stored this."""
        self._remember(channel, _Tail(entry.epoch, entry.last, seq))

    # -------------------------------------------------------------------------------------------------------- reading

    async def history(self, channel: str, keep: History, since: Position | None, limit: int, reverse: bool) -> Stream:
        async with self._link.in_time():
            await self.place.keep_for(keep.ttl + LONGER)
            while (tail := await self._tail(channel)) is None:
                await self._mark(channel, _Tail(new_epoch(), 0, 0))
            position = Position(tail.epoch, tail.offset)
            if not limit or (since is not None and not reverse and since.offset >= tail.offset):
                return Stream([], position)
            now, found = await self.place.read(self._subject(channel), tail.seq)
        publications = kept(found, position, tail.seq, now)
        if since is not None:
            place = since.offset
            publications = [it for it in publications if (it.offset < place if reverse else it.offset > place)]
        if reverse:
            publications.reverse()
        return Stream(publications if limit < 0 else publications[:limit], position)

    async def remove(self, channel: str) -> None:
        async with self._link.in_time():
            while (tail := await self._tail(channel)) is not None:
                if await self._mark(channel, tail, cleared=True):
                    self.place.trim(self._subject(channel), keep=1)
                    return

    async def _tail(self, channel: str) -> _Tail | None:
        """The end of a log as the stream has it; None when there is none."""
        while (found := await self.place.last(self._subject(channel))) is not None:
            entry = _entry(found)
            if entry is None:  # a stranger's: what is behind it has no place
                await self._mark(channel, _Tail(new_epoch(), 0, found.seq))
                continue
            tail, remembered = _Tail(entry.epoch, entry.last, found.seq), self._tails.get(channel)
            if _is_further(remembered, tail):
                log.warning("JetStream has forgotten some of %r: its log begins anew", channel)
                del self._tails[channel]
                await self._mark(channel, _Tail(new_epoch(), tail.offset, tail.seq))
            elif found.time < self._clock.wall() - self.place.ages / 2:  # so that it does not end while it is used
                await self._mark(channel, tail)
            else:
                self._remember(channel, tail)
                return tail
        self._tails.pop(channel, None)
        return None

    async def _mark(self, channel: str, tail: _Tail, cleared: bool = False) -> bool:
        """Append that the log stands there, without a publication. Whether nobody else was quicker."""
        mark = Entry(tail.epoch, tail.offset, [], 0, 0.0, cleared)
        return await self.place.append(self._subject(channel), encode(mark), tail.seq) is not None

    def _remember(self, channel: str, tail: _Tail) -> None:
        """What is heard late, or after JetStream has forgotten, does not make us forget how far it was."""
        if _is_further(self._tails.get(channel), tail):
            return
        self._tails[channel] = tail
        self._tails.move_to_end(channel)
        if len(self._tails) > TAILS:
            self._tails.popitem(last=False)

    # ------------------------------------------------------------------------------------------------------ appending

    async def append(self, channel: str, item: Item, keep: History, key: str | None) -> Position:
        """Into the log, with all that this node publishes there at the same time."""
        size = len(item.data)
        if self._waiting_bytes and self._waiting_bytes + size > WAITING_BYTES:
            raise EngineUnavailable("NATS does not keep up: too many publications wait")
        answer: asyncio.Future[Position] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.get(channel)
        if waiting is None:
            waiting = self._waiting[channel] = deque()
            task = asyncio.get_running_loop().create_task(self._append_all(channel, waiting))
            self._appending.add(task)
            task.add_done_callback(self._appending.discard)
        waiting.append(_Waiting(item, keep, key, answer))
        self._waiting_bytes += size
        try:
            return await answer
        finally:
            self._waiting_bytes -= size

    async def _append_all(self, channel: str, waiting: deque[_Waiting]) -> None:
        """One message after the other: the next says behind which it comes. If one fails, those that wait do too."""
        error: BaseException = EngineUnavailable("the engine was stopped")
        batch: list[_Waiting] = []
        try:
            while waiting:
                batch = _together(waiting)
                async with self._link.in_time():
                    position = await self._append(channel, batch)
                for index, each in enumerate(batch):
                    if not each.answer.done():
                        each.answer.set_result(Position(position.epoch, position.offset + index))
        except EngineUnavailable as why:
            error = why
        finally:
            del self._waiting[channel]
            for each in (*batch, *waiting):
                if not each.answer.done():
                    each.answer.set_exception(error)

    async def _append(self, channel: str, batch: list[_Waiting]) -> Position:
        """One message. The answer is the position of the first."""
        keep, key, subject = batch[-1].keep, batch[0].key, self._subject(channel)
        items = [each.item for each in batch]
        message_id = message_id_of(channel, key) if key is not None else None
        await self.place.keep_for(keep.ttl + LONGER)
        tail = self._tails.get(channel)
        while True:
            epoch, offset, seq = tail or _Tail(new_epoch(), 0, 0)
            entry = Entry(epoch, offset + 1, items, keep.size, keep.ttl)
            done = await self.place.append(subject, encode(entry), seq, message_id)
            if done is not None:
                break
            tail = await self._tail(channel)  # another node was quicker, or what we remember is gone
        if done.duplicate:
            first = await self.place.at(done.seq)
            before = _entry(first) if first is not None else None
            return Position(before.epoch, before.first) if before is not None else NOWHERE  # the log has let go of it
        self._remember(channel, _Tail(epoch, entry.last, done.seq))
        step = max(8, keep.size // 4)
        if entry.last > keep.size and offset // step != entry.last // step:
            self.place.trim(subject, keep.size + 2)  # and two marks
        return Position(epoch, entry.first)

    def _subject(self, channel: str) -> str:
        return self._names.channel("log", channel)


def message_id_of(channel: str, key: str) -> str:
    """By which JetStream knows a publication again."""
    return f"{token(channel)}.{token(key)}"


def _is_further(remembered: _Tail | None, tail: _Tail) -> bool:
    return remembered is not None and remembered.epoch == tail.epoch and remembered.offset > tail.offset


def _together(waiting: deque[_Waiting]) -> list[_Waiting]:
    """The next that go together: what has a key is alone, as JetStream knows keys by message."""
    batch = [waiting.popleft()]
    size = len(batch[0].item.data)
    while batch[0].key is None and waiting and waiting[0].key is None and len(batch) < TOGETHER:
        size += len(waiting[0].item.data)
        if size > TOGETHER_BYTES:
            break
        batch.append(waiting.popleft())
    return batch


def _entry(found: Stored) -> Entry | None:
    """What a message of a log says; None when it is a stranger's."""
    try:
        said = decode(found.data)
    except Foreign:
        return None
    return said if isinstance(said, Entry) else None


def kept(found: Sequence[Stored], end: Position, seq: int, now: float) -> list[Publication]:
    """The publications that a log holds, the oldest first: without a gap up to `end`, which is the message `seq`.

    By size and time, these are those that the newest asked for. now: seconds since 1970, by the server's clock.
    """
    newest_first: list[Publication] = []
    size = -1
    for stored in reversed(found):
        entry = _entry(stored)
        if stored.seq > seq or entry is None:
            continue  # came after `end` was read; or is a stranger's
        if entry.epoch != end.epoch or entry.cleared:
            break
        if not entry.items:
            continue
        if size < 0:
            if stored.time + entry.ttl <= now:
                break
            size = entry.size
        if entry.last != end.offset - len(newest_first):
            break  # some between are gone
        numbered = [item.publication(offset) for offset, item in enumerate(entry.items, entry.first)]
        newest_first += numbered[::-1]
        if len(newest_first) >= size:
            break
    return newest_first[: max(size, 0)][::-1]
