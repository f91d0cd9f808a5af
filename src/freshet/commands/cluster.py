"""What concerns all nodes: what the server does with a user's clients wherever they are, and what all nodes hold."""

import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from fnmatch import fnmatchcase
from typing import Any, TypeAlias

import msgspec

from freshet.commands.subscribing import let_in
from freshet.errors import Disconnect, Refusal
from freshet.model.events import Unsubscribed
from freshet.model.log import Position
from freshet.node.holding import statistics_of
from freshet.node.node import Node
from freshet.observe.counts import Statistics
from freshet.policy.base import Grant

log = logging.getLogger("freshet.cluster")

ORDER, HOLDING, CHANNELS = "order", "holding", "channels"
TIMEOUT = 2.0  # seconds for the replies of the others; who does not reply is missing


class SubscribeUser(msgspec.Struct, tag=True, frozen=True):
    """Clients that are subscribed already are left as they are. info, data: JSON. expires: epoch seconds, or 0.

    post: as `Session.post`; empty: all, of those that `client` names. So it is in all of these.
    """

    user: str
    channel: str
    client: str = ""
    since: Position | None = None
    info: bytes = b""
    expires: float = 0.0
    data: bytes = b""
    post: str = ""


class UnsubscribeUser(msgspec.Struct, tag=True, frozen=True):
    user: str
    channel: str
    client: str = ""
    post: str = ""


class DisconnectUser(msgspec.Struct, tag=True, frozen=True):
    """keep: the ids of those clients that stay."""

    user: str
    code: int
    reason: str
    client: str = ""
    keep: list[str] = []
    post: str = ""


class RefreshUser(msgspec.Struct, tag=True, frozen=True):
    """expires: epoch seconds until when they may stay, or 0."""

    user: str
    expires: float
    client: str = ""
    post: str = ""


Order: TypeAlias = SubscribeUser | UnsubscribeUser | DisconnectUser | RefreshUser


class Holding(msgspec.Struct, frozen=True):
    """What one node holds. node: its id. uptime: seconds."""

    node: str
    statistics: Statistics
    uptime: float


class Cluster:
    """All nodes, as one of them sees them."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._carry_out: dict[type[Any], Callable[[Any], Awaitable[None]]] = {
            SubscribeUser: self._subscribe,
            UnsubscribeUser: self._unsubscribe,
            DisconnectUser: self._disconnect,
            RefreshUser: self._refresh,
        }
        node.bus.handlers |= {ORDER: self._ordered, HOLDING: self._holding, CHANNELS: self._channels}

    async def carry_out(self, order: Order) -> None:
        """On all nodes. Raises EngineUnavailable if the others could not be reached; on this one it is done then."""
        await self._carry_out[type(order)](order)
        await self._node.bus.broadcast(ORDER, msgspec.msgpack.encode(order))

    async def holdings(self) -> list[Holding]:
        """Of each node, this one first."""
        replies = await self._node.bus.request_all(HOLDING, b"", TIMEOUT)
        return [msgspec.msgpack.decode(reply, type=Holding) for reply in replies]

    async def channels(self, pattern: str = "") -> dict[str, int]:
        """The channels that have subscribers, and how many. pattern: `*` is anything, `?` one character."""
        found: Counter[str] = Counter()
        for reply in await self._node.bus.request_all(CHANNELS, pattern.encode(), TIMEOUT):
            found.update(msgspec.msgpack.decode(reply, type=dict[str, int]))
        return dict(found)

    # --------------------------------------------------------------------------------------------------- on this node

    async def _subscribe(self, order: SubscribeUser) -> None:
        grant = Grant(msgspec.Raw(order.info), order.expires)
        for session in self._node.registry.of(order.user, order.client, order.post):
            try:
                with suppress(Disconnect):  # a client that has gone meanwhile
                    await let_in(self._node, session, order.channel, order.since, grant, order.data)
            except Refusal as why:
                log.warning("the server could not subscribe %r to %r: %s", session, order.channel, why)

    async def _unsubscribe(self, order: UnsubscribeUser) -> None:
        registry = self._node.registry
        which = order.user, order.client, order.post
        for session in (*registry.of(*which), *registry.connecting(*which)):
            await self._node.leaving.unsubscribe(session, order.channel, Unsubscribed(order.channel))

    async def _disconnect(self, order: DisconnectUser) -> None:
        registry = self._node.registry
        which = order.user, order.client, order.post
        for session in (*registry.of(*which), *registry.connecting(*which)):
            if session.id not in order.keep:
                session.close(Disconnect(order.code, order.reason))

    async def _refresh(self, order: RefreshUser) -> None:
        for session in self._node.registry.of(order.user, order.client, order.post):
            session.expires = order.expires
            self._node.wheel.schedule(session, 0)  # it learns when its next visit is due

    # --------------------------------------------------------------------------------------------- for the other nodes

    async def _ordered(self, body: bytes) -> bytes:
        order: Order = msgspec.msgpack.decode(body, type=Order)
        await self._carry_out[type(order)](order)
        return b""

    async def _holding(self, body: bytes) -> bytes:
        node = self._node
        return msgspec.msgpack.encode(Holding(node.id, statistics_of(node.snapshot()), node.uptime()))

    async def _channels(self, body: bytes) -> bytes:
        pattern, counts = body.decode(), self._node.hub.channels()
        matching = {name: count for name, count in counts.items() if not pattern or fnmatchcase(name, pattern)}
        return msgspec.msgpack.encode(matching)
