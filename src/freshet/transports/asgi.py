"""A session over any ASGI server's WebSocket messages.

The server's call is the reader. There is no task that waits to write: one is made when an outbox has something, and
ends when it is empty.
"""

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from freshet.dialects.base import HEARTBEAT
from freshet.errors import Disconnect, closed_by_client
from freshet.model.frame import Frame, unbatched
from freshet.observe.logs import BoundedLog
from freshet.runtime.rates import ReadingPace
from freshet.runtime.tasks import begin
from freshet.session.carried import Carried
from freshet.session.outbox import LITTLE

KIB = 1024
AT_ONCE = 64  # messages of one client before others have their turn
CUT_OFF = 1006  # RFC 6455, 7.1.5: the connection was lost
ALLOWANCE = 64  # messages that a client may send before its rate is looked at; each KiB counts as one

_log = BoundedLog(logging.getLogger("freshet.limits"))

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


async def converse(session: Carried, subprotocol: str | None, receive: Receive, send: Send) -> None:
    """Accept the WebSocket, and carry the session until one of the two ends it."""
    reader = asyncio.current_task()
    assert reader is not None
    shell = _Shell(session, send, reader)
    code: int | None = CUT_OFF
    try:
        await receive()  # websocket.connect
        await send({"type": "websocket.accept", "subprotocol": subprotocol})
        session.outbox.attach(shell.wake, "websocket")
        session.open()
        while (message := await receive())["type"] == "websocket.receive":
            await shell.receive(message)
        code = message.get("code")
    except asyncio.CancelledError:
        why = shell.close_reason
        if why is None:
            raise
        reader.uncancel()  # it was our own: what is around this call must not take it for theirs
        await send({"type": "websocket.close", "code": why.code, "reason": why.reason})
    finally:
        shell.stop()
        session.end(closed_by_client(code))


class _Shell:
    """close_reason: why this side ends it. The reader says so: some servers close only once nobody reads any more."""

    __slots__ = (
        "_allowance",
        "_ended",
        "_pace",
        "_reader",
        "_received",
        "_room",
        "_send",
        "_session",
        "_writer",
        "close_reason",
    )

    def __init__(self, session: Carried, send: Send, reader: asyncio.Task[Any]) -> None:
        self.close_reason: Disconnect | None = None
        self._reader = reader
        self._session = session
        self._send = send
        self._writer: asyncio.Task[None] | None = None
        self._room: asyncio.Event | None = None  # someone waits until the session takes more
        self._ended = False
        self._received = 0  # messages
        self._allowance = ALLOWANCE
        self._pace: ReadingPace | None = None

    async def receive(self, message: Message) -> None:
        text = message.get("text")
        frame = Frame(text.encode()) if text is not None else Frame(message.get("bytes") or b"", binary=True)
        if len(frame.data) > (largest := self._session.largest).size:
            self._session.close(Disconnect.too_big(*largest))
            return
        if len(frame.data) > LITTLE:
            await self._session.outbox.turn.admitted(len(frame.data))
        self._session.receive(frame)
        self._received += 1
        if not self._received % AT_ONCE:
            await asyncio.sleep(0)  # a server that has many messages may give them without a turn for others
        self._allowance -= 1 + len(frame.data) // KIB
        if self._allowance < 0:
            await self._pause()
        while self._session.backlog_full and not self._ended:
            self._room = asyncio.Event()
            await self._room.wait()

    async def _pause(self) -> None:
        """Until it may send more; see the option `rates.frames`."""
        host = self._session.host
        if host.frames is None:
            self._allowance = sys.maxsize
            return
        if self._pace is None:
            self._pace = ReadingPace(host.frames)
        while wait := self._pace.wait(ALLOWANCE - self._allowance, host.wheel.clock.monotonic()):
            _log.warning(
                "paced", "%r sends too much, it is read more slowly: see the option rates.frames", self._session
            )
            if self._pace.goes_on:
                self._session.close(Disconnect.too_many_errors())
                return
            await asyncio.sleep(wait)
        self._allowance = ALLOWANCE

    def wake(self) -> None:
        if self._room is not None:
            self._room.set()
        if self._writer is None and not self._ended:
            self._writer = begin(self._write())
            self._session.host.tasks.hold(self._writer)

    async def _write(self) -> None:
        outbox = self._session.outbox
        try:
            while frames := unbatched(outbox.take_piece()):
                for frame in frames:
                    await self._write_one(frame)
            if outbox.closed and not self._ended:
                self._ended = True
                self.close_reason = outbox.closed
                self._reader.cancel()
        except Exception:  # servers differ in what they raise when the client is gone; receive() says so too
            self._ended = True
            outbox.close(Disconnect.normal())
        finally:
            self._release()

    async def _write_one(self, frame: Frame) -> None:
        if frame is HEARTBEAT:
            self._session.alive()  # ASGI has no pings: the server sends its own, and ends the call if none is answered
            return
        if frame.binary:
            await self._send({"type": "websocket.send", "bytes": frame.data})
        else:
            await self._send({"type": "websocket.send", "text": frame.data.decode()})
        if frame.tail is not None:
            await self._write_one(frame.tail)

    def stop(self) -> None:
        self._ended = True
        if self._writer is not None:
            self._writer.cancel()
            self._release()  # it may not have begun

    def _release(self) -> None:
        if self._writer is not None:
            self._session.host.tasks.release(self._writer)
            self._writer = None
