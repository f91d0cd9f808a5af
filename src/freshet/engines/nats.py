"""The engine of many machines over NATS: logs in JetStream, spread by core NATS.

All logs are in one stream, a subject for each: a stream for each channel would cost the server some 70 KiB and open
files. So a channel's offsets are in its messages, and whoever appends says behind which message of that subject: if
another node was quicker, JetStream refuses, and it is done again behind that one's. JetStream republishes what it has
stored, in its order, to those who listen.

    {prefix}.log.{channel}      stream {prefix}-log: what was published together, with epoch and offset; and marks
    {prefix}.once.{channel}     stream {prefix}-once: what has an idempotency key, and no log to be in
    $KV.{prefix}-presence.{channel}.{client}    presence
    {prefix}.flow.{channel}     core: what listening nodes hear
    {prefix}.node.{id}, {prefix}.nodes          core: messages between nodes

A node that remembers a higher offset than the log holds has seen JetStream forget: it begins a new epoch.
"""

import asyncio
import logging
import secrets
from collections import OrderedDict, deque
from collections.abc import Awaitable
from contextlib import suppress
from typing import NamedTuple, TypeVar

from freshet.clock import SYSTEM, Clock, Timer
from freshet.engines.base import Engine, Receiver
from freshet.engines.info import Info
from freshet.engines.nats_access import SCHEMES, parse
from freshet.engines.nats_form import Came, Control, Entry, Foreign, Item, Said, Went, decode, encode, kept, token
from freshet.engines.nats_line import Message
from freshet.engines.nats_link import Link
from freshet.engines.nats_streams import Stored
from freshet.engines.nats_streams import Stream as Place
from freshet.errors import EngineUnavailable
from freshet.model import (
    NOWHERE,
    ClientInfo,
    History,
    Joined,
    Left,
    Position,
    Published,
    PublishOptions,
    Stream,
)

__all__ = ["SCHEMES", "NatsEngine"]

log = logging.getLogger("freshet")

IDEMPOTENCY_TIME = 300  # seconds
LONGER = 86_400  # seconds for which a log's place outlives its publications
TAILS = 10_000  # channels whose last place is remembered
TOGETHER = 100  # publications in one message
TOGETHER_BYTES = 64 * 1024
WAITING_BYTES = 64 * 1024 * 1024  # of publications
SWEEP = 1.0  # seconds between looks for clients whose time is over
SWEPT = 50  # channels that are looked at in one sweep
NANOSECONDS = 1_000_000_000


T = TypeVar("T")


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


class NatsEngine(Engine):
    """url: see `nats_access.parse`. presence_time: seconds for which a client that was set counts as there.

    ignored: how many messages came that nobody who speaks our form has sent. Raises ConfigError for an URL that cannot
    be.
    """

    def __init__(self, url: str, presence_time: float = 60.0, clock: Clock = SYSTEM) -> None:
        self._where = where = parse(url)
        self._presence_time = presence_time
        self._clock = clock
        self._node = ""
        self._receiver: Receiver | None = None
        self._link = link = Link(where, self._hear, self._back)
        common = {"retention": "limits", "discard": "old", "num_replicas": where.replicas}
        twice = {"duplicate_window": IDEMPOTENCY_TIME * NANOSECONDS}
        flow = f"{where.prefix}.flow.>"
        self._logs = Place(
            link,
            f"{where.prefix}-log",
            2.0 * LONGER,
            common
            | twice
            | {"subjects": [f"{where.prefix}.log.>"], "storage": where.storage, "allow_direct": True}
            | {"republish": {"src": f"{where.prefix}.log.>", "dest": flow}},
        )
        self._once = Place(
            link,
            f"{where.prefix}-once",
            IDEMPOTENCY_TIME,
            common
            | twice
            | {"subjects": [f"{where.prefix}.once.>"], "storage": "memory", "max_msgs_per_subject": 1}
            | {"republish": {"src": f"{where.prefix}.once.>", "dest": flow}},
        )
        self._bucket = f"$KV.{where.prefix}-presence"
        self._present = Place(
            link,
            f"KV_{where.prefix}-presence",
            max(120.0, 3 * presence_time),
            common
            | {"subjects": [f"{self._bucket}.>"], "storage": "memory", "max_msgs_per_subject": 1}
            | {"allow_rollup_hdrs": True, "allow_direct": True},
        )
        self._listening: dict[str, str] = {}  # channels, by the subject of their flow
        self._tails: OrderedDict[str, _Tail] = OrderedDict()  # by channel, the last used at the end
        self._waiting: dict[str, deque[_Waiting]] = {}  # by channel
        self._waiting_bytes = 0
        self._appending: set[asyncio.Task[None]] = set()
        self._set: dict[tuple[str, str], int] = {}  # where this node's clients are in the bucket
        self._presence_due: OrderedDict[str, float] = OrderedDict()
        self._timer: Timer | None = None
        self._sweeping: asyncio.Task[None] | None = None
        self.ignored = 0

    async def start(self, node: str, receiver: Receiver) -> None:
        self._node = node
        self._receiver = receiver
        await self._link.open()
        try:
            await self._link.listen([self._node_subject(node), self._node_subject(None)])
            with suppress(EngineUnavailable):  # whoever needs them tries again; channels without history do not
                for place in (self._logs, self._once, self._present):
                    await self._in_time(place.make())
        except BaseException:
            await self.stop()
            raise
        self._timer = self._clock.call_later(SWEEP, self._tick)

    async def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        tasks = [*self._appending, *([self._sweeping] if self._sweeping is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._sweeping = None
        await self._link.close()
        for known in (self._listening, self._tails, self._set, self._presence_due):
            known.clear()

    # --------------------------------------------------------------------------------------------------- the channels

    async def subscribe(self, channel: str, keep: History | None) -> Position:
        subject = self._flow(channel)
        new = subject not in self._listening
        self._listening[subject] = channel
        try:
            await self._link.listen([subject])
            return (await self.history(channel, keep, limit=0)).position if keep is not None else NOWHERE
        except BaseException:
            if new:
                await self.unsubscribe(channel)
            raise

    async def unsubscribe(self, channel: str) -> None:
        self._presence_due.pop(channel, None)
        if self._listening.pop(self._flow(channel), None) is not None:
            self._link.ignore([self._flow(channel)])

    async def publish(self, channel: str, data: bytes, options: PublishOptions) -> Position:
        info = Info.of(options.info) if options.info is not None else None
        item, keep, key = Item(options.kind, data, options.tags, info), options.history, options.idempotency_key
        if keep is not None:
            return await self._append(channel, item, keep, key)
        if key is not None:
            subject = f"{self._where.prefix}.once.{token(channel)}"
            await self._in_time(self._once.append(subject, encode(Said(item)), key=self._key(channel, key)))
        else:
            await self._link.tell(self._flow(channel), encode(Said(item)))
        return NOWHERE

    async def history(
        self, channel: str, keep: History, since: Position | None = None, limit: int = -1, reverse: bool = False
    ) -> Stream:
        return await self._in_time(self._history(channel, keep, since, limit, reverse))

    async def _history(self, channel: str, keep: History, since: Position | None, limit: int, reverse: bool) -> Stream:
        await self._logs.keep_for(keep.ttl + LONGER)
        tail = await self._known(channel)
        position = Position(tail.epoch, tail.offset)
        if not limit or (since is not None and not reverse and since.offset >= tail.offset):
            return Stream([], position)
        now, found = await self._logs.read(self._log(channel), tail.seq)
        publications = kept(found, position, tail.seq, now)
        if since is not None:
            place = since.offset
            publications = [it for it in publications if (it.offset < place if reverse else it.offset > place)]
        if reverse:
            publications.reverse()
        return Stream(publications if limit < 0 else publications[:limit], position)

    async def remove_history(self, channel: str) -> None:
        await self._in_time(self._remove(channel))

    async def _remove(self, channel: str) -> None:
        while (tail := await self._tail(channel)) is not None:
            if await self._mark(channel, tail, tail.epoch, cleared=True):
                self._logs.trim(self._log(channel), keep=1)
                return

    # ------------------------------------------------------------------------------------------------------- the logs

    async def _append(self, channel: str, item: Item, keep: History, key: str | None) -> Position:
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
        failed: list[_Waiting] = []
        try:
            while waiting:
                failed = batch = self._batch(waiting)
                position = await self._in_time(self._append_batch(channel, batch))
                failed = []
                for index, each in enumerate(batch):
                    if not each.answer.done():
                        each.answer.set_result(Position(position.epoch, position.offset + index))
        except EngineUnavailable as why:
            error = why
        finally:
            del self._waiting[channel]
            for each in (*failed, *waiting):
                if not each.answer.done():
                    each.answer.set_exception(error)

    def _batch(self, waiting: deque[_Waiting]) -> list[_Waiting]:
        """The next that go together: what has a key is alone, as JetStream knows keys by message."""
        batch = [waiting.popleft()]
        size = len(batch[0].item.data)
        while batch[0].key is None and waiting and waiting[0].key is None and len(batch) < TOGETHER:
            size += len(waiting[0].item.data)
            if size > TOGETHER_BYTES:
                break
            batch.append(waiting.popleft())
        return batch

    async def _append_batch(self, channel: str, batch: list[_Waiting]) -> Position:
        """The position of the first."""
        keep, key, subject = batch[-1].keep, batch[0].key, self._log(channel)
        await self._logs.keep_for(keep.ttl + LONGER)
        items = [each.item for each in batch]
        tail = self._tails.get(channel)
        while True:
            epoch, offset, seq = tail or _Tail(_new_epoch(), 0, 0)
            entry = Entry(epoch, offset + 1, items, keep.size, keep.ttl)
            message_id = self._key(channel, key) if key is not None else None
            done = await self._logs.append(subject, encode(entry), seq, message_id)
            if done is None:  # another node was quicker, or what we remember is gone
                tail = await self._tail(channel)
            elif done.duplicate:
                return await self._first_of(done.seq)
            else:
                break
        last = offset + len(items)
        self._remember(channel, _Tail(epoch, last, done.seq))
        step = max(8, keep.size // 4)
        if last > keep.size and offset // step != last // step:
            self._logs.trim(subject, keep.size + 2)  # and two marks
        return Position(epoch, offset + 1)

    async def _first_of(self, seq: int) -> Position:
        """The position of what was stored there; NOWHERE when the log has let go of it."""
        found = await self._logs.at(seq)
        entry = _entry(found) if found is not None else None
        return Position(entry.epoch, entry.first) if entry is not None else NOWHERE

    async def _tail(self, channel: str) -> _Tail | None:
        """The end of a log as the stream has it; None when there is none."""
        while True:
            remembered = self._tails.get(channel)
            found = await self._logs.last(self._log(channel))
            entry = _entry(found) if found is not None else None
            if found is None or entry is None:
                self._tails.pop(channel, None)
                return None
            tail = _Tail(entry.epoch, entry.last, found.seq)
            if remembered is None or remembered.epoch != tail.epoch or remembered.offset <= tail.offset:
                if found.time < self._clock.wall() - self._logs.ages / 2:  # so that it does not end while it is used
                    await self._mark(channel, tail, tail.epoch)
                    continue
                self._remember(channel, tail)
                return tail
            log.warning("JetStream has forgotten some of %r: its log begins anew", channel)
            self._tails.pop(channel, None)
            await self._mark(channel, tail, _new_epoch())

    async def _known(self, channel: str) -> _Tail:
        """The end of a log, which is begun when there is none."""
        while True:
            if (tail := await self._tail(channel)) is not None:
                return tail
            await self._mark(channel, _Tail("", 0, 0), _new_epoch())

    async def _mark(self, channel: str, tail: _Tail, epoch: str, cleared: bool = False) -> bool:
        """Append that the log stands there, without a publication. Whether nobody else was quicker."""
        mark = Entry(epoch, tail.offset, [], 0, 0.0, cleared)
        return await self._logs.append(self._log(channel), encode(mark), tail.seq) is not None

    def _remember(self, channel: str, tail: _Tail) -> None:
        self._tails[channel] = tail
        self._tails.move_to_end(channel)
        if len(self._tails) > TAILS:
            self._tails.popitem(last=False)

    # ------------------------------------------------------------------------------------------------------- presence

    async def presence(self, channel: str) -> dict[str, ClientInfo]:
        now, found = await self._in_time(self._present.read(self._everybody(channel)))
        self._somebody(channel)
        here = (_came(it) for it in found if it.time + self._presence_time > now)
        return {it.client: it.info.info() for it in here if it is not None}

    async def set_presence(self, channel: str, client: str, info: ClientInfo | None) -> None:
        change = self._leave(channel, client) if info is None else self._enter(channel, client, Info.of(info))
        await self._in_time(change)
        self._somebody(channel)

    async def _enter(self, channel: str, client: str, info: Info) -> None:
        subject, value = self._place(channel, client), encode(Came(client, info))
        known = self._set.get((channel, client), 0)
        done = await self._present.append(subject, value, known)
        if done is None and known:  # it ran out, or another node has it
            known = 0
            done = await self._present.append(subject, value, known)
        new = done is not None and not known
        if done is None:
            done = await self._present.append(subject, value)
        assert done is not None
        self._set[channel, client] = done.seq
        if new:
            await self._link.tell(self._flow(channel), value)

    async def _leave(self, channel: str, client: str) -> None:
        self._set.pop((channel, client), None)
        subject = self._place(channel, client)
        if (found := await self._present.last(subject)) is not None:
            await self._went(channel, found)

    async def _went(self, channel: str, found: Stored) -> None:
        """Of those who find out at the same time, the one whom JetStream lets remove it tells it."""
        came = _came(found)
        if await self._present.purge(found.subject, before=found.seq + 1) and came is not None:
            await self._link.tell(self._flow(channel), encode(Went(came.info)))

    def _somebody(self, channel: str) -> None:
        """Somebody may be there, who may go without a word: look in a while, as long as this node listens."""
        if self._flow(channel) in self._listening:
            self._presence_due[channel] = self._clock.monotonic() + self._presence_time + SWEEP
            self._presence_due.move_to_end(channel)

    def _tick(self) -> None:
        self._timer = self._clock.call_later(SWEEP, self._tick)
        if self._presence_due and (self._sweeping is None or self._sweeping.done()):
            self._sweeping = asyncio.get_running_loop().create_task(self._sweep())

    async def _sweep(self) -> None:
        """Look where nobody has said for the presence time that somebody is there; a few channels at a time."""
        now = self._clock.monotonic()
        due = [channel for channel, when in list(self._presence_due.items())[:SWEPT] if when <= now]
        with suppress(EngineUnavailable):  # the next sweep looks again
            for channel in due:
                server_time, found = await self._in_time(self._present.read(self._everybody(channel)))
                gone = [it for it in found if it.time + self._presence_time <= server_time]
                for it in gone:
                    await self._in_time(self._went(channel, it))
                if len(gone) == len(found):
                    self._presence_due.pop(channel, None)
                else:
                    self._somebody(channel)

    # ---------------------------------------------------------------------------------------------------------- nodes

    async def tell(self, node: str | None, message: bytes) -> None:
        await self._link.tell(self._node_subject(node), encode(Control(self._node, message)))

    # ------------------------------------------------------------------------------------------------- what NATS brings

    def _back(self) -> None:
        if self._receiver is not None:
            self._receiver.doubt("")

    def _hear(self, message: Message) -> None:
        """Something was published on a subject; what is not of our form is left out, and counted."""
        channel = self._listening.get(message.subject)
        try:
            said = decode(message.data)
            if self._receiver is None:
                return
            if channel is not None:
                self._hear_channel(self._receiver, channel, said, message)
            elif isinstance(said, Control) and said.sender != self._node:
                self._receiver.hear(said.message)
        except Foreign:
            self.ignored += 1
            if self.ignored == 1:
                log.warning("somebody else publishes on a subject of Freshet's in NATS; that is ignored")

    def _hear_channel(self, receiver: Receiver, channel: str, said: object, message: Message) -> None:
        if isinstance(said, Entry):
            seq = message.header(b"Nats-Sequence")
            if not seq.isdigit():
                raise Foreign
            self._remember(channel, _Tail(said.epoch, said.last, int(seq)))
            for offset, item in enumerate(said.items, said.first):
                receiver.deliver(Published(channel, item.publication(offset), said.epoch))
        elif isinstance(said, Said):
            receiver.deliver(Published(channel, said.item.publication(0)))
        elif isinstance(said, Came):
            self._somebody(channel)
            receiver.deliver(Joined(channel, said.info.info()))
        elif isinstance(said, Went):
            receiver.deliver(Left(channel, said.info.info()))
        else:
            raise Foreign

    # ---------------------------------------------------------------------------------------------------------- names

    def _flow(self, channel: str) -> str:
        return f"{self._where.prefix}.flow.{token(channel)}"

    def _log(self, channel: str) -> str:
        return f"{self._where.prefix}.log.{token(channel)}"

    def _node_subject(self, node: str | None) -> str:
        return f"{self._where.prefix}.nodes" if node is None else f"{self._where.prefix}.node.{token(node)}"

    def _everybody(self, channel: str) -> str:
        return f"{self._bucket}.{token(channel)}.*"

    def _place(self, channel: str, client: str) -> str:
        return f"{self._bucket}.{token(channel)}.{token(client)}"

    @staticmethod
    def _key(channel: str, key: str) -> str:
        return f"{token(channel)}.{token(key)}"

    async def _in_time(self, doing: Awaitable[T]) -> T:
        """What takes several requests has as much time as one."""
        try:
            async with asyncio.timeout(self._where.access.timeout):
                return await doing
        except TimeoutError:
            raise EngineUnavailable(f"NATS did not do it within {self._where.access.timeout:g} s") from None


def _new_epoch() -> str:
    return secrets.token_urlsafe(6)


def _entry(found: Stored) -> Entry | None:
    """What a message of a log says; None when it is of somebody else's."""
    with suppress(Foreign):
        said = decode(found.data)
        return said if isinstance(said, Entry) else None
    return None


def _came(found: Stored) -> Came | None:
    with suppress(Foreign):
        said = decode(found.data)
        return said if isinstance(said, Came) else None
    return None
