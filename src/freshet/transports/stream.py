"""Sessions over HTTP, on any ASGI server: a response that does not end (HTTP streaming, server-sent events), or one
that is complete once there is enough for it (long polling).

What the client says comes by requests of its own. The call lasts until the client is gone; there is no task that waits
to write: one is made when the outbox has something, and ends when it is empty.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeVar

from starlette.responses import Response

from freshet.errors import Disconnect
from freshet.model.events import Disconnected
from freshet.model.frame import Batch, Frame
from freshet.runtime.tasks import Tasks, begin
from freshet.session.outbox import LITTLE, Turn
from freshet.session.session import Session

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]
T = TypeVar("T")

STREAM = "freshet.stream"
"""The key in an ASGI scope's extensions of what lets a session have the socket, where Freshet serves."""

LOOKS_AGAIN = 0.05  # seconds, whether what a response waits for has begun
SMALL_BODY = 64 * 1024  # bytes of a body that any number of clients may send at a time


class Laid(NamedTuple):
    """A frame as it is laid into a stream. chunk: the same as HTTP/1.1 has it."""

    body: bytes
    chunk: bytes


@dataclass(frozen=True, eq=False, slots=True)
class Form:
    """How frames are laid into a stream. name: of the transport, in metrics.

    first: bytes that make a proxy pass on the head at once. by_status: a session that ends before its client got
    anything leaves the response to the caller, which can say why by its status; otherwise the stream says it.
    """

    media_type: bytes
    wrap: Callable[[Frame], bytes]
    first: bytes = b""
    by_status: bool = False
    name: str = "http_stream"

    def lay(self, frame: Frame) -> Laid:
        """What goes into the stream for a frame, or for all of a batch; made once, and kept for all who get it."""
        if frame.laid is None:
            frame.laid = {}
        laid: Laid | None = frame.laid.get(self)
        if laid is None:
            body = b"".join(map(self.wrap, frame.parts)) if type(frame) is Batch else self.wrap(frame)
            laid = frame.laid[self] = Laid(body, chunk(body))
        return laid


def chunk(body: bytes) -> bytes:
    """RFC 9112, 7.1: `chunk = chunk-size [ chunk-ext ] CRLF chunk-data CRLF`. An empty one would be the last."""
    return b"%x\r\n%b\r\n" % (len(body), body) if body else b""


LAST_CHUNK = b"0\r\n\r\n"


LINES = Form(b"application/json", lambda frame: frame.data + b"\n")
MESSAGES = Form(b"application/octet-stream", lambda frame: frame.data)
EVENTS = Form(b"text/event-stream", lambda frame: frame.data, by_status=True, name="sse")

UNBUFFERED = [
    (b"cache-control", b"no-cache, no-store, no-transform"),
    (b"x-accel-buffering", b"no"),
]


class AcceptedStream(NamedTuple):
    """What an endpoint makes of a request for a stream. The commands that open the session have been given to it.

    headers: of the response, beside those of every stream. refuse: the response for a session that ended before its
    client got anything; None: the stream says why.
    """

    session: Session
    form: Form
    headers: Headers
    refuse: Callable[[Disconnect], Response] | None = None


async def carry_stream(accepted: AcceptedStream, scope: Message, receive: Receive, send: Send) -> None:
    """Let a session have the socket where Freshet serves, or carry it by ASGI messages until one of the two ends it."""
    take_over = scope.get("extensions", {}).get(STREAM)
    if take_over is not None and take_over(accepted, send):
        return
    session, form, headers, refuse = accepted
    why = await converse(session, form, headers, receive, send)
    if why is not None and refuse is not None:
        await refuse(why)(scope, receive, send)


async def converse(session: Session, form: Form, headers: Headers, receive: Receive, send: Send) -> Disconnect | None:
    """Carry the session until one of the two ends it. The commands that open it have been given to it.

    The answer, where nothing was sent, is why: a response with a status of its own may say so.
    """
    reader = asyncio.current_task()
    assert reader is not None
    writer = _Writer(session, form, headers, send, reader)
    session.outbox.attach(writer.wake, form.name)
    try:
        while (await receive())["type"] != "http.disconnect":
            pass
    except asyncio.CancelledError:
        if not writer.ended:
            raise
        reader.uncancel()  # it was our own: what is around this call must not take it for theirs
    finally:
        writer.stop()
        session.outbox.detach()
        session.end(Disconnect.normal())
    return None if writer.began else session.outbox.closed


class _Writer:
    """began: the head of the response is sent. ended: this side is done. slot: in the wheel."""

    __slots__ = ("_form", "_headers", "_reader", "_send", "_session", "_task", "began", "ended", "slot")

    def __init__(self, session: Session, form: Form, headers: Headers, send: Send, reader: asyncio.Task[Any]) -> None:
        self._session = session
        self._form = form
        self._headers = headers
        self._send = send
        self._reader = reader
        self._task: asyncio.Task[None] | None = None
        self.began = False
        self.ended = False
        self.slot = -1

    def wake(self) -> None:
        host = self._session.host
        if self._task is None and not self.ended:
            self._task = begin(self._write())
            host.tasks.hold(self._task)
        elif self._session.outbox.closed and self.slot < 0:  # a client that does not read: it may never hear of it
            host.wheel.schedule(self, host.timing.close_timeout)

    def visit(self, now: float) -> float:
        """The wheel: the client has not read the end in time. The response is the server's to cut."""
        if self._session.outbox.closed and not self.ended:
            self._session.end(self._session.outbox.closed)
        return 0

    async def _write(self) -> None:
        outbox = self._session.outbox
        try:
            while frames := outbox.take_piece():
                await self._chunk(b"".join([self._form.lay(frame).body for frame in frames]))
            if outbox.closed and not self.ended:
                await self._farewell(outbox.closed)
        except Exception:  # servers differ in what they raise when the client is gone; receive() says so too
            self.ended = True
            outbox.close(Disconnect.normal())
        finally:
            self._release()
        if self.ended:
            self._reader.cancel()

    async def _farewell(self, why: Disconnect) -> None:
        farewell = self._session.dialect.encode(Disconnected(why.code, why.reason))
        if farewell is not None and (self.began or not self._form.by_status):
            await self._chunk(self._form.lay(farewell).body)
        self.ended = True
        if self.began:
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _chunk(self, data: bytes) -> None:
        if not self.began:
            self.began = True
            headers = [(b"content-type", self._form.media_type), *UNBUFFERED, *self._headers]
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})
            data = self._form.first + data
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    def stop(self) -> None:
        if self._task is not None and not self.ended:
            self._task.cancel()
            self._release()  # it may not have begun
        self.ended = True
        self._session.host.wheel.cancel(self)

    def _release(self) -> None:
        if self._task is not None:
            self._session.host.tasks.release(self._task)
            self._task = None


async def collect(
    session: Session,
    receive: Receive,
    wait: float,
    enough: Callable[[list[Frame]], bool],
    *,
    begun: Callable[[], bool] = lambda: True,
    begins_within: float = 0.0,
) -> list[Frame] | Disconnect:
    """The frames for a session, for a response that does end: what is enough, or what there is after `wait` seconds.

    begun: whether anything can come yet; if not by then, it may take until `begins_within` seconds are over: a hook may
    need longer than a client wants to wait for news. A `Disconnect` is why there is nothing.
    """
    collecting = _Collecting(session, enough, begun, begins_within=max(wait, begins_within))
    session.outbox.attach(collecting, "http")
    ignore = resolve_when_gone(receive, collecting.done, None, session.host.tasks)
    collecting.look_in(wait)
    try:
        await collecting.done
    finally:
        collecting.timer.cancel()
        ignore()
        closed = session.outbox.closed
        session.outbox.detach()
        session.end(Disconnect.normal())
    return collecting.frames or closed or Disconnect.normal()


class _Collecting:
    """done: there is enough, or nothing more is waited for. timer: looks whether it is."""

    __slots__ = ("_begun", "_enough", "_latest", "_session", "done", "frames", "timer")

    def __init__(
        self,
        session: Session,
        enough: Callable[[list[Frame]], bool],
        begun: Callable[[], bool],
        *,
        begins_within: float,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._session = session
        self._enough = enough
        self._begun = begun
        self._latest = loop.time() + begins_within
        self.frames: list[Frame] = []
        self.done: asyncio.Future[None] = loop.create_future()
        self.timer: asyncio.TimerHandle

    def __call__(self) -> None:
        """What the outbox calls."""
        outbox = self._session.outbox
        self.frames.extend(outbox.take())
        if outbox.closed or (self.frames and self._enough(self.frames)):
            _resolve(self.done, None)

    def look_in(self, seconds: float) -> None:
        self.timer = asyncio.get_running_loop().call_later(seconds, self._give_up)

    def _give_up(self) -> None:
        if self._begun() or asyncio.get_running_loop().time() >= self._latest:
            _resolve(self.done, None)
        else:
            self.look_in(LOOKS_AGAIN)


class Incoming:
    """`receive` of a request that is here as a whole: what ASGI asks for, without a task that waits for its end."""

    __slots__ = ("_body", "_gone", "_notify")

    def __init__(self, body: bytes) -> None:
        self._body: bytes | None = body
        self._gone = False
        self._notify: Callable[[], None] | None = None

    async def __call__(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.notify(partial(_resolve, gone, None))
        await gone
        return {"type": "http.disconnect"}

    def notify(self, notify: Callable[[], None] | None) -> None:
        """What is called when the client goes, or has gone; None: nothing is, any more."""
        self._notify = notify
        if self._gone and notify is not None:
            notify()

    def gone(self) -> None:
        """The client is no longer there."""
        self._gone = True
        if self._notify is not None:
            self._notify()


def resolve_when_gone(receive: Receive, answer: asyncio.Future[T], gone: T, tasks: Tasks) -> Callable[[], object]:
    """Let whoever awaits `answer` have `gone`, if the client of a request goes first. Gives what ends that."""
    if isinstance(receive, Incoming):
        receive.notify(partial(_resolve, answer, gone))
        return partial(receive.notify, None)
    return tasks.start(_resolve_when_gone(receive, answer, gone), "request: disconnect").cancel


async def client_gone(receive: Receive) -> None:
    """Until the client of a request is no longer there."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _resolve_when_gone(receive: Receive, answer: asyncio.Future[T], gone: T) -> None:
    try:
        await client_gone(receive)
    finally:
        _resolve(answer, gone)


def _resolve(answer: asyncio.Future[T], result: T) -> None:
    if not answer.done():
        answer.set_result(result)


class NoRoom(Exception):
    """So many large bodies are being read that this one has to come later."""


class CutShort(Exception):
    """The client went within the body of its request: nothing of it counts, and nobody is there to answer."""


class Bodies:
    """The bodies that are being read, of nobody knows whom yet.

    most: bytes of those that are not small, in all. turn: what admits those that are not little.
    """

    def __init__(self, most: int, turn: Turn) -> None:
        self._most = most
        self._turn = turn
        self._held = 0

    async def read(self, receive: Receive, limit: int) -> bytes | None:
        """A request's body; None when it is larger than `limit` bytes.

        Raises `NoRoom`, before anything is answered, and `CutShort`.
        """
        chunks: list[bytes] = []
        size = counted = 0
        try:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise CutShort
                chunk = message.get("body", b"")
                size += len(chunk)
                if size > limit:
                    return None
                if size > SMALL_BODY:
                    self._held += size - counted
                    counted = size
                    if self._held > self._most:
                        raise NoRoom
                chunks.append(chunk)
                if not message.get("more_body"):
                    if size > LITTLE:
                        await self._turn.admitted(size)
                    return b"".join(chunks)
        finally:
            self._held -= counted
