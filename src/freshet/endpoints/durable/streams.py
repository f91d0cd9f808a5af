"""What can be done with a stream, on any node alike.

Whoever finds that another has changed it meanwhile begins again. None has to be alive for the others to go on.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import msgspec

from freshet.endpoints.durable.logs import COMPACTED, Loaded, StreamLogs
from freshet.endpoints.durable.record import (
    BINARY,
    PRODUCER,
    SEQUENCE,
    Fork,
    StreamProducer,
    StreamRecord,
    Writers,
    judge,
)
from freshet.engines.base import new_epoch
from freshet.errors import EngineUnavailable, PositionConflict
from freshet.model.log import ClientInfo, History, Kind, Position, PublishOptions
from freshet.node.owners import Site

TRIES = 100  # at a log that others write to at the same time
FORKS = 1000  # of one stream, which remembers their names; and one of another, which remembers the ids of all
FILLING = 10.0  # seconds after which somebody else may create what one began to create


class Outcome(NamedTuple):
    """An answer of HTTP."""

    status: int
    headers: Mapping[str, str] = MappingProxyType({})
    text: str = ""


class StreamConfig(NamedTuple):
    """What a stream is created with. type: empty: as the source, or binary."""

    type: str = ""
    ttl: int | None = None
    expires_at: str = ""
    closed: bool = False
    fork: Fork | None = None


class Write(NamedTuple):
    """type: of the request, empty: none. close: behind `parts`, which may be none."""

    parts: Sequence[bytes]
    kind: Kind
    type: str
    seq: str | None = None
    producer: StreamProducer | None = None
    close: bool = False
    info: ClientInfo | None = None


MISSING = Outcome(404, text="No such stream.\n")
GONE = Outcome(410, text="The stream was deleted.\n")


def _kind(record: StreamRecord, data: bytes) -> Kind:
    if record.is_json:
        return Kind.JSON
    try:
        data.decode()
    except UnicodeDecodeError:
        return Kind.BYTES
    return Kind.TEXT if record.is_text else Kind.BYTES


class Streams:
    """What can be done with them."""

    def __init__(self, node: Site, logs: StreamLogs) -> None:
        self._node = node
        self._logs = logs

    def _now(self) -> float:
        return self._node.clock.wall()

    # ------------------------------------------------------------------------------------------------------- creating

    async def create(
        self, channel: str, keep: History, config: StreamConfig, write: Write, source: History | None
    ) -> Outcome:
        """source: the history of the channel that it is to be a fork of."""
        await self._logs.lock(channel)
        try:
            for _ in range(TRIES):
                loaded = await self._logs.load(channel, keep)
                if loaded.record is not None and (found := self._compare(loaded, config)) is not None:
                    return found
                try:
                    return await self._create(channel, keep, loaded, config, write, source)
                except PositionConflict:
                    continue
            raise EngineUnavailable(f"too many create the stream {channel!r} at once")
        finally:
            self._logs.unlock(channel)

    def _compare(self, loaded: Loaded, config: StreamConfig) -> Outcome | None:
        """The answer where there is such a stream already; None: what there is was never completed."""
        record = loaded.record
        assert record is not None
        if record.filling:
            busy = Outcome(503, {"Retry-After": "1"}, "The stream is being created.\n")
            return busy if self._now() < record.written + FILLING else None
        if record.deleted:
            return Outcome(409, text="The stream was deleted, and has forks.\n")
        wanted = config.type or (record.type if config.fork else BINARY)
        same = (
            wanted.partition(";")[0].strip() == record.media_type
            and config.closed == record.closed
            and config.fork == record.fork
            and (config.fork is not None or (config.ttl, config.expires_at) == (record.ttl, record.expires_at))
        )
        if not same:
            headers = {"Stream-Closed": "true"} if record.closed else {}
            return Outcome(409, headers, "There is a stream of that name with another configuration.\n")
        return Outcome(200, self.headers(record, loaded.end))

    async def _create(
        self, channel: str, keep: History, loaded: Loaded, config: StreamConfig, write: Write, source: History | None
    ) -> Outcome:
        now, tail = self._now(), loaded.tail
        record = StreamRecord(
            tail.epoch,
            tail.offset,
            [(new_epoch(), -1)],
            config.type or BINARY,
            ttl=config.ttl,
            expires_at=config.expires_at,
            touched=now,
            fork=config.fork,
            writers=Writers(tail.offset),
        )
        parts: list[bytes] = []
        if config.fork is not None:
            assert source is not None
            found = await self._inherit(channel, source, config, record)
            if isinstance(found, Outcome):
                return found
            record, parts = found
        parts += write.parts
        if len(parts) > keep.size:
            return Outcome(413, text="The channel's log does not keep as much: see its `history`.\n")
        if not parts:
            record = msgspec.structs.replace(record, final=0 if config.closed else -1)
            await self._logs.save(channel, keep, loaded, record)
            return Outcome(201, self.headers(record, 0))
        filling = msgspec.structs.replace(record, filling=True)
        at = await self._logs.save(channel, keep, loaded, filling)
        for data in parts:
            options = PublishOptions(kind=_kind(record, data), history=keep, info=write.info)
            await self._logs.append(channel, data, options)
        record = msgspec.structs.replace(record, final=len(parts) if config.closed else -1)
        await self._logs.save(channel, keep, loaded._replace(at=at), record)
        return Outcome(201, self.headers(record, len(parts)))

    async def _inherit(
        self, channel: str, keep: History, config: StreamConfig, record: StreamRecord
    ) -> Outcome | tuple[StreamRecord, list[bytes]]:
        """The beginning of another stream, and the record of its fork; the source remembers that it has one."""
        fork = config.fork
        assert fork is not None
        for _ in range(TRIES):
            loaded = await self._logs.load(fork.source, keep)
            source = loaded.record
            if source is None or source.filling:
                return MISSING
            if source.deleted:
                return Outcome(409, text="The source was deleted.\n")
            if config.type and config.type.partition(";")[0].strip() != source.media_type:
                return Outcome(409, text=f"The source has the type {source.type}.\n")
            position: int | None = loaded.end
            if fork.offset:
                position = 0 if fork.offset == "-1" else source.position(fork.offset)
            if position is None or position > loaded.end:
                return Outcome(400, text="Stream-Fork-Offset: not a position of the source.\n")
            if len(source.forks) >= FORKS and channel not in source.forks:
                return Outcome(409, text=f"The source has {FORKS} forks, which is all that it may have.\n")
            if len(source.lineage) > FORKS:
                return Outcome(409, text=f"The source is a fork of a fork, {FORKS} times, which is all that may be.\n")
            copied = await self._copy(fork, source, keep, position, loaded.end)
            if isinstance(copied, Outcome):
                return copied
            if channel not in source.forks:
                try:
                    changed = msgspec.structs.replace(source, forks=[*source.forks, channel])
                    await self._logs.save(fork.source, keep, loaded, changed)
                except PositionConflict:
                    continue
            kept = [(id, position if end < 0 else min(end, position)) for id, end in source.lineage]
            own = config.ttl is not None or config.expires_at
            return (
                msgspec.structs.replace(
                    record,
                    lineage=[*kept, *record.lineage],
                    type=source.type,
                    ttl=config.ttl if own else source.ttl,
                    expires_at=config.expires_at if own else source.expires_at,
                ),
                copied,
            )
        raise EngineUnavailable(f"too many write to the stream {fork.source!r} at once")

    async def _copy(
        self, fork: Fork, source: StreamRecord, keep: History, position: int, end: int
    ) -> Outcome | list[bytes]:
        """All of a stream before `position`, and what `fork.sub` says of what comes behind."""
        upto = position + (fork.sub if source.is_json else bool(fork.sub))
        if upto > end:
            return Outcome(400, text="Stream-Fork-Sub-Offset: beyond the end of the source.\n")
        since = Position(source.epoch, source.base)
        page = await self._node.engine.history(fork.source, keep, since, upto)
        parts = [each.data for each in page.publications]
        if len(parts) != upto or (parts and page.publications[0].offset != source.base + 1):
            return Outcome(410, text="The log does not keep the beginning of the source any more.\n")
        if fork.sub and not source.is_json:
            if fork.sub > len(parts[-1]):
                return Outcome(400, text="Stream-Fork-Sub-Offset: beyond the next message.\n")
            parts[-1] = parts[-1][: fork.sub]
        return parts

    # ------------------------------------------------------------------------------------------------------ appending

    async def write(self, channel: str, keep: History, it: Write) -> Outcome:
        """Append, close, or both."""
        await self._logs.lock(channel)
        try:
            for _ in range(TRIES):
                loaded = await self._logs.load(channel, keep)
                refused = self._why_not(loaded, it)
                if refused is not None:
                    return refused
                try:
                    return await self._write(channel, keep, loaded, it)
                except PositionConflict:
                    continue
            raise EngineUnavailable(f"too many write to the stream {channel!r} at once")
        finally:
            self._logs.unlock(channel)

    def _why_not(self, loaded: Loaded, it: Write) -> Outcome | None:
        record = loaded.record
        if record is None or record.filling:
            return MISSING
        if record.deleted:
            return GONE
        if record.closed:
            ask = it.producer
            again = ask is not None and record.closer == (ask.id, ask.epoch, ask.seq)
            headers = {**self.headers(record, record.final), "Stream-Closed": "true"}
            if again or (it.close and not it.parts and ask is None):
                if ask is not None:
                    headers |= {"Producer-Epoch": str(ask.epoch), "Producer-Seq": str(ask.seq)}
                return Outcome(204, headers)
            return Outcome(409, headers, "The stream is closed.\n")
        if it.parts and it.type.partition(";")[0].strip() != record.media_type:
            return Outcome(409, text=f"The stream has the type {record.type}.\n")
        return None

    async def _write(self, channel: str, keep: History, loaded: Loaded, it: Write) -> Outcome:
        record = loaded.record
        assert record is not None
        status, end = 204, loaded.end
        headers: Mapping[str, str] = {}
        if it.producer is not None or it.seq is not None:
            done = await self._write_in_order(channel, keep, loaded, it)
            if done.status >= 400:
                return done
            status, headers, end = done.status, done.headers, int(done.text or end)
        else:
            for data in it.parts:
                options = PublishOptions(kind=it.kind, history=keep, info=it.info)
                position = await self._logs.append(channel, data, options)
                end = position.offset - record.base
        if it.close:
            ask = it.producer
            return await self._close(channel, keep, end, headers, status, (ask.id, ask.epoch, ask.seq) if ask else None)
        if (it.parts and status != 204) or it.producer is None:
            after = await self._logs.load(channel, keep)  # it may have been closed meanwhile, before this
            if after.record is None or (after.record.closed and after.record.final < end):
                return self._why_not(after, it) or MISSING
            await self._logs.touch(channel, keep, after)
        return Outcome(status, {**headers, "Stream-Next-Offset": record.token(end)})

    async def _write_in_order(self, channel: str, keep: History, loaded: Loaded, it: Write) -> Outcome:
        """Messages that are to come once, or in an order. text: where the stream ends then.

        Raises `PositionConflict` when another wrote at the same time: what was written of it is found again.
        """
        record, ask = loaded.record, it.producer
        assert record is not None
        writers = await self._logs.read_writers(channel, keep, loaded)
        skip, headers, seq = 0, {}, it.seq
        if ask is not None:
            verdict = judge(writers.producers.get(ask.id), ask, len(it.parts))
            if verdict.status:
                return Outcome(verdict.status, dict(verdict.headers), "")
            skip, headers = verdict.skip, {"Producer-Epoch": str(ask.epoch), "Producer-Seq": str(ask.seq)}
        if seq is not None and not skip and writers.seq is not None and seq.encode() <= writers.seq.encode():
            return Outcome(409, text=f"Stream-Seq: expected more than {writers.seq!r}.\n")
        after = Position(loaded.tail.epoch, writers.at)
        for index, data in enumerate(it.parts[skip:], skip + 1):
            tags = {SEQUENCE: seq} if seq is not None else {}
            if ask is not None:
                tags[PRODUCER] = ask._replace(left=len(it.parts) - index).tag
            options = PublishOptions(kind=it.kind, history=keep, info=it.info, tags=tags, after=after)
            after = await self._logs.append(channel, data, options)
        if it.parts and after.offset >= record.writers.at + min(COMPACTED, max(1, keep.size // 2)):
            await self._logs.compact(channel, keep, loaded)
        return Outcome(200 if ask is not None and it.parts else 204, headers, str(after.offset - record.base))

    async def _close(
        self,
        channel: str,
        keep: History,
        end: int,
        headers: Mapping[str, str],
        status: int,
        closer: tuple[str, int, int] | None,
    ) -> Outcome:
        for _ in range(TRIES):
            loaded = await self._logs.load(channel, keep)
            record = loaded.record
            if record is None or record.deleted:
                return MISSING
            if not record.closed:
                record = msgspec.structs.replace(record, final=max(end, loaded.end), closer=closer, touched=self._now())
                try:
                    await self._logs.save(channel, keep, loaded, record)
                except PositionConflict:
                    continue
                await self._logs.notify(channel)
            return Outcome(status, {**headers, **self.headers(record, record.final), "Stream-Closed": "true"})
        raise EngineUnavailable(f"too many write to the stream {channel!r} at once")

    # ------------------------------------------------------------------------------------------------------- deleting

    async def delete(self, channel: str, keep: History) -> Outcome:
        await self._logs.lock(channel)
        try:
            for _ in range(TRIES):
                loaded = await self._logs.load(channel, keep)
                record = loaded.record
                if record is None:
                    return MISSING
                if record.deleted:
                    return GONE
                try:
                    await self._delete(channel, keep, loaded, record)
                except PositionConflict:
                    continue
                break
        finally:
            self._logs.unlock(channel)
        await self._logs.notify(channel)
        return Outcome(204)

    async def _delete(self, channel: str, keep: History, loaded: Loaded, record: StreamRecord) -> None:
        """With it go the sources that were there for it alone, one by one: a fork may be one of a fork, of many."""
        if record.forks:
            await self._logs.save(channel, keep, loaded, msgspec.structs.replace(record, deleted=True))
            return
        await self._end(channel, keep, loaded, record)
        while record.fork is not None:
            source = record.fork.source
            ended = await self._release(source, channel)
            if ended is None:
                return
            channel, record = source, ended

    async def _end(self, channel: str, keep: History, loaded: Loaded, record: StreamRecord) -> None:
        await self._logs.save(channel, keep, loaded, msgspec.structs.replace(record, gone=True, writers=Writers()))
        await self._node.engine.remove_history(channel)

    async def _release(self, source: str, fork: str) -> StreamRecord | None:
        """A fork of `source` is no more. The answer is what the source was, if it was only there for that and ended."""
        keep = self._node.rules.find(source)[0].history
        if keep is None:
            return None
        for _ in range(TRIES):
            loaded = await self._logs.load(source, keep)
            record = loaded.record
            if record is None or fork not in record.forks:
                return None
            record = msgspec.structs.replace(record, forks=[each for each in record.forks if each != fork])
            try:
                if record.deleted and not record.forks:
                    await self._end(source, keep, loaded, record)
                    return record
                await self._logs.save(source, keep, loaded, record)
            except PositionConflict:
                continue
            return None
        return None

    # ---------------------------------------------------------------------------------------------------------- parts

    @staticmethod
    def headers(record: StreamRecord, position: int) -> dict[str, str]:
        headers = {"Content-Type": record.type, "Stream-Next-Offset": record.token(position)}
        if record.closed:
            headers["Stream-Closed"] = "true"
        return headers
