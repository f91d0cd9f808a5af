"""The store of one host: an SQLite file, which the workers of the host may share.

What is asked in one turn of the loop, and while the transaction before runs, is one transaction with a savepoint for
each: rooms that write at the same time wait for the disk once. What is acknowledged survives a power cut.
"""

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar, cast

from freshet.errors import StaleOwner, StoreUnavailable
from freshet.runtime.clock import SYSTEM, Clock
from freshet.runtime.sqlite_file import SqliteForm, begin, check_same, inode_of, make, path_of
from freshet.runtime.tasks import Tasks
from freshet.stores.base import BACKLOG, KEEP, REPLY_TIME, Change, Due, Store, behind

log = logging.getLogger("freshet.stores.sqlite")

LOCK_TIMEOUT = 5.0  # seconds that another process may have the file
BATCH = 500  # requests in one transaction, so that none waits for all of a storm
EXPIRY_INTERVAL = 30.0  # seconds between sweeps of remembered replies
FORM = SqliteForm(
    application=0x4672526D,  # "FrRm"
    version=1,
    schema="""
CREATE TABLE rooms (room TEXT PRIMARY KEY, fence INTEGER NOT NULL, alarm REAL) WITHOUT ROWID;
CREATE INDEX alarms ON rooms (alarm) WHERE alarm IS NOT NULL;
CREATE TABLE entries (room TEXT, key TEXT, value BLOB NOT NULL, PRIMARY KEY (room, key)) WITHOUT ROWID;
CREATE TABLE replies (room TEXT, request TEXT, reply BLOB NOT NULL, until REAL NOT NULL,
    PRIMARY KEY (room, request)) WITHOUT ROWID;
CREATE INDEX replies_until ON replies (until);
""",
)

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], Any]


class _Waiting(NamedTuple):
    """Work that waits for the disk. writes: it changes something."""

    work: Work
    writes: bool
    done: "asyncio.Future[Any]"


class SqliteStore(Store):
    """url: `sqlite:///` and a path. Raises ConfigError for another."""

    reach = "host"

    def __init__(self, url: str, clock: Clock = SYSTEM) -> None:
        self._path = path_of(url, "rooms.store", "rooms.db")
        self._wall = clock.wall
        self._backlog: list[_Waiting] = []
        self._flushing: asyncio.Task[None] | None = None
        self._tasks = Tasks()
        self._disk: sqlite3.Connection | None = None
        self._inode = (0, 0)
        self._thread: ThreadPoolExecutor | None = None
        self._expired_at = 0.0

    async def start(self) -> None:
        self._thread = ThreadPoolExecutor(1, "freshet-store")
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._open)
        except BaseException as error:
            self._thread.shutdown()
            if isinstance(error, sqlite3.Error | OSError):
                raise StoreUnavailable(f"{self._path}: {error}") from error
            raise

    async def stop(self) -> None:
        if self._disk is None or self._thread is None:
            return
        if self._flushing is not None:
            await asyncio.wait([self._flushing])
        await self._tasks.stop()
        await asyncio.get_running_loop().run_in_executor(self._thread, self._disk.close)
        self._thread.shutdown()
        self._disk = self._thread = None

    def _open(self) -> None:
        make(self._path)
        disk = sqlite3.connect(self._path, timeout=LOCK_TIMEOUT, isolation_level=None, check_same_thread=False)
        try:
            _use_wal(disk)
            disk.execute("PRAGMA synchronous = FULL")  # what is acknowledged survives a power cut, too
            disk.execute("BEGIN IMMEDIATE")
            if why := begin(disk, FORM):
                raise StoreUnavailable(f"{self._path} {why}: see rooms.store")
            disk.execute("COMMIT")
        except BaseException:
            disk.close()
            raise
        self._disk, self._inode = disk, inode_of(self._path)

    # ------------------------------------------------------------------------------------------------ transactions

    async def _do(self, work: Callable[[sqlite3.Connection], T], *, writes: bool = False) -> T:
        if self._disk is None:
            raise StoreUnavailable("the store does not run")
        if len(self._backlog) >= BACKLOG:
            raise StoreUnavailable(f"{BACKLOG} requests wait for the disk")
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._backlog.append(_Waiting(work, writes, done))
        if self._flushing is None:
            self._flushing = self._tasks.start(self._flush(), "rooms: store")
        return cast(T, await done)

    async def _flush(self) -> None:
        """One transaction after the other, until nothing waits."""
        loop = asyncio.get_running_loop()
        try:
            while self._backlog:
                waiting, self._backlog = self._backlog[:BATCH], self._backlog[BATCH:]
                try:
                    results = await loop.run_in_executor(self._thread, self._transaction, waiting)
                except sqlite3.Error as error:
                    results = [StoreUnavailable(f"{self._path}: {error}")] * len(waiting)
                _settle(waiting, results)
        finally:
            self._flushing = None

    def _transaction(self, waiting: list[_Waiting]) -> list[Any]:
        """What each piece of work gives or raises; the work that raises changes nothing. Raises for all of them."""
        disk = self._disk
        assert disk is not None
        check_same(self._path, self._inode)
        writes = any(it.writes for it in waiting)
        disk.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
        try:
            results = [_attempt(disk, it) for it in waiting]
            if writes:
                self._expire(disk)
            disk.execute("COMMIT")
        except BaseException:
            disk.rollback()
            raise
        return results

    def _expire(self, disk: sqlite3.Connection) -> None:
        now = self._wall()
        if abs(now - self._expired_at) >= EXPIRY_INTERVAL:
            self._expired_at = now
            disk.execute("DELETE FROM replies WHERE until <= ?", (now,))

    # -------------------------------------------------------------------------------------------------------- writes

    async def claim(self, room: str, fence: int) -> int:
        def work(disk: sqlite3.Connection) -> int:
            statement = (
                "INSERT INTO rooms (room, fence) VALUES (?, max(?, 1))"
                " ON CONFLICT (room) DO UPDATE SET fence = max(excluded.fence, fence + 1) RETURNING fence"
            )
            return int(disk.execute(statement, (room, fence)).fetchall()[0][0])

        return await self._do(work, writes=True)

    async def commit(self, room: str, fence: int, change: Change) -> None:
        until = self._wall() + REPLY_TIME

        def work(disk: sqlite3.Connection) -> None:
            if disk.execute("SELECT fence FROM rooms WHERE room = ?", (room,)).fetchone() != (fence,):
                raise StaleOwner(f"{room!r} has another owner")
            if change.clear:
                disk.execute("DELETE FROM entries WHERE room = ?", (room,))
            gone = [(room, key) for key, value in change.entries.items() if value is None]
            disk.executemany("DELETE FROM entries WHERE room = ? AND key = ?", gone)
            rows = [(room, key, value) for key, value in change.entries.items() if value is not None]
            disk.executemany("INSERT OR REPLACE INTO entries VALUES (?, ?, ?)", rows)
            if change.alarm != KEEP:
                disk.execute("UPDATE rooms SET alarm = ? WHERE room = ?", (change.alarm, room))
            if change.reply is not None:
                disk.execute("INSERT OR REPLACE INTO replies VALUES (?, ?, ?, ?)", (room, *change.reply, until))

        await self._do(work, writes=True)

    # --------------------------------------------------------------------------------------------------------- reads

    async def get(self, room: str, keys: Sequence[str]) -> dict[str, bytes]:
        def work(disk: sqlite3.Connection) -> dict[str, bytes]:
            found: dict[str, bytes] = {}
            for key in keys:
                row = disk.execute("SELECT value FROM entries WHERE room = ? AND key = ?", (room, key)).fetchone()
                if row is not None:
                    found[key] = row[0]
            return found

        return await self._do(work)

    async def scan(self, room: str, prefix: str = "", after: str = "", limit: int = -1) -> list[tuple[str, bytes]]:
        end = behind(prefix)
        statement = (
            "SELECT key, value FROM entries WHERE room = ? AND key >= ? AND key > ? AND (? IS NULL OR key < ?)"
            " ORDER BY key LIMIT ?"
        )
        values = (room, prefix, after, end, end, limit)
        return await self._do(lambda disk: disk.execute(statement, values).fetchall())

    async def reply(self, room: str, request: str) -> bytes | None:
        statement = "SELECT reply FROM replies WHERE room = ? AND request = ?"
        return await self._do(lambda disk: _only(disk.execute(statement, (room, request)).fetchone()))

    async def alarm(self, room: str) -> float | None:
        statement = "SELECT alarm FROM rooms WHERE room = ?"
        return await self._do(lambda disk: _only(disk.execute(statement, (room,)).fetchone()))

    async def due(self, before: float, limit: int) -> list[Due]:
        statement = "SELECT room, alarm FROM rooms WHERE alarm < ? ORDER BY alarm, room LIMIT ?"
        rows = await self._do(lambda disk: disk.execute(statement, (before, limit)).fetchall())
        return [Due(*row) for row in rows]


def _use_wal(disk: sqlite3.Connection) -> None:
    """SQLite does not wait for a lock that it needs for this: processes that open a new file at once come again."""
    latest = time.monotonic() + LOCK_TIMEOUT
    while True:
        try:
            disk.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > latest:
                raise
        time.sleep(0.01)


def _attempt(disk: sqlite3.Connection, it: _Waiting) -> Any:
    """What the work gives, or why it changed nothing. Raises when the transaction as a whole cannot go on."""
    if not it.writes:
        return it.work(disk)
    disk.execute("SAVEPOINT one")
    try:
        result = it.work(disk)
    except StaleOwner as why:
        disk.execute("ROLLBACK TO one")
        result = why
    disk.execute("RELEASE one")
    return result


def _settle(waiting: Iterable[_Waiting], results: Iterable[Any]) -> None:
    for it, result in zip(waiting, results, strict=True):
        if it.done.done():
            continue  # who asked is gone
        if isinstance(result, BaseException):
            it.done.set_exception(result)
        else:
            it.done.set_result(result)


def _only(row: tuple[Any, ...] | None) -> Any:
    return row[0] if row is not None else None
