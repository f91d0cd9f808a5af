"""Clients that an application knows by the ids of their connections, on whatever node they are.

An id has the form that AWS's have: 16 characters of base64 that end in `=`. Its first four bytes say which node has the
connection, so that every node knows whom to ask; the other seven are random.
"""

import asyncio
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Literal, Protocol

import msgspec

from freshet.commands.dispatch import Dispatcher
from freshet.commands.subscribing import let_in
from freshet.errors import Disconnect, EngineUnavailable, Refusal
from freshet.model.events import Unsubscribed
from freshet.model.log import Position
from freshet.session.session import Session

KIND = "connections"
TIMEOUT = 10.0  # seconds for the reply of another node
NODE, RANDOM = 4, 7  # bytes of an id
CLOSED = 1000

Deed = Literal["post", "get", "delete", "subscribe", "unsubscribe"]


class ConnectionInfo(msgspec.Struct, frozen=True):
    """What `GET @connections` tells. connected_at, last_active_at: epoch seconds."""

    connected_at: float
    last_active_at: float
    source_ip: str
    user_agent: str


class ConnectionRequest(msgspec.Struct, frozen=True):
    """The same for several connections. data: for `post`. channel, since: for `subscribe` and `unsubscribe`."""

    deed: Deed
    ids: list[str]
    data: bytes = b""
    channel: str = ""
    since: Position | None = None


class ConnectionReply(msgspec.Struct, frozen=True):
    """status: HTTP's. message: why not."""

    status: int = HTTPStatus.OK
    info: ConnectionInfo | None = None
    message: str = ""


class AddressedConnection(Protocol):
    """What has an id here."""

    def deliver(self, data: bytes) -> HTTPStatus:
        """200; 410: it is over; 429: it does not read what was sent to it before."""

    def describe(self) -> ConnectionInfo: ...


OK, GONE = ConnectionReply(), ConnectionReply(HTTPStatus.GONE)
AWAY = ConnectionReply(HTTPStatus.SERVICE_UNAVAILABLE, message="the node of this connection does not reply")
MALFORMED = ConnectionReply(HTTPStatus.BAD_REQUEST, message="Invalid connectionId")


def random_id() -> str:
    """As AWS's ids of requests and messages look."""
    return urlsafe_b64encode(secrets.token_bytes(NODE + RANDOM)).decode()


def _node_part(id: str) -> bytes | None:
    """None: no id looks like that."""
    if len(id) != 16 or not id.isascii():
        return None
    try:
        return urlsafe_b64decode(id)[:NODE]
    except Error:
        return None


class Connections:
    """stage: the first part of their URLs; empty: they have none. post_size: bytes that may be sent to one at once.

    open: whether there is an API to which they belong.
    """

    def __init__(self, dispatcher: Dispatcher) -> None:
        node = dispatcher.node
        self.open = False
        self.stage = ""
        self.post_size = 0
        self.read_body = dispatcher.read_body
        self._node = node
        self._here: dict[str, Session] = {}
        self._part = bytes.fromhex(node.id)[:NODE]
        node.bus.handlers[KIND] = self._asked

    def __len__(self) -> int:
        return len(self._here)

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._here.values()))

    def new_id(self) -> str:
        return urlsafe_b64encode(self._part + secrets.token_bytes(RANDOM)).decode()

    def opened(self, session: Session) -> None:
        self._here[session.id] = session

    def ended(self, session: Session) -> None:
        self._here.pop(session.id, None)

    # -------------------------------------------------------------------------------------------------- on all nodes

    async def do(self, deed: Deed, id: str, data: bytes = b"") -> ConnectionReply:
        return (await self.do_all(ConnectionRequest(deed, [id], data)))[0]

    async def do_all(self, request: ConnectionRequest) -> list[ConnectionReply]:
        """A reply for each id, in their order."""
        if len(request.data) > self.post_size:
            too_large = f"at most {self.post_size} bytes may be sent at once, see gateway.message_size"
            return [ConnectionReply(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message=too_large)] * len(request.ids)
        found: dict[str, ConnectionReply] = {}
        elsewhere: dict[str, list[str]] = {}
        for id in dict.fromkeys(request.ids):
            part = _node_part(id)
            if part is None:
                found[id] = MALFORMED
            elif id in self._here:
                found[id] = await self._do_here(request, id)
            else:
                found[id] = GONE
                for node in self._named(part):
                    elsewhere.setdefault(node, []).append(id)
        if elsewhere:
            asked = (self._ask(node, request, ids) for node, ids in elsewhere.items())
            for replies in await asyncio.gather(*asked):
                found |= {id: reply for id, reply in replies.items() if found[id] is GONE}
        return [found[id] for id in request.ids]

    def _named(self, part: bytes) -> list[str]:
        return [node for node in self._node.bus.peers if node.startswith(part.hex())]

    async def _ask(self, node: str, request: ConnectionRequest, ids: Sequence[str]) -> dict[str, ConnectionReply]:
        body = msgspec.msgpack.encode(msgspec.structs.replace(request, ids=list(ids)))
        try:
            reply = await self._node.bus.request(node, KIND, body, TIMEOUT)
        except EngineUnavailable:
            return dict.fromkeys(ids, AWAY)
        return dict(zip(ids, msgspec.msgpack.decode(reply, type=list[ConnectionReply]), strict=True))

    async def _asked(self, body: bytes) -> bytes:
        request = msgspec.msgpack.decode(body, type=ConnectionRequest)
        return msgspec.msgpack.encode([await self._do_here(request, id) for id in request.ids])

    # -------------------------------------------------------------------------------------------------- on this node

    async def _do_here(self, request: ConnectionRequest, id: str) -> ConnectionReply:
        session = self._here.get(id)
        if session is None or session.closing:
            return GONE
        connection: AddressedConnection = session  # type: ignore[assignment]  # which its endpoint sees to
        match request.deed:
            case "post":
                return ConnectionReply(connection.deliver(request.data))
            case "get":
                return ConnectionReply(info=connection.describe())
            case "delete":
                session.close(Disconnect(CLOSED, "Connection Closed Normally"))
                return ConnectionReply(HTTPStatus.NO_CONTENT)
            case "subscribe":
                return await self._subscribe(session, request)
            case "unsubscribe":
                await self._node.leaving.unsubscribe(session, request.channel, Unsubscribed(request.channel))
                return OK

    async def _subscribe(self, session: Session, request: ConnectionRequest) -> ConnectionReply:
        try:
            await let_in(self._node, session, request.channel, request.since)
        except Refusal as why:
            return ConnectionReply(HTTPStatus.FORBIDDEN, message=why.message)
        except Disconnect:
            return GONE
        return OK
