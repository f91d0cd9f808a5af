"""The other end of the AI SDK's `WebSocketChatTransport`: many requests on one WebSocket, each with a stream of chunks.

Its frames are JSON texts: `send`, `resume` and `abort` come in; `start`, `chunk`, `end`, `error` and `no-active` go
out. An `abort` of what the socket itself has begun stops the run, which is what `stop()` of `useChat` means; of what it
resumed, it ends this stream alone. A socket that is closed stops nothing.

Source: `packages/ai/src/ui/websocket-chat-transport.ts` of vercel/ai, version 7.
"""

import asyncio
from itertools import count
from typing import Any

import msgspec
from starlette.types import Receive, Scope, Send

from freshet.endpoints.ai.ai_sdk import UiMessageStream, dialect_for
from freshet.endpoints.ai.streams import NOTHING_RUNS, Once, Progress, RunsDoor, command, end_soon
from freshet.errors import Disconnect
from freshet.model.frame import Frame, Handshake
from freshet.runtime.tasks import begin
from freshet.session.session import Session

REQUESTS = 32  # of one socket at a time
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


class ChatSocket:
    """One socket. name: of the channels, before the colon."""

    def __init__(self, door: RunsDoor, name: str, request: Handshake, send: Send) -> None:
        self._door = door
        self._name = name
        self._request = request
        self._send = send
        self._sessions: dict[str, tuple[Session, SocketChunks | Once]] = {}
        self._errands = count()
        self._task: asyncio.Task[None] | None = None
        self._answers: list[dict[str, Any]] = []

    async def converse(self, receive: Receive) -> None:
        try:
            while (message := await receive())["type"] == "websocket.receive":
                self._take(message.get("text") or "")
                if self._task is not None and len(self._answers) > REQUESTS:
                    await asyncio.wait([self._task])  # whoever does not read what is answered is not read
        finally:
            if self._task is not None:
                self._task.cancel()
            for session, _ in list(self._sessions.values()):
                session.end(Disconnect.normal())

    def _take(self, text: str) -> None:
        try:
            frame = msgspec.json.decode(text, type=dict[str, Any])
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
            body = {**(frame.get("body") or {}), **{key: frame[key] for key in BODY if key in frame}}
            dialect = UiMessageStream(f"{self._name}:{frame['id']}") if resumes else dialect_for(self._name, body)
        except (ValueError, KeyError, TypeError) as why:
            self._answers.append({"type": "error", "requestId": request, "errorText": str(why)})
            self._wake()
            return
        self._open(request, SocketChunks(dialect, request, resumes=resumes))

    def _abort(self, request: str) -> None:
        if request not in self._sessions:
            return
        session, dialect = self._sessions.pop(request)
        session.end(Disconnect.normal())
        if isinstance(dialect, SocketChunks) and not dialect.resumes and not dialect.is_over:
            asked = command(stop=dialect.run, reason="user")
            self._open(f"\0{next(self._errands)}", Once(dialect.channel, "-", asked))

    def _open(self, request: str, dialect: SocketChunks | Once) -> None:
        session = self._door.dispatcher.open(dialect, self._request)
        self._sessions[request] = session, dialect
        dialect.ended = lambda: end_soon([session])
        session.outbox.attach(self._wake)
        session.open()

    # -------------------------------------------------------------------------------------------------------- going out

    def _wake(self) -> None:
        if self._task is None:
            self._task = begin(self._write())
            self._door.dispatcher.node.tasks.hold(self._task)

    async def _write(self) -> None:
        task = self._task
        try:
            while frames := self._due():
                for frame in frames:
                    await self._send({"type": "websocket.send", "text": frame.decode()})
        except Exception:  # servers differ in what they raise when the client is gone; receive() says so too
            self._answers.clear()
        finally:
            if task is not None:
                self._door.dispatcher.node.tasks.release(task)
            self._task = None

    def _due(self) -> list[bytes]:
        answers, self._answers = self._answers, []
        due = [encode(answer) for answer in answers]
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
    def __init__(self, door: RunsDoor) -> None:
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = await self._door.request(scope, receive, send)
        if request is None:
            return
        await receive()  # websocket.connect
        await send({"type": "websocket.accept"})
        await ChatSocket(self._door, scope["path_params"]["name"], request, send).converse(receive)
