"""Who is present, for clients that ask: read single-flight, and encoded once for as long as nobody comes or goes.

A list of a thousand clients takes milliseconds to read and to encode, and who is in such a channel asks for it when the
others do.
"""

from collections import OrderedDict

from freshet.engines.base import Engine
from freshet.model.log import ClientInfo
from freshet.runtime.single_flight import SingleFlight

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
        self._reads = SingleFlight[PresentNow]("presence")

    async def stop(self) -> None:
        await self._reads.stop()

    async def read(self, channel: str) -> PresentNow:
        """Who is there, read after this was called. Raises EngineUnavailable."""
        if not self._engine.shared:  # it answers at once
            return await self._read(channel)
        return await self._reads.share(channel, self._read, channel)

    async def _read(self, channel: str) -> PresentNow:
        """The list that was made before, if it is still right."""
        clients = await self._engine.presence(channel)
        kept = self._kept.get(channel)
        if kept is None or kept.clients != clients:
            kept = self._kept[channel] = PresentNow(clients)
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(channel)
        return kept
