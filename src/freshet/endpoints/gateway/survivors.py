"""`$disconnect` for the clients of a node that died: the others know which it had, and one of them tells.

Each node tells the others of each connection, and holds a lease. Who finds that he can take the lease of another knows
that the other is dead, and that nobody else does what is to be done then. A node that was only slow, and finds its own
lease taken, closes its connections without another `$disconnect`.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress

import msgspec

from freshet.endpoints.gateway.events import Facts
from freshet.engines.base import Lease
from freshet.errors import EngineUnavailable
from freshet.node.owners import Site
from freshet.observe.logs import BoundedLog
from freshet.runtime.tasks import Tasks

log = logging.getLogger("freshet.gateway")

OPENED, ENDED, TABLE = "gateway:opened", "gateway:ended", "gateway:table"
TIMEOUT = 2.0  # seconds for what the others know
CHECKS = 3  # in the time of a lease


class OpenedMessage(msgspec.Struct, frozen=True):
    node: str
    connections: list[Facts]


class EndedMessage(msgspec.Struct, frozen=True):
    """all: the node ends in order, and has told all itself."""

    node: str
    ids: list[str]
    all: bool = False


class Survivors:
    """Implements `Part`. ttl: of the leases, seconds. here: the connections of this node.

    enabled: whether there is a WebSocket API; a node without one watches nobody, until it has one.
    tell: runs `$disconnect` for one of another node. lost: another node has told for all of this node's.
    """

    def __init__(
        self,
        node: Site,
        ttl: float,
        enabled: Callable[[], bool],
        here: Callable[[], Iterable[Facts]],
        tell: Callable[[Facts], Awaitable[None]],
        lost: Callable[[], None],
    ) -> None:
        self._node = node
        self._ttl = ttl
        self._enabled = enabled
        self._here = here
        self._tell = tell
        self._lost = lost
        self._of: dict[str, dict[str, Facts]] = {}  # by node
        self._lease: Lease | None = None
        self._running = False
        self._takes_part = False
        self._log = BoundedLog(log)
        self._tasks = Tasks()
        node.bus.handlers |= {OPENED: self._opened, ENDED: self._ended, TABLE: self._table}
        node.parts.append(self)

    # ------------------------------------------------------------------------------------------------------ node's part

    async def start(self) -> None:
        self._running = True
        await self._join()

    @property
    def _wanted(self) -> bool:
        """Not yet, though there is a WebSocket API: its first route came after the start."""
        return self._running and not self._takes_part and self._node.engine.shared and self._enabled()

    async def _join(self) -> None:
        """Take part from now on. Raises EngineUnavailable; then it does not."""
        if not self._wanted:
            return
        self._takes_part = True
        try:
            await self._hold()
        except EngineUnavailable:
            self._takes_part = False
            raise
        for reply in await self._node.bus.request_all(TABLE, b"", TIMEOUT):
            self._note(msgspec.msgpack.decode(reply, type=OpenedMessage))
        self._tasks.start(self._watch(), "gateway: watch over the other nodes")

    async def _join_late(self) -> None:
        try:
            await self._join()
        except EngineUnavailable as why:
            self._log.warning("join", "gateway: nobody watches over this node, until the engine is back: %s", why)

    async def stop(self) -> None:
        self._running = False
        await self._tasks.stop()
        if not self._takes_part:
            return
        with suppress(EngineUnavailable):
            await self._send(ENDED, EndedMessage(self._node.id, [], all=True))
            if self._lease is not None:
                await self._node.engine.release_lease(_name(self._node.id), self._lease)
        self._lease = None

    # ------------------------------------------------------------------------------------------- what the others know

    async def opened(self, facts: Facts) -> None:
        """A client is about to be in."""
        await self._join_late()
        if self._takes_part:
            await self._send(OPENED, OpenedMessage(self._node.id, [facts]))

    async def ended(self, id: str) -> None:
        """Its `$disconnect` is done."""
        if self._takes_part:
            await self._send(ENDED, EndedMessage(self._node.id, [id]))

    async def _send(self, kind: str, message: msgspec.Struct) -> None:
        try:
            await self._node.bus.broadcast(kind, msgspec.msgpack.encode(message))
        except EngineUnavailable as why:
            self._log.warning("tell", "gateway: the other nodes were not told of a connection: %s", why)

    async def _opened(self, body: bytes) -> bytes:
        if self._wanted:  # beside it: the other node waits for this answer
            self._tasks.start(self._join_late(), "gateway: begin to watch over the other nodes")
        self._note(msgspec.msgpack.decode(body, type=OpenedMessage))
        return b""

    def _note(self, message: OpenedMessage) -> None:
        if (self._takes_part or self._wanted) and message.node != self._node.id:
            self._of.setdefault(message.node, {}).update((facts.id, facts) for facts in message.connections)

    async def _ended(self, body: bytes) -> bytes:
        message = msgspec.msgpack.decode(body, type=EndedMessage)
        if message.all:
            self._of.pop(message.node, None)
        for id in message.ids:
            self._of.get(message.node, {}).pop(id, None)
        return b""

    async def _table(self, body: bytes) -> bytes:
        return msgspec.msgpack.encode(OpenedMessage(self._node.id, list(self._here())))

    # ------------------------------------------------------------------------------------------------------- the leases

    async def _hold(self) -> None:
        lease = await self._node.engine.take_lease(_name(self._node.id), self._node.id, self._ttl)
        self._lease = lease if lease.owner == self._node.id else None

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._ttl / CHECKS)
            try:
                await self._keep()
                for other in list(self._of):
                    await self._look_after(other)
            except EngineUnavailable as why:
                self._log.warning(
                    "away", "gateway: the engine is away (%s): who died meanwhile is found out later", why
                )

    async def _keep(self) -> None:
        name = _name(self._node.id)
        if self._lease is not None:
            fences = {name: self._lease.fence}
            if await self._node.engine.renew_leases(self._node.id, fences, self._ttl):
                return
            log.warning("gateway: this node stood still for longer than gateway.lease: its connections are closed")
            self._lost()
        await self._hold()

    async def _look_after(self, other: str) -> None:
        name = _name(other)
        lease = await self._node.engine.take_lease(name, self._node.id, self._ttl)
        if lease.owner != self._node.id:
            return
        left = self._of.get(other, {})
        if left:
            log.warning("gateway: node %s is gone: $disconnect is run for its %d connections", other, len(left))
        renewed = asyncio.get_running_loop().time()
        for facts in list(left.values()):
            if facts.id not in left:
                continue
            await self._tell(facts)
            left.pop(facts.id, None)
            await self._send(ENDED, EndedMessage(other, [facts.id]))
            if asyncio.get_running_loop().time() - renewed > self._ttl / CHECKS:
                renewed = asyncio.get_running_loop().time()
                await self._keep()
                if not await self._node.engine.renew_leases(self._node.id, {name: lease.fence}, self._ttl):
                    return
        self._of.pop(other, None)
        await self._send(ENDED, EndedMessage(other, [], all=True))
        await self._node.engine.release_lease(name, lease)


def _name(node: str) -> str:
    return f"gateway:{node}"
