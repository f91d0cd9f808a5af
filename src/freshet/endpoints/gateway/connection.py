"""A connection, as the functions of an application get it."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Protocol

from freshet.endpoints.gateway.events import Facts
from freshet.model.log import Position


class ByConnection(Protocol):
    """What can be done with a connection, by its id."""

    async def post(self, connection_id: str, data: Any) -> None: ...

    async def delete(self, connection_id: str) -> None: ...

    async def subscribe(self, connection_id: str, channel: str, *, since: Position | None = None) -> None: ...

    async def unsubscribe(self, connection_id: str, channel: str) -> None: ...


class Connection:
    """One connection, wherever it is, also when it is over.

    id: its id. user: who it is, by its token or by its authorizer's `principalId`. claims: what its token says.
    authorizer: what its authorizer said of it, as in events.
    """

    __slots__ = ("_gateway", "authorizer", "claims", "facts", "id", "user")

    def __init__(
        self, gateway: ByConnection, facts: Facts, user: str = "", claims: Mapping[str, Any] = MappingProxyType({})
    ) -> None:
        self._gateway = gateway
        self.facts = facts
        self.id = facts.id
        self.user = user
        self.claims = claims
        self.authorizer = facts.authorizer or {}

    def __repr__(self) -> str:
        return f"<Connection {self.id} user={self.user!r}>"

    async def send(self, data: Any) -> None:
        """Send to this client. text as it is, bytes as a binary message, anything else as JSON. Raises `Gone`."""
        await self._gateway.post(self.id, data)

    async def subscribe(self, channel: str, *, since: Position | None = None) -> None:
        """Let it have what is published in a channel. Raises as `Gateway.subscribe`."""
        await self._gateway.subscribe(self.id, channel, since=since)

    async def unsubscribe(self, channel: str) -> None:
        await self._gateway.unsubscribe(self.id, channel)

    async def close(self) -> None:
        """Disconnect it."""
        await self._gateway.delete(self.id)
