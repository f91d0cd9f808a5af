"""The store of many hosts, where there is a Redis already.

A commit is one script, which compares the fence: so Redis does all of it or nothing. All keys of a room share a hash
tag, so that a cluster keeps them together. What is acknowledged survives what Redis itself survives: with
`appendfsync always` a power cut, and no failover to a replica that had not got it yet.

    {prefix}:{room}:room             hash: fence, alarm
    {prefix}:{room}:keys, :values    sorted set of its keys, in the order of bytes; hash: their values
    {prefix}:{room}:reply:{request}  string, for as long as a reply is remembered
    {prefix}:{alarms}:due            sorted set: rooms by when their alarms are due, or earlier

The index of alarms is elsewhere in a cluster, and so is written beside the commit: before it and after it, each time
only to an earlier one. So no alarm is late, whoever crashes or pauses in between. What is too early there is found when
it is due, and taken out.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from importlib.resources import files
from typing import Any, Protocol, TypeVar

from freshet.errors import EngineUnavailable, StaleOwner, StoreUnavailable
from freshet.stores.base import KEEP, REPLY_TIME, Change, Due, Store, behind

_HERE = files("freshet.stores") / "lua"
SCRIPTS = {name: (_HERE / f"{name}.lua").read_bytes() for name in ("claim", "commit", "scan", "forget")}
ALARMS = b"alarms"
ROUNDS = 10  # of a search for alarms that finds some that are not due after all


T = TypeVar("T")


async def _asked(servers: Awaitable[T]) -> T:
    """Raises StoreUnavailable for servers that could not be reached."""
    try:
        return await servers
    except EngineUnavailable as error:
        raise StoreUnavailable(str(error)) from error


class RedisServers(Protocol):
    """What the store is given: see `engines.redis.scripts`. tag: that of the keys. They raise `EngineUnavailable`."""

    @property
    def prefix(self) -> str: ...

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def run(self, tag: bytes, script: str, keys: Sequence[bytes], *arguments: bytes | str | int) -> Any: ...

    async def request(self, tag: bytes, *command: bytes | str | int) -> Any: ...


class RedisStore(Store):
    """connect: makes what leads to the servers, given the scripts."""

    def __init__(self, connect: Callable[[dict[str, bytes]], RedisServers]) -> None:
        self._servers = connect(SCRIPTS)
        self._index = f"{self._servers.prefix}:{{{ALARMS.decode()}}}:due".encode()

    async def start(self) -> None:
        await _asked(self._servers.start())

    async def stop(self) -> None:
        await self._servers.stop()

    def _keys(self, room: str, *kinds: str) -> tuple[bytes, list[bytes]]:
        """The hash tag of a room's keys, and those of these kinds."""
        tag = room.replace("%", "%25").replace("{", "%7B").replace("}", "%7D").encode()
        stem = self._servers.prefix.encode() + b":{" + tag + b"}:"
        return tag, [stem + kind.encode() for kind in kinds]

    async def _run(self, room: str, script: str, kinds: Sequence[str], *arguments: bytes | str | int) -> Any:
        tag, keys = self._keys(room, *kinds)
        return await _asked(self._servers.run(tag, script, keys, *arguments))

    async def _request(self, tag: bytes, *command: bytes | str | int) -> Any:
        return await _asked(self._servers.request(tag, *command))

    # -------------------------------------------------------------------------------------------------------- writes

    async def claim(self, room: str, fence: int) -> int:
        return int(await self._run(room, "claim", ["room"], fence))

    async def commit(self, room: str, fence: int, change: Change) -> None:
        request, reply = change.reply or ("", b"")
        alarm = "" if change.alarm == KEEP else "none" if change.alarm is None else repr(change.alarm)
        deleted = [key.encode() for key, value in change.entries.items() if value is None]
        written = [(key.encode(), value) for key, value in change.entries.items() if value is not None]
        pairs = [part for pair in written for part in pair]
        time = round(REPLY_TIME * 1000) if change.reply is not None else 0
        head = (fence, int(change.clear), alarm, time, reply, len(deleted))
        await self._note(room, change.alarm)
        kinds = ["room", "keys", "values", f"reply:{request}"]
        if not await self._run(room, "commit", kinds, *head, *deleted, *pairs):
            raise StaleOwner(f"{room!r} has another owner")
        await self._note(room, change.alarm)

    async def _note(self, room: str, alarm: float | None) -> None:
        """Have it looked at then, at the latest."""
        if alarm is not None and alarm != KEEP:
            await self._request(ALARMS, b"ZADD", self._index, b"LT", repr(alarm), room.encode())

    # --------------------------------------------------------------------------------------------------------- reads

    async def get(self, room: str, keys: Sequence[str]) -> dict[str, bytes]:
        if not keys:
            return {}
        tag, [values] = self._keys(room, "values")
        found = await self._request(tag, b"HMGET", values, *(key.encode() for key in keys))
        return {key: value for key, value in zip(keys, found, strict=True) if value is not None}

    async def scan(self, room: str, prefix: str = "", after: str = "", limit: int = -1) -> list[tuple[str, bytes]]:
        begin, end = prefix.encode(), behind(prefix)
        low = b"(" + after.encode() if after and after.encode() >= begin else b"[" + begin
        high = b"+" if end is None else b"(" + end.encode()
        found = await self._run(room, "scan", ["keys", "values"], low, high, limit)
        return [(key.decode(), value) for key, value in zip(found[::2], found[1::2], strict=True)]

    async def reply(self, room: str, request: str) -> bytes | None:
        tag, [key] = self._keys(room, f"reply:{request}")
        found: bytes | None = await self._request(tag, b"GET", key)
        return found

    async def alarm(self, room: str) -> float | None:
        tag, [key] = self._keys(room, "room")
        found = await self._request(tag, b"HGET", key, b"alarm")
        return None if found is None else float(found)

    async def due(self, before: float, limit: int) -> list[Due]:
        found: list[Due] = []
        for _ in range(ROUNDS):
            noted = await self._noted(before, limit)
            alarms = await asyncio.gather(*(self.alarm(it.room) for it in noted))
            found = [it for it, at in zip(noted, alarms, strict=True) if at == it.at]
            early = [it for it, at in zip(noted, alarms, strict=True) if at != it.at]
            if not early:
                break
            for it in early:
                await self._correct(it)
        return found

    async def _noted(self, before: float, limit: int) -> list[Due]:
        command = (b"ZRANGEBYSCORE", self._index, b"-inf", f"({before!r}", b"WITHSCORES", b"LIMIT", 0, limit)
        rows = await self._request(ALARMS, *command)
        pairs = rows if not rows or isinstance(rows[0], list) else zip(rows[::2], rows[1::2], strict=True)
        return [Due(room.decode(), float(at)) for room, at in pairs]

    async def _correct(self, noted: Due) -> None:
        """Its alarm is another one: whoever sets one meanwhile notes that behind this."""
        await _asked(self._servers.run(ALARMS, "forget", [self._index], noted.room.encode(), repr(noted.at)))
        await self._note(noted.room, await self.alarm(noted.room))
