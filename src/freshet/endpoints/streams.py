"""The Centrifugal protocol over HTTP: a stream tells the client, and its commands come by requests of their own.

Those may reach any node: they name the one that has the session. Nothing needs sticky sessions.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import msgspec
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from freshet.dialects.base import Dialect
from freshet.dialects.centrifuge.protobuf import EMULATION
from freshet.dialects.centrifuge.wire import decode
from freshet.endpoints.opening import cors, handshake_of, plain, raw, turned_away
from freshet.endpoints.socketio.polling import read
from freshet.errors import EngineUnavailable
from freshet.model.frame import Frame
from freshet.node.node import Node
from freshet.policy import origin
from freshet.session.session import Session
from freshet.transports import stream

PATIENCE = 5.0  # seconds that commands wait for those before them
PAUSE = 0.02
VERB = "post"
NO_SESSION = 404, "No such session: it is over, connect again.\n"
WAITING = 16  # requests of one client that wait; more are refused at once

Select = Callable[[Headers], tuple[Dialect, stream.Form]]


class StreamEndpoint:
    """Opens a session over a stream. select: the dialect, and how its frames are laid into the stream.

    The commands that open it are the body of a `POST`, or `?cf_connect=` of a `GET`.
    """

    def __init__(self, node: Node, select: Select) -> None:
        self._node = node
        self._select = select

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        if not origin.allowed(headers.get("origin"), headers.get("host"), self._node.config.origins):
            await plain(403, origin.REFUSAL)(scope, receive, send)
            return
        allow = cors(headers)
        if scope["method"] == "OPTIONS":
            await Response(None, 204, allow)(scope, receive, send)
            return
        if await turned_away(self._node, scope, receive, send, allow):
            return
        request = handshake_of(scope, headers)
        limit = self._node.limits.message_size
        opening = (
            await read(receive, limit) if scope["method"] == "POST" else request.query.get("cf_connect", "").encode()
        )
        if opening is None or len(opening) > limit:
            await plain(413, f"At most {limit} bytes.\n", allow)(scope, receive, send)
            return
        if not opening:
            await plain(400, "Expected a connect command.\n", allow)(scope, receive, send)
            return
        dialect, form = self._select(headers)
        session = self._node.open(dialect, request, posts=True)
        session.receive(Frame(opening, binary=form is stream.MESSAGES))
        await stream.converse(session, form, raw(allow), receive, send)


class _Emulation(msgspec.Struct):
    node: str
    session: str
    data: str


class _Posted(NamedTuple):
    """The same in Protobuf."""

    node: str = ""
    session: str = ""
    data: bytes = b""


class _Passed(msgspec.Struct, array_like=True):
    """What a client said, from the node that its request reached to the one that has its session."""

    session: str
    data: bytes
    binary: bool


class EmulationEndpoint:
    """Takes what the client of a stream says: 204 when it is on its way, otherwise why not.

    What belongs to a session of another node is passed on to it.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._waiting: Counter[Session] = Counter()
        node.peers.verbs[VERB] = self._taken_here

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        if not origin.allowed(headers.get("origin"), headers.get("host"), self._node.config.origins):
            await plain(403, origin.REFUSAL)(scope, receive, send)
            return
        allow = cors(headers)
        binary = headers.get("content-type") == "application/octet-stream"
        status, text = (204, "") if scope["method"] == "OPTIONS" else await self._take(receive, binary)
        answer = plain(status, text, allow) if text else Response(None, status, allow)
        await answer(scope, receive, send)

    async def _take(self, receive: Receive, binary: bool) -> tuple[int, str]:
        limit = self._node.limits.message_size
        body = await read(receive, limit + 1024)
        if body is None:
            return 413, f"At most {limit} bytes.\n"
        try:
            said: _Posted | _Emulation
            said = _Posted(**decode(EMULATION, body)) if binary else msgspec.json.decode(body, type=_Emulation)
        except (ValueError, RecursionError) as error:
            return 400, f"Expected node, session and data: {error}.\n"
        data = said.data if isinstance(said.data, bytes) else said.data.encode()
        if self._node.peers.knows(said.node):
            return await self._passed_on(said.node, _Passed(said.session, data, binary))
        return await self._give(_Passed(said.session, data, binary)) if said.node == self._node.id else NO_SESSION

    async def _give(self, it: _Passed) -> tuple[int, str]:
        session = self._node.posting(it.session)
        if session is None:
            return NO_SESSION
        if session.congested and not await self._room(session):
            return 429, "The commands before these are not done yet: try again.\n"
        session.receive(Frame(it.data, binary=it.binary))
        return 204, ""

    async def _passed_on(self, node: str, it: _Passed) -> tuple[int, str]:
        try:
            answer = await self._node.peers.ask(node, VERB, msgspec.msgpack.encode(it), PATIENCE + 1)
        except EngineUnavailable as why:
            return 503, f"The session's node cannot be reached: {why}.\n"
        return msgspec.msgpack.decode(answer, type=tuple[int, str])

    async def _taken_here(self, body: bytes, gone: asyncio.Event) -> bytes:
        return msgspec.msgpack.encode(await self._give(msgspec.msgpack.decode(body, type=_Passed)))

    async def _room(self, session: Session) -> bool:
        """Whether the session takes more, in a while at most."""
        if self._waiting[session] >= WAITING:
            return False
        self._waiting[session] += 1
        try:
            for _ in range(round(PATIENCE / PAUSE)):
                await asyncio.sleep(PAUSE)
                if not session.congested:
                    return True
            return False
        finally:
            self._waiting[session] -= 1
            if not self._waiting[session]:
                del self._waiting[session]
