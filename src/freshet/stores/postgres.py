"""The store of many hosts: PostgreSQL.

A commit is one statement, which checks the fence in the row that a take-over writes, too: so the server does all of it
or nothing, and a node that is paused, or cut off, leaves no lock behind. Names and keys are bytes, in whose order they
are listed.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import asyncpg

from freshet.errors import ConfigError, StaleOwner, StoreUnavailable
from freshet.runtime.clock import SYSTEM, Clock, Timer
from freshet.runtime.tasks import Tasks
from freshet.stores.base import BACKLOG, KEEP, REPLY_TIME, Change, Due, Store

CONNECTIONS = 10
TIMEOUT = 5.0  # seconds for a reply
EXPIRY_INTERVAL = 30.0  # seconds between sweeps of remembered replies
SCHEMA_LOCK = 0x46726573  # so that nodes which start at once make the tables one after the other
SCHEMA = """
CREATE TABLE IF NOT EXISTS freshet_rooms (room BYTEA PRIMARY KEY, fence BIGINT NOT NULL, alarm DOUBLE PRECISION);
CREATE INDEX IF NOT EXISTS freshet_rooms_alarm ON freshet_rooms (alarm) WHERE alarm IS NOT NULL;
CREATE TABLE IF NOT EXISTS freshet_entries (room BYTEA, key BYTEA, value BYTEA NOT NULL, PRIMARY KEY (room, key));
CREATE TABLE IF NOT EXISTS freshet_replies (room BYTEA, request BYTEA, reply BYTEA NOT NULL,
    until DOUBLE PRECISION NOT NULL, PRIMARY KEY (room, request));
CREATE INDEX IF NOT EXISTS freshet_replies_until ON freshet_replies (until);
"""
CLAIM = """
INSERT INTO freshet_rooms AS r (room, fence) VALUES ($1, greatest($2, 1))
ON CONFLICT (room) DO UPDATE SET fence = greatest(excluded.fence, r.fence + 1) RETURNING fence
"""
# room, fence, whether the alarm changes, alarm, clear, deleted keys, keys, values, request, reply, until
COMMIT = """
WITH owner AS (
    UPDATE freshet_rooms SET alarm = CASE WHEN $3 THEN $4 ELSE alarm END WHERE room = $1 AND fence = $2 RETURNING room
), deleted AS (
    DELETE FROM freshet_entries USING owner
    WHERE freshet_entries.room = owner.room AND (key = ANY($6) OR ($5 AND NOT key = ANY($7)))
), written AS (
    INSERT INTO freshet_entries (room, key, value)
    SELECT owner.room, it.key, it.value FROM owner, unnest($7::bytea[], $8::bytea[]) AS it (key, value)
    ON CONFLICT (room, key) DO UPDATE SET value = excluded.value
), remembered AS (
    INSERT INTO freshet_replies (room, request, reply, until)
    SELECT owner.room, $9::bytea, $10::bytea, $11 FROM owner WHERE $9::bytea IS NOT NULL
    ON CONFLICT (room, request) DO UPDATE SET reply = excluded.reply, until = excluded.until
)
SELECT count(*) FROM owner
"""
SCAN = """
SELECT key, value FROM freshet_entries
WHERE room = $1 AND key >= $2 AND key > $3 AND substring(key FROM 1 FOR length($2)) = $2 ORDER BY key LIMIT $4
"""
_FAILURES = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)


class PostgresStore(Store):
    """url: `postgresql://user:password@host:port/database`, and what else libpq takes. Raises ConfigError."""

    def __init__(self, url: str, clock: Clock = SYSTEM) -> None:
        self._url = url
        self._clock = clock
        self._pool: Any = None
        self._waiting = 0
        self._timer: Timer | None = None
        self._tasks = Tasks()

    async def start(self) -> None:
        try:
            self._pool = await asyncpg.create_pool(
                self._url, min_size=1, max_size=CONNECTIONS, command_timeout=TIMEOUT, timeout=TIMEOUT
            )
            async with self._pool.acquire() as connection, connection.transaction():
                await connection.execute("SELECT pg_advisory_xact_lock($1)", SCHEMA_LOCK)
                await connection.execute(SCHEMA)
        except ValueError as error:
            raise ConfigError("rooms.store", f"not the URL of a PostgreSQL ({type(error).__name__})") from None
        except _FAILURES as error:
            await self.stop()
            raise StoreUnavailable(f"PostgreSQL: {error or type(error).__name__}") from error
        self._tick()

    async def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await self._tasks.stop()
        pool, self._pool = self._pool, None
        if pool is not None:
            try:
                async with asyncio.timeout(TIMEOUT):
                    await pool.close()
            except TimeoutError:
                pool.terminate()

    async def _ask(self, statement: str, *values: Any) -> list[Any]:
        """Rows. Raises StoreUnavailable."""
        if self._pool is None:
            raise StoreUnavailable("the store does not run")
        if self._waiting >= BACKLOG:
            raise StoreUnavailable(f"{BACKLOG} requests wait for PostgreSQL")
        self._waiting += 1
        try:
            async with asyncio.timeout(2 * TIMEOUT):  # with the time for a connection
                rows: list[Any] = await self._pool.fetch(statement, *values)
                return rows
        except _FAILURES as error:
            raise StoreUnavailable(f"PostgreSQL: {error or type(error).__name__}") from error
        finally:
            self._waiting -= 1

    # -------------------------------------------------------------------------------------------------------- writes

    async def claim(self, room: str, fence: int) -> int:
        [row] = await self._ask(CLAIM, room.encode(), fence)
        return int(row[0])

    async def commit(self, room: str, fence: int, change: Change) -> None:
        deleted = [key.encode() for key, value in change.entries.items() if value is None]
        written = [(key.encode(), value) for key, value in change.entries.items() if value is not None]
        request, reply = change.reply or (None, None)
        [row] = await self._ask(
            COMMIT,
            room.encode(),
            fence,
            change.alarm != KEEP,
            change.alarm,
            change.clear,
            deleted,
            [key for key, _ in written],
            [value for _, value in written],
            None if request is None else request.encode(),
            reply,
            self._clock.wall() + REPLY_TIME,
        )
        if not row[0]:
            raise StaleOwner(f"{room!r} has another owner")

    # --------------------------------------------------------------------------------------------------------- reads

    async def get(self, room: str, keys: Sequence[str]) -> dict[str, bytes]:
        statement = "SELECT key, value FROM freshet_entries WHERE room = $1 AND key = ANY($2)"
        rows = await self._ask(statement, room.encode(), [key.encode() for key in keys])
        return {row[0].decode(): row[1] for row in rows}

    async def scan(self, room: str, prefix: str = "", after: str = "", limit: int = -1) -> list[tuple[str, bytes]]:
        rows = await self._ask(SCAN, room.encode(), prefix.encode(), after.encode(), None if limit < 0 else limit)
        return [(row[0].decode(), row[1]) for row in rows]

    async def reply(self, room: str, request: str) -> bytes | None:
        statement = "SELECT reply FROM freshet_replies WHERE room = $1 AND request = $2"
        rows = await self._ask(statement, room.encode(), request.encode())
        return rows[0][0] if rows else None

    async def alarm(self, room: str) -> float | None:
        rows = await self._ask("SELECT alarm FROM freshet_rooms WHERE room = $1", room.encode())
        return rows[0][0] if rows else None

    async def due(self, before: float, limit: int) -> list[Due]:
        statement = "SELECT room, alarm FROM freshet_rooms WHERE alarm < $1 ORDER BY alarm, room LIMIT $2"
        return [Due(row[0].decode(), row[1]) for row in await self._ask(statement, before, limit)]

    # ------------------------------------------------------------------------------------------------- how time goes

    def _tick(self) -> None:
        self._timer = self._clock.call_later(EXPIRY_INTERVAL, self._tick)
        if not len(self._tasks):
            self._tasks.start(self._expire(), "rooms: forget old replies")

    async def _expire(self) -> None:
        await self._ask("DELETE FROM freshet_replies WHERE until <= $1", self._clock.wall())
