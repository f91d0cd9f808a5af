"""The Centrifugal protocol over HTTP: replies and pushes go by a stream, commands come by requests of their own.

Those may reach any node: they name the one that has the session. Nothing needs sticky sessions.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from freshet.commands.dispatch import Dispatcher
from freshet.dialects.base import Dialect
from freshet.dialects.centrifuge import json, protobuf
from freshet.dialects.event_stream import COMMENT, stream_event
from freshet.endpoints.opening import Opening
from freshet.endpoints.responses import TOO_BIG, at_most, cors, plain, raw
from freshet.errors import Disconnect, EngineUnavailable
from freshet.model.commands import Connect, Subscribe
from freshet.model.frame import Frame, Handshake
from freshet.session.session import Session
from freshet.transports import stream
from freshet.transports.stream import AcceptedStream

TIMEOUT = 5.0  # seconds that commands wait for those before them
PAUSE = 0.02
POST = "post"
NO_SESSION = 404, "No such session: it is over, connect again.\n"
PORTION = 256 * 1024  # bytes of commands that are passed on at once
ENVELOPE = 1024  # bytes of a request beside the commands
ESCAPED = 3  # times as long, at most, are commands as a string in JSON: some libraries write `é` in six bytes

ENVELOPED = stream.Form(b"text/event-stream", lambda frame: stream_event(frame.data), COMMENT, name="sse")
"""Each frame of a dialect that knows no events is the data of one."""

Select = Callable[[Handshake], tuple[Dialect, stream.Form]]


class StreamEndpoint:
    """Opens a session over a stream. select: the dialect, and how its frames are laid into the stream.

    The commands that open it are the body of a `POST`, or `?cf_connect=` of a `GET`.
    """

    def __init__(self, opening: Opening, dispatcher: Dispatcher, select: Select) -> None:
        self._opening = opening
        self._dispatcher = dispatcher
        self._select = select

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        accepted = await self.reply(scope, receive)
        if isinstance(accepted, Response):
            await accepted(scope, receive, send)
        else:
            await stream.carry_stream(accepted, scope, receive, send)

    async def reply(self, scope: Scope, receive: Receive) -> Response | AcceptedStream:
        """What becomes of a request, whoever carries it."""
        request = self._opening.examine(scope)
        if isinstance(request, Response):
            return request
        allow, bound = cors(request), self._dispatcher.limits.frame
        if scope["method"] == "POST":
            commands = await self._dispatcher.read_body(receive, bound.size)
        else:
            commands = request.query.get("cf_connect", "").encode()
        if commands is None or len(commands) > bound.size:
            self._dispatcher.too_big("/connection", bound)
            return plain(TOO_BIG, at_most(bound), allow)
        if not commands:
            return plain(400, "Expected a connect command.\n", allow)
        dialect, form = self._select(request)
        if scope["method"] != "POST" and not _only_reads(dialect, commands):
            return plain(400, "A GET may connect and subscribe; send the other commands behind it.\n", allow)
        session = self._dispatcher.open(dialect, request, posts=True)
        session.receive(Frame(commands, binary=True))  # no transport has looked whether it is UTF-8
        return AcceptedStream(session, form, raw(allow))


def _only_reads(dialect: Dialect, commands: bytes) -> bool:
    """Whether nothing is changed by them: a page of a stranger can have a GET made with a user's cookies."""
    try:
        return all(type(command) in (Connect, Subscribe) for command in dialect.receive(Frame(commands)))
    except Disconnect:
        return True  # which the session says


class _Emulation(msgspec.Struct):
    """The body of a request in JSON. data: commands, one a line."""

    node: str
    session: str
    data: str


class _Posted(NamedTuple):
    """The same of either encoding: commands for a session of a node."""

    node: str
    session: str
    data: bytes


def _decode(body: bytes, binary: bool) -> _Posted:
    """Raises ValueError or RecursionError when the body is none of that encoding."""
    if binary:
        message = protobuf.parse_emulation(body)
        return _Posted(message.node, message.session, message.data)
    decoded = msgspec.json.decode(body, type=_Emulation)
    return _Posted(decoded.node, decoded.session, decoded.data.encode())


class _PassedCommands(msgspec.Struct, array_like=True):
    """A client's commands, from the node that its request reached to the one that has its session."""

    session: str
    data: bytes
    binary: bool


class EmulationEndpoint:
    """Takes the commands of a stream's client: 204 when they are on their way, otherwise why not.

    What belongs to a session of another node is passed on to it.
    """

    def __init__(self, opening: Opening, dispatcher: Dispatcher) -> None:
        self._opening = opening
        self._dispatcher = dispatcher
        self._node = dispatcher.node
        self._bound = dispatcher.limits.frame
        self._waiting: Counter[Session] = Counter()  # bytes of each session's requests that wait
        self._node.bus.handlers[POST] = self._handle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (await self.reply(scope, receive))(scope, receive, send)

    async def reply(self, scope: Scope, receive: Receive) -> Response:
        """The answer, whoever carries it."""
        request = self._opening.examine(scope, admit=False)
        if isinstance(request, Response):
            return request
        binary = request.headers.get("content-type") == "application/octet-stream"
        status, text = await self._take(receive, binary, request.client)
        if status == TOO_BIG:
            self._dispatcher.too_big("/emulation", self._bound)
        return plain(status, text, cors(request)) if text else Response(None, status, cors(request))

    async def _take(self, receive: Receive, binary: bool, client: str) -> tuple[int, str]:
        body = await self._dispatcher.read_body(receive, ENVELOPE + self._bound.size * (1 if binary else ESCAPED))
        if body is None:
            return TOO_BIG, at_most(self._bound)
        try:
            posted = _decode(body, binary)
        except (ValueError, RecursionError) as error:
            return 400, f"Expected node, session and data: {error}.\n"
        if len(posted.data) > self._bound.size:
            return TOO_BIG, at_most(self._bound)
        if self._node.bus.may_reach(posted.node):
            if status := self._node.passed_on.refusal(client):
                return status, "Too many requests are waiting: try again.\n"
            with self._node.passed_on.one(client):
                return await self._pass_on(posted, binary)
        commands = _PassedCommands(posted.session, posted.data, binary)
        return await self._give(commands) if posted.node == self._node.id else NO_SESSION

    async def _give(self, it: _PassedCommands) -> tuple[int, str]:
        session = self._node.registry.posting(it.session)
        if session is None:
            return NO_SESSION
        if session.backlog_full and not await self._has_room(session, len(it.data)):
            return 429, "The commands before these are not done yet: try again.\n"
        session.receive(Frame(it.data, binary=it.binary))
        return 204, ""

    async def _pass_on(self, posted: _Posted, binary: bool) -> tuple[int, str]:
        """By as many messages as it takes: a broker has a limit for each."""
        answer = 204, ""
        for data in (protobuf if binary else json).portions(posted.data, PORTION):
            message = msgspec.msgpack.encode(_PassedCommands(posted.session, data, binary))
            try:
                reply = await self._node.bus.request(posted.node, POST, message, TIMEOUT + 1)
            except EngineUnavailable as why:
                return 503, f"The session's node cannot be reached: {why}.\n"
            answer = msgspec.msgpack.decode(reply, type=tuple[int, str])
            if answer[0] != 204:
                break
        return answer

    async def _handle(self, body: bytes) -> bytes:
        return msgspec.msgpack.encode(await self._give(msgspec.msgpack.decode(body, type=_PassedCommands)))

    async def _has_room(self, session: Session, size: int) -> bool:
        """Whether the session takes so many bytes more, in a while at most. All that wait are no more than a frame."""
        if self._waiting[session] + size > self._bound.size:
            return False
        self._waiting[session] += size
        try:
            for _ in range(round(TIMEOUT / PAUSE)):
                await asyncio.sleep(PAUSE)
                if not session.backlog_full:
                    return True
            return False
        finally:
            self._waiting[session] -= size
            if not self._waiting[session]:
                del self._waiting[session]
