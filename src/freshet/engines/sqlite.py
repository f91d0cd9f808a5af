"""The engine of one host that must not forget: the memory engine, with its logs in an SQLite file.

What is published in one turn of the loop, and while the commit before runs, is one transaction. It is numbered and
written; when it is on the disk it is delivered and acknowledged. So nobody has seen what a crash could take back.
Presence is in memory alone, for after a restart nobody is there.
"""

import asyncio
import json
import logging
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from heapq import heappush
from typing import Any, NamedTuple, TypeVar

from msgspec import Raw

from freshet.engines.base import Receiver, check_position
from freshet.engines.memory import IDEMPOTENCY_TIME, Log, MemoryEngine
from freshet.errors import EngineUnavailable, FreshetError, PositionConflict
from freshet.model.log import ClientInfo, History, Kind, Position, Publication, PublishOptions
from freshet.runtime.clock import SYSTEM, Clock
from freshet.runtime.sqlite_file import SqliteForm, begin, check_same, inode_of, make, path_of
from freshet.runtime.tasks import Tasks

log = logging.getLogger("freshet.engines.sqlite")

BACKLOG = 20_000  # publications that wait for the disk
EXPIRY_INTERVAL = 30  # seconds between sweeps of the file
FORM = SqliteForm(
    application=0x46726573,  # "Fres"
    version=1,
    schema="""
CREATE TABLE logs (channel TEXT PRIMARY KEY, epoch TEXT, offset INTEGER, ttl REAL, until REAL, entries_until REAL);
CREATE TABLE entries (channel TEXT, offset INTEGER, kind TEXT, data BLOB, tags TEXT, info TEXT,
    PRIMARY KEY (channel, offset)) WITHOUT ROWID;
CREATE TABLE once (channel TEXT, key TEXT, epoch TEXT, offset INTEGER, until REAL,
    PRIMARY KEY (channel, key)) WITHOUT ROWID;
""",
)
ALL = ("SELECT * FROM logs", "SELECT * FROM entries ORDER BY channel, offset", "SELECT * FROM once ORDER BY until")
OF_ANOTHER_LOG = (  # a channel, twice, and the epoch of its log
    "DELETE FROM entries WHERE channel = ? AND NOT EXISTS (SELECT 1 FROM logs WHERE channel = ? AND epoch = ?)"
)
UP_TO = (  # a channel and an offset, the channel and the epoch of its log
    "DELETE FROM entries WHERE channel = ? AND offset <= ?"
    " AND EXISTS (SELECT 1 FROM logs WHERE channel = ? AND epoch = ?)"
)
IN_USE = (
    "INSERT INTO logs VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (channel) DO UPDATE SET until = excluded.until,"
    " offset = iif(epoch = excluded.epoch, offset, excluded.offset), epoch = excluded.epoch"
)

T = TypeVar("T")


class _Unwritten(NamedTuple):
    """A publication that is not on the disk yet."""

    channel: str
    data: bytes
    options: PublishOptions
    done: "asyncio.Future[Position]"


class _Numbered(NamedTuple):
    """A publication on its way to the disk. until: the log's, wall clock."""

    channel: str
    position: Position
    publication: Publication
    keep: History
    key: str | None
    until: float


class SqliteEngine(MemoryEngine):
    """url: `sqlite:///` and a path. Raises ConfigError for another."""

    forgets = False

    def __init__(self, url: str, presence_time: float = 60.0, clock: Clock = SYSTEM, log_memory: int = 0) -> None:
        super().__init__(presence_time, clock, log_memory)
        self._path = path_of(url, "engine", "freshet.db")
        self._wall = clock.wall
        self._backlog: list[_Unwritten] = []
        self._flushing: asyncio.Task[None] | None = None
        self._expiring: asyncio.Task[None] | None = None
        self._expired_at = 0.0
        self._evicted: dict[str, Position] = {}  # up to where publications had to give way, and are still in the file
        self._tasks = Tasks()
        self._disk: sqlite3.Connection | None = None
        self._inode = (0, 0)
        self._thread: ThreadPoolExecutor | None = None

    async def start(self, node: str, receiver: Receiver) -> None:
        self._thread = ThreadPoolExecutor(1, "freshet-sqlite")
        try:
            rows = await self._on_disk(self._open)
        except BaseException:
            self._thread.shutdown()
            raise
        self._load(*rows)
        self._expired_at = self._clock()
        await super().start(node, receiver)

    async def stop(self) -> None:
        if self._disk is None or self._thread is None:
            return
        for task in (self._flushing, self._expiring):  # what is under way is written
            if task is not None:
                await asyncio.wait([task])
        await self._expire()
        await self._tasks.stop()
        await self._on_disk(self._disk.close)
        self._thread.shutdown()
        self._disk = self._thread = None
        await super().stop()

    async def _on_disk(self, work: Callable[[], T]) -> T:
        """In the thread that has the file. Raises EngineUnavailable."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except sqlite3.Error as error:
            raise EngineUnavailable(f"{self._path}: {error}") from error

    # --------------------------------------------------------------------------------------------------- the file

    def _open(self) -> tuple[list[Any], list[Any], list[Any]]:
        """Open or make the file, and give all that still counts of it."""
        try:
            make(self._path)
        except OSError as error:
            raise EngineUnavailable(f"{self._path}: {error.strerror}") from error
        disk = sqlite3.connect(self._path, timeout=1.0, isolation_level=None, check_same_thread=False)
        try:
            disk.execute("PRAGMA locking_mode = EXCLUSIVE")
            disk.execute("PRAGMA journal_mode = WAL")
            disk.execute("PRAGMA synchronous = FULL")  # what is acknowledged survives a power cut, too
            disk.execute("BEGIN EXCLUSIVE")  # held until the end: another process would number the same logs
            if why := begin(disk, FORM):
                raise EngineUnavailable(f"{self._path} {why}")
            self._forget(disk)
            rows = tuple(disk.execute(question).fetchall() for question in ALL)
            disk.execute("COMMIT")
        except BaseException as error:
            disk.close()
            if "locked" in str(error):
                raise EngineUnavailable(
                    f"{self._path} is in use by another process: one file is for one node"
                ) from None
            raise
        self._disk, self._inode = disk, inode_of(self._path)
        return rows  # type: ignore[return-value]

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All that is done within, or nothing: whatever fails, the next one can begin."""
        disk = self._disk
        assert disk is not None
        check_same(self._path, self._inode)
        disk.execute("BEGIN")
        try:
            yield disk
            disk.execute("COMMIT")
        except BaseException:
            disk.rollback()
            raise

    def _forget(self, disk: sqlite3.Connection) -> None:
        """What is over, by the wall clock."""
        now = self._wall()
        disk.execute("DELETE FROM once WHERE until <= ?", (now,))
        disk.execute("DELETE FROM entries WHERE channel IN (SELECT channel FROM logs WHERE entries_until <= ?)", (now,))
        disk.execute("DELETE FROM entries WHERE channel NOT IN (SELECT channel FROM logs WHERE until > ?)", (now,))
        disk.execute("DELETE FROM logs WHERE until <= ?", (now,))

    def _load(self, logs: Iterable[Any], entries: Iterable[Any], once: Iterable[Any]) -> None:
        ahead = self._clock() - self._wall()
        for channel, epoch, offset, ttl, until, entries_until in logs:
            it = self._logs[channel] = self._new_log(channel, epoch=epoch, offset=offset)
            it.ttl, it.until, it.entries_until = ttl, until + ahead, entries_until + ahead
            heappush(self._expiry, (it.until, channel))
        for channel, offset, kind, data, tags, info in entries:
            publication = Publication(data, offset, Kind(kind), json.loads(tags) if tags else None, _info(info))
            self._logs[channel].append(publication, offset)
        for channel, key, epoch, offset, until in once:
            self._idempotency[channel, key] = (until + ahead, Position(epoch, offset))

    # ------------------------------------------------------------------------------------------------- publishing

    def publish_now(self, channel: str, data: bytes, options: PublishOptions) -> Position | None:
        return super().publish_now(channel, data, options) if options.history is None else None

    async def publish(self, channel: str, data: bytes, options: PublishOptions) -> Position:
        if options.history is None:
            return await super().publish(channel, data, options)
        if len(self._backlog) >= BACKLOG:
            raise EngineUnavailable(f"{BACKLOG} publications wait for the disk")
        done: asyncio.Future[Position] = asyncio.get_running_loop().create_future()
        self._backlog.append(_Unwritten(channel, data, options, done))
        if self._flushing is None:
            self._flushing = self._tasks.start(self._flush(), "sqlite: write")
        return await done

    async def _flush(self) -> None:
        """One transaction after the other, until nothing waits."""
        try:
            while self._backlog:
                waiting, self._backlog = self._backlog, []
                batch = self._number(waiting)
                try:
                    await self._on_disk(lambda batch=batch: self._commit([it for it, _ in batch]))  # type: ignore[misc]
                except EngineUnavailable as error:
                    for _, futures in batch:
                        _settle(futures, error)
                    continue
                for it, futures in batch:
                    self._apply(it)
                    _settle(futures, it.position)
        finally:
            self._flushing = None

    def _number(self, waiting: list[_Unwritten]) -> list[tuple[_Numbered, list["asyncio.Future[Position]"]]]:
        """Those with a known key are answered, or wait for the first that has it."""
        batch: list[tuple[_Numbered, list[asyncio.Future[Position]]]] = []
        tops: dict[str, int] = {}
        keys: dict[tuple[str, str], list[asyncio.Future[Position]]] = {}
        for channel, data, options, done in waiting:
            key, keep = options.idempotency_key, options.history
            assert keep is not None
            if key is not None:
                known = self._idempotency.get((channel, key))
                if known is not None and known[0] > self._clock():
                    _settle([done], known[1])
                    continue
                if (channel, key) in keys:
                    keys[channel, key].append(done)
                    continue
            it = self._log(channel, keep)
            try:
                check_position(options.after, Position(it.epoch, tops.get(channel, it.offset)))
            except PositionConflict as conflict:
                _settle([done], conflict)
                continue
            tops[channel] = top = tops.get(channel, it.offset) + 1
            futures = [done]
            if key is not None:
                keys[channel, key] = futures
            publication = Publication(data, top, options.kind, options.tags, options.info, options.stamp)
            until = self._wall() + keep.ttl
            batch.append((_Numbered(channel, Position(it.epoch, top), publication, keep, key, until), futures))
        return batch

    def _commit(self, batch: list[_Numbered]) -> None:
        rows = [_row(it.channel, it.publication) for it in batch]
        logs = {
            it.channel: (it.channel, *it.position, it.keep.ttl, it.until, it.until, it.position.offset - it.keep.size)
            for it in batch
        }
        with self._transaction() as disk:
            disk.executemany(OF_ANOTHER_LOG, [(it[0], it[0], it[1]) for it in logs.values()])
            disk.executemany("INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?, ?, ?)", rows)
            disk.executemany("INSERT OR REPLACE INTO logs VALUES (?, ?, ?, ?, ?, ?)", [it[:-1] for it in logs.values()])
            disk.executemany(
                "DELETE FROM entries WHERE channel = ? AND offset <= ?", [(it[0], it[-1]) for it in logs.values()]
            )
            until = self._wall() + IDEMPOTENCY_TIME
            once = [(it.channel, it.key, *it.position, until) for it in batch if it.key is not None]
            disk.executemany("INSERT OR REPLACE INTO once VALUES (?, ?, ?, ?, ?)", once)

    def _apply(self, it: _Numbered) -> None:
        """It is on the disk: now it counts, and is delivered."""
        held = self._log(it.channel, it.keep)
        held.epoch = it.position.epoch  # which a log that ran out meanwhile has lost
        held.offset = it.position.offset
        self._append(it.channel, held, it.publication, it.keep, it.key)

    async def remove_history(self, channel: str) -> None:
        if channel in self._logs and self._disk is not None:
            await self._on_disk(lambda: self._remove_entries(channel))
        await super().remove_history(channel)

    def _remove_entries(self, channel: str) -> None:
        with self._transaction() as disk:
            disk.execute("DELETE FROM entries WHERE channel = ?", (channel,))

    # ------------------------------------------------------------------------------------------------ how time goes

    def _tick(self) -> None:
        super()._tick()
        if self._clock() - self._expired_at >= EXPIRY_INTERVAL and (self._expiring is None or self._expiring.done()):
            self._expired_at = self._clock()
            self._expiring = self._tasks.start(self._expire(), "sqlite: expiry")

    def _evict(self, it: Log) -> None:
        self._evicted[it.channel] = it.position
        super()._evict(it)

    async def _expire(self) -> None:
        """Keep on the disk which logs are still in use, and forget there what is over or had to give way."""
        ahead = self._wall() - self._clock()
        rows: list[tuple[str, str, int, float, float, float]] = []
        for channel, it in self._logs.items():
            until = self._clock() + it.ttl if channel in self._subscribed else it.until
            rows.append((channel, it.epoch, it.offset, it.ttl, until + ahead, it.entries_until + ahead))
        evicted, self._evicted = self._evicted, {}

        def work() -> None:
            with self._transaction() as disk:
                disk.executemany(UP_TO, [(channel, it.offset, channel, it.epoch) for channel, it in evicted.items()])
                disk.executemany(OF_ANOTHER_LOG, [(row[0], row[0], row[1]) for row in rows])
                disk.executemany(IN_USE, rows)  # of the same log it may hold more than was known when this was asked
                self._forget(disk)

        try:
            await self._on_disk(work)
        except EngineUnavailable as error:
            self._evicted = {**evicted, **self._evicted}
            log.warning("sqlite: expired entries stay in the file, trying again in %d s: %s", EXPIRY_INTERVAL, error)


def _settle(futures: Iterable["asyncio.Future[Position]"], what: Position | FreshetError) -> None:
    for future in futures:
        if future.done():
            continue  # who asked is gone
        if isinstance(what, FreshetError):
            future.set_exception(what)
        else:
            future.set_result(what)


def _row(channel: str, it: Publication) -> tuple[str, int, str, bytes, str | None, str | None]:
    who = it.info
    tags = json.dumps(it.tags) if it.tags else None
    info = [who.user, who.client, bytes(who.conn_info).decode(), bytes(who.chan_info).decode()] if who else None
    return channel, it.offset, it.kind.value, it.data, tags, json.dumps(info) if info else None


def _info(text: str | None) -> ClientInfo | None:
    if text is None:
        return None
    user, client, conn_info, chan_info = json.loads(text)
    return ClientInfo(user, client, Raw(conn_info.encode()), Raw(chan_info.encode()))
