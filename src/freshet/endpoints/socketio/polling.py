"""HTTP long polling: a request that waits brings what is to be told, another one what the client says."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, NamedTuple

from freshet.dialects.socketio import engineio
from freshet.endpoints.socketio.engine import Line
from freshet.errors import Disconnect

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]

BAD_REQUEST = 3


class Response(NamedTuple):
    """code: Engine.IO's number for what was wrong; None: nothing was."""

    status: int
    body: bytes
    code: int | None = None


async def poll(line: Line, receive: Receive) -> Response | None:
    """What waits for a client, when there is something. None: it went away meanwhile, and its line with it."""
    if line.socket is not None:
        return Response(400, b"the line has become a WebSocket", BAD_REQUEST)
    if line.poll is not None:
        line.close(Disconnect.bad_request("two polls at once"))
        return Response(400, b"another poll is waiting", BAD_REQUEST)
    last = None
    frames = line.portion()
    if not frames:
        if line.probing:
            return Response(200, engineio.body([engineio.NOOP]))
        waiting = line.poll = asyncio.get_running_loop().create_future()
        left = asyncio.get_running_loop().create_task(gone(receive))
        try:
            await asyncio.wait((waiting, left), return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                line.end(Disconnect.normal())
                return None
            last = waiting.result()
        finally:
            line.poll = None
            left.cancel()
        frames = [*line.portion(), last] if last is not None else line.portion()
    return Response(200, engineio.body(frames or [engineio.NOOP]))


async def gone(receive: Receive) -> None:
    """Until the client of a request is no longer there."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def post(line: Line, receive: Receive) -> Response:
    """Take what a client says. It is answered once the client's sessions have room for more."""
    if line.socket is not None:
        return Response(400, b"the line has become a WebSocket", BAD_REQUEST)
    if line.posting:
        line.close(Disconnect.bad_request("two posts at once"))
        return Response(400, b"another post is under way", BAD_REQUEST)
    line.posting = True
    try:
        data = await read(receive, line.host.limits.message_size)
        if data is None:
            return Response(413, b"at most %d bytes" % line.host.limits.message_size, BAD_REQUEST)
        try:
            frames = engineio.packets(data)
        except Disconnect as why:
            line.close(why)
            return Response(400, why.reason.encode(), BAD_REQUEST)
        for frame in frames:
            line.receive(frame)
        while line.upper.congested and line.ended is None:
            line.room = asyncio.get_running_loop().create_future()
            await line.room
        return Response(200, b"ok")
    finally:
        line.posting = False


async def read(receive: Receive, limit: int) -> bytes | None:
    """A request's body; None when it is larger than `limit` bytes."""
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return b""
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            return None
        chunks.append(chunk)
        if not message.get("more_body"):
            return b"".join(chunks)
