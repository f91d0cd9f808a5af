"""The other end of the AI SDK's `WebSocketChatTransport`: many requests on one WebSocket, each with a stream of chunks.

The socket has a session of its own, which has to connect in time, answers heartbeats and may be disconnected like any
other; each request has another one, whose frames go out through the socket's.

Its frames are JSON texts: `send`, `resume` and `abort` come in; `start`, `chunk`, `end`, `error` and `no-active` go
out. An `abort` of what the socket itself has begun stops the run, which is what `stop()` of `useChat` means; of what it
resumed, it ends this stream alone. A socket that is closed stops nothing.

Source: `packages/ai/src/ui/websocket-chat-transport.ts` of vercel/ai, version 7.
"""

from itertools import count
from typing import Any

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from freshet.dialects.base import HEARTBEAT, Dialect, disconnect_for
from freshet.endpoints.ai.ai_sdk import UiMessageStream, dialect_for
from freshet.endpoints.ai.door import RunsDoor, end_soon
from freshet.endpoints.ai.streams import NOTHING_RUNS, Once, Progress
from freshet.endpoints.responses import carry_websocket
from freshet.errors import Disconnect
from freshet.model.commands import Command, Connect
from freshet.model.events import Event, Heartbeat, Refused
from freshet.model.frame import SUBPROTOCOL, Frame, Handshake
from freshet.model.json_text import whole
from freshet.model.run_commands import publication_of
from freshet.node.owners import Site
from freshet.policy.base import Context
from freshet.session.session import Session
from freshet.transports.native import AcceptedSocket

REQUESTS = 32  # of one socket at a time
LONGEST = 256  # characters of a request's id, which stands in each frame of its answer
encode = msgspec.json.Encoder().encode


class SocketChunks(UiMessageStream):
    """A run as the frames of one request. Each ends with a line feed, so that they can be told apart."""

    __slots__ = ("_request", "_sequence", "begins", "resumes")
    kind = "ai_sdk_socket"

    def __init__(self, of: UiMessageStream, request: str, *, resumes: bool) -> None:
        super().__init__(of.channel, of.run, of.ask, of.approvals)
        self._request = request
        self._sequence = count()
        self.resumes = resumes
        self.begins = resumes

    def write(self, progress: Progress) -> bytes:
        frames: list[dict[str, Any]] = [{"type": "start"}] if self.begins else []
        self.begins = False
        frames += [{"type": "chunk", "sequence": next(self._sequence), "chunk": part} for part in progress.parts]
        return b"".join([encode({**frame, "requestId": self._request}) + b"\n" for frame in frames])

    def cut(self, reason: str) -> Frame:
        return Frame(encode({"type": "error", "requestId": self._request, "errorText": f"{reason}: try again"}) + b"\n")


class ChatFrame(Command, frozen=True):
    """What came on a socket: JSON, or what is not of this protocol."""

    data: bytes
    id: int = 2  # so that its client is told when it is refused


class ChatFrames(Dialect):
    """The socket itself, beside what its requests get."""

    __slots__ = ()
    name = "ai_sdk_socket"
    has_presence = False
    batches = True  # a frame may hold all messages of a chat

    def opened(self, request: Handshake) -> list[Command]:
        return [Connect(id=1, token=request.token, only=("",))]

    def receive(self, frame: Frame) -> list[Command]:
        return [] if frame.binary else [ChatFrame(frame.data)]

    def encode(self, event: Event) -> Frame | None:
        if type(event) is Heartbeat:
            return HEARTBEAT
        if type(event) is Refused:
            raise disconnect_for(event)
        return None


_FRAMES = ChatFrames()


class ChatSession(Session):
    """Of one socket."""

    __slots__ = ()

    record: "ChatSocket"

    def end(self, why: Disconnect) -> None:
        super().end(why)
        self.record.end()


class ChatSocket:
    """The requests of one socket. name: of the channels, before the colon."""

    def __init__(self, door: RunsDoor, name: str, request: Handshake) -> None:
        self._dispatcher = door.dispatcher
        self._name = name
        self._request = request
        self._sessions: dict[str, tuple[Session, SocketChunks | Once]] = {}
        self._errands = count()
        self._stalled = False  # the client has to read first
        self.session = self._dispatcher.open(_FRAMES, request, kind=ChatSession, record=self)

    def end(self) -> None:
        """The socket is gone. That stops no run."""
        sessions, self._sessions = self._sessions, {}
        for session, _ in sessions.values():
            session.end(Disconnect.normal())

    def take(self, data: bytes) -> None:
        try:
            frame = msgspec.json.decode(whole(data), type=dict[str, Any])
            request = str(frame["requestId"])
            kind = frame["type"]
        except (msgspec.MsgspecError, KeyError, RecursionError):
            return  # it is not of this protocol
        if kind == "abort":
            self._abort(request)
        elif kind in ("send", "resume"):
            self._begin(request, frame, resumes=kind == "resume")

    def _begin(self, request: str, frame: dict[str, Any], *, resumes: bool) -> None:
        try:
            if len(self._sessions) >= REQUESTS or request in self._sessions:
                raise ValueError("too many requests at a time")
            if len(request) > LONGEST:
                raise ValueError(f"requestId: expected at most {LONGEST} characters")
            body = {**(frame.get("body") or {}), **{key: frame[key] for key in BODY if key in frame}}
            dialect = UiMessageStream(f"{self._name}:{frame['id']}") if resumes else dialect_for(self._name, body)
        except (ValueError, KeyError, TypeError) as why:
            refused = {"type": "error", "requestId": request, "errorText": str(why)}
            self.session.outbox.push(Frame(encode(refused)))
            return
        self._open(request, SocketChunks(dialect, request, resumes=resumes))

    def _abort(self, request: str) -> None:
        if request not in self._sessions:
            return
        session, dialect = self._sessions.pop(request)
        session.end(Disconnect.normal())
        if isinstance(dialect, SocketChunks) and not dialect.resumes and not dialect.is_over:
            asked = publication_of(stop=dialect.run, reason="user")
            self._open(f"\0{next(self._errands)}", Once(dialect.channel, asked))

    def _open(self, request: str, dialect: SocketChunks | Once) -> None:
        session = self._dispatcher.open(dialect, self._request)
        self._sessions[request] = session, dialect
        dialect.ended = lambda: end_soon([session])
        session.outbox.attach(self._pass_on)
        session.open()

    # -------------------------------------------------------------------------------------------------------- going out

    def _pass_on(self) -> None:
        """Something waits for one of its requests. While the socket has not taken what was before, it waits there."""
        outbox = self.session.outbox
        if self._stalled or outbox.closed:
            return
        if outbox.first is not None:
            self._stalled = True
            self._dispatcher.tasks.start(self._wait(), "ai: a client has to read")
            return
        outbox.replay([Frame(line) for line in self._due()])

    async def _wait(self) -> None:
        await self.session.outbox.drained()
        self._stalled = False
        self._pass_on()

    def _due(self) -> list[bytes]:
        due: list[bytes] = []
        for request, (session, dialect) in list(self._sessions.items()):
            frames = session.outbox.take()
            if isinstance(dialect, SocketChunks):
                due += [line for frame in frames for line in frame.data.split(b"\n") if line]
            if session.outbox.closed or (frames and isinstance(dialect, Once)):
                del self._sessions[request]
                session.end(Disconnect.normal())
                if isinstance(dialect, SocketChunks):
                    due.append(encode(_last(request, session.outbox.closed, dialect)))
        return due


BODY = ("id", "messages", "message", "trigger", "messageId")


def _last(request: str, why: Disconnect | None, dialect: SocketChunks) -> dict[str, Any]:
    if dialect.is_over:
        return {"type": "end", "requestId": request}
    if why is not None and why.reason == NOTHING_RUNS.reason:
        return {"type": "no-active", "requestId": request}
    return {"type": "error", "requestId": request, "errorText": why.reason if why is not None else "cut"}


class ChatSocketEndpoint:
    """Opens sockets."""

    def __init__(self, door: RunsDoor) -> None:
        self._door = door
        door.dispatcher.register(ChatFrame, self._take)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await carry_websocket(self.accept(scope), scope, receive, send)

    def accept(self, scope: Scope) -> AcceptedSocket | Response:
        """What becomes of a request, whoever carries it."""
        request = self._door.opening.examine(scope)
        if isinstance(request, Response):
            return request
        socket = ChatSocket(self._door, scope["path_params"]["name"], request)
        return AcceptedSocket(socket.session, SUBPROTOCOL if SUBPROTOCOL in request.subprotocols else None)

    def _take(self, node: Site, context: Context, asked: ChatFrame) -> None:
        session = context.session
        assert isinstance(session, ChatSession)
        session.record.take(asked.data)
