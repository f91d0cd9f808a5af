"""Who is present, for clients that ask: read single-flight, and encoded once for as long as nobody comes or goes.

A list of a thousand clients takes milliseconds to read and to encode, and who is in such a channel asks for it when the
others do. Those who ask while a read is under way share the next one: what it answers is not older than their question.
"""

import asyncio
from collections import OrderedDict

from freshet.engines.base import Engine
from freshet.model.log import ClientInfo
from freshet.runtime.tasks import Tasks

KEPT = 16  # channels whose list is kept, with how it is encoded


class PresentNow:
    """Those in a channel. size: bytes of the list, nearly. users: different ones. encoded: the list, by dialect."""

    __slots__ = ("clients", "encoded", "size", "users")

    def __init__(self, clients: dict[str, ClientInfo]) -> None:
        self.clients = clients
        self.encoded: dict[str, bytes] = {}
        self.size = sum(info.size for info in clients.values())
        self.users = len({info.user for info in clients.values()})


class Who:
    """The lists of presence of one node's clients."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._kept: OrderedDict[str, PresentNow] = OrderedDict()
        self._next: dict[str, asyncio.Task[PresentNow]] = {}
        self._under_way: dict[str, asyncio.Task[PresentNow]] = {}
        self._tasks = Tasks()

    async def stop(self) -> None:
        await self._tasks.stop()

    async def read(self, channel: str) -> PresentNow:
        """Who is there, read after this was called. Raises EngineUnavailable."""
        if not self._engine.shared:  # it answers at once
            return self._kept_as(channel, await self._engine.presence(channel))
        shared = self._next.get(channel)
        if shared is None:
            shared = self._next[channel] = self._tasks.start(self._read(channel), f"presence of {channel!r}")
        return await asyncio.shield(shared)

    async def _read(self, channel: str) -> PresentNow:
        me = self._next[channel]
        try:
            if (before := self._under_way.get(channel)) is not None:
                await asyncio.wait([before])
        finally:
            del self._next[channel]
        self._under_way[channel] = me
        try:
            return self._kept_as(channel, await self._engine.presence(channel))
        finally:
            if self._under_way.get(channel) is me:
                del self._under_way[channel]

    def _kept_as(self, channel: str, clients: dict[str, ClientInfo]) -> PresentNow:
        """The list that was made before, if it is still right."""
        kept = self._kept.get(channel)
        if kept is None or kept.clients != clients:
            kept = self._kept[channel] = PresentNow(clients)
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(channel)
        return kept
