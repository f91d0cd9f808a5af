"""Who is in a room: the nodes know their clients, and its owner knows all that came and went since it woke up."""

from collections.abc import Awaitable, Callable

from freshet.node.owners import Site
from freshet.rooms.messages import RoomVisitor


class Occupancy:
    """find: asks all nodes for the clients of a channel; it is done once, when a hook first wants to know."""

    __slots__ = ("_channel", "_complete", "_find", "_known", "_node")

    def __init__(self, channel: str, find: Callable[[str], Awaitable[list[RoomVisitor]]], node: Site) -> None:
        self._channel = channel
        self._find = find
        self._node = node
        self._known: dict[str, RoomVisitor] = {}
        self._complete = False

    def joined(self, visitor: RoomVisitor) -> None:
        self._known[visitor.client] = visitor

    def left(self, visitor: RoomVisitor) -> None:
        self._known.pop(visitor.client, None)

    def changed(self, visitor: RoomVisitor) -> None:
        """Something else is kept for it."""
        if visitor.client in self._known:
            self._known[visitor.client] = visitor

    def latest(self, visitor: RoomVisitor) -> RoomVisitor:
        """A visitor as its room knows it: what its node sent along may be older."""
        return self._known.get(visitor.client, visitor)

    async def all(self) -> dict[str, RoomVisitor]:
        """By client, without those of nodes that are gone. A client that is about to join is not among them."""
        if not self._complete:
            for it in await self._find(self._channel):
                self._known.setdefault(it.client, it)
            self._complete = True
        node, peers = self._node.id, self._node.bus.peers
        return {client: it for client, it in self._known.items() if it.node == node or it.node in peers}
