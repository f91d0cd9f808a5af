"""What the server does with a user's clients, on whatever nodes they are: it is done here, and told to the others."""

import asyncio
import logging
from collections.abc import Iterable
from typing import TypeAlias

import msgspec

from freshet import errors
from freshet.commands.subscribing import Grant, enter, settle
from freshet.errors import Refusal
from freshet.model.events import Unsubscribed
from freshet.model.log import Position
from freshet.node.node import Node
from freshet.session.session import Session

log = logging.getLogger("freshet.orders")

VERB = "order"


class Subscribe(msgspec.Struct, tag=True, frozen=True):
    """Clients that hear the channel already are left as they are. info, data: JSON. expires: epoch seconds, or 0."""

    user: str
    channel: str
    client: str = ""
    since: Position | None = None
    info: bytes = b""
    expires: float = 0.0
    data: bytes = b""

    async def do(self, node: Node) -> None:
        grant = Grant(msgspec.Raw(self.info), self.expires)
        for session in _sessions(node, self.user, self.client):
            if self.channel in session.subscriptions:
                continue
            try:
                entry = await enter(node, session, self.channel, self.since, grant=grant)
            except (Refusal, errors.Disconnect) as why:
                log.warning("%r was not subscribed to %r: %s", session, self.channel, why)
                continue
            session.tell(settle(node, entry, data=self.data))


class Unsubscribe(msgspec.Struct, tag=True, frozen=True):
    user: str
    channel: str
    client: str = ""

    async def do(self, node: Node) -> None:
        for session in _sessions(node, self.user, self.client):
            await node.unsubscribe(session, self.channel, Unsubscribed(self.channel))


class Disconnect(msgspec.Struct, tag=True, frozen=True):
    """keep: the ids of those clients that stay."""

    user: str
    code: int
    reason: str
    client: str = ""
    keep: list[str] = []

    async def do(self, node: Node) -> None:
        for session in _sessions(node, self.user, self.client):
            if session.id not in self.keep:
                session.close(errors.Disconnect(self.code, self.reason))


class Refresh(msgspec.Struct, tag=True, frozen=True):
    """expires: epoch seconds until when they may stay, or 0."""

    user: str
    expires: float
    client: str = ""

    async def do(self, node: Node) -> None:
        for session in _sessions(node, self.user, self.client):
            session.expires = self.expires
            node.wheel.schedule(session, 0)  # it learns when its next visit is due


class Claim(msgspec.Struct, tag=True, frozen=True):
    """The client of `pid` has come back as a session of another node: one that still has it, on a dead line, ends."""

    pid: str

    async def do(self, node: Node) -> None:
        node.dispossess(self.pid)


Order: TypeAlias = Subscribe | Unsubscribe | Disconnect | Refresh | Claim


def _sessions(node: Node, user: str, client: str) -> Iterable[Session]:
    """A user's clients, or only the one."""
    return [it for it in node.hub.users.get(user, ()) if not client or it.id == client]


async def carry_out(node: Node, order: Order) -> None:
    """Raises EngineUnavailable if the other nodes could not be told; here it is done then."""
    await order.do(node)
    await node.peers.tell(VERB, msgspec.msgpack.encode(order))


async def claim(node: Node, pid: str) -> None:
    """Tell the other nodes whose session `pid` is now."""
    await node.peers.tell(VERB, msgspec.msgpack.encode(Claim(pid)))


def listen(node: Node) -> None:
    """Let the node do what others order."""

    async def obey(body: bytes, gone: asyncio.Event) -> bytes:
        order: Order = msgspec.msgpack.decode(body, type=Order)
        await order.do(node)
        return b""

    node.peers.verbs[VERB] = obey
