"""HTTP long polling: one request waits for the packets of the server, another one brings those of the client."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, NamedTuple

from freshet.config import Bound
from freshet.dialects.socketio import engineio
from freshet.endpoints.responses import TOO_BIG, at_most
from freshet.endpoints.socketio.engine import EngineSession
from freshet.errors import Disconnect
from freshet.model.frame import Frame
from freshet.transports import stream

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
ReadBody = Callable[[Receive, int], Awaitable[bytes | None]]

UNKNOWN_SID, BAD_REQUEST = 1, 3
GONE = Frame(b"")  # no packet: the client of a poll went away


class PollResponse(NamedTuple):
    """code: Engine.IO's number for what was wrong; None: nothing was."""

    status: int
    body: bytes
    code: int | None = None


def too_big(bound: Bound) -> PollResponse:
    return PollResponse(TOO_BIG, at_most(bound).strip().encode(), BAD_REQUEST)


async def poll(session: EngineSession, receive: Receive) -> PollResponse | None:
    """What waits for a client, when there is something. None: it went away meanwhile, and its session with it.

    A client whose session ended, and that is to come back, is refused as it will be with its next poll.
    """
    if session.socket is not None:
        return PollResponse(400, b"the session has become a WebSocket", BAD_REQUEST)
    if session.poll is not None:
        session.close(Disconnect.bad_request("two polls at once"))
        return PollResponse(400, b"another poll is waiting", BAD_REQUEST)
    last = None
    frames = session.take_portion()
    if not frames:
        if session.probing:
            return PollResponse(200, engineio.body([engineio.NOOP]))
        waiting = session.poll = asyncio.get_running_loop().create_future()
        ignore = stream.resolve_when_gone(receive, waiting, GONE, session.host.tasks)
        try:
            last = await waiting
        finally:
            session.poll = None
            ignore()
        if last is GONE:
            session.end(Disconnect.normal())
            return None
        frames = [*session.take_portion(), last] if last is not None else session.take_portion()
        if not frames and session.ended is not None:
            return PollResponse(400, b"Session ID unknown", UNKNOWN_SID)
    return PollResponse(200, engineio.body(frames or [engineio.NOOP]))


async def _take(session: EngineSession, body: bytes) -> None:
    """Let a session have the packets of a body, as it takes them. Raises `Disconnect`."""
    for number, frame in enumerate(engineio.packets(body), 1):
        session.receive(frame)
        while session.messages.backlog_full and session.ended is None:
            session.room = asyncio.get_running_loop().create_future()
            await session.room
        if session.ended is not None:
            return
        if number % session.host.limits.backlog == 0:
            await asyncio.sleep(0)  # other clients have their turn


async def post(session: EngineSession, receive: Receive, read_body: ReadBody) -> PollResponse:
    """Take what a client says. It is answered once the client's sessions have room for more."""
    if session.socket is not None:
        return PollResponse(400, b"the session has become a WebSocket", BAD_REQUEST)
    if session.posting:
        session.close(Disconnect.bad_request("two posts at once"))
        return PollResponse(400, b"another post is under way", BAD_REQUEST)
    session.posting = True
    try:
        data = await read_body(receive, session.host.limits.packet_size)
        if data is None:
            return too_big(session.host.limits.packet)
        try:
            await _take(session, data)
        except Disconnect as why:
            session.close(why)
            return PollResponse(400, why.reason.encode(), BAD_REQUEST)
        return PollResponse(200, b"ok")
    finally:
        session.posting = False
