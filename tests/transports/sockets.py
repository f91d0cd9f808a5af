"""Both ends of a socket in one process: one for the transport under test, one for a client that the test plays."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from freshet.websocket.frames import CloseFrame, Decoder, Event, MessageLimits, Opcode, encode
from tests.tools.patience import seconds
from tests.websocket.peer import MASK

BUFFER = 16 * 1024  # bytes that each end of the kernel's buffers is asked for


def pair() -> tuple[socket.socket, socket.socket]:
    """Two ends that hold few bytes between them, so that a client that does not read is noticed soon."""
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setblocking(False)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
    return ours, theirs


class Peer:
    """The client's end: it reads only when the test says so."""

    def __init__(self, end: socket.socket, *, deflate: bool = False) -> None:
        self._end = end
        self._loop = asyncio.get_running_loop()
        limits = MessageLimits(frame=1 << 24, message=1 << 24)
        self._decoder = Decoder(limits, server=False, deflate=deflate)
        self._events: list[Event] = []

    async def write(self, data: bytes) -> None:
        async with asyncio.timeout(seconds(5)):
            await self._loop.sock_sendall(self._end, data)

    async def send(self, payload: bytes, opcode: Opcode = Opcode.TEXT, **options: Any) -> None:
        """One masked frame."""
        await self.write(encode(opcode, payload, mask=MASK, **options))

    async def read(self) -> bytes:
        """Some bytes; none: the other end is closed, or was cut."""
        async with asyncio.timeout(seconds(5)):
            try:
                return await self._loop.sock_recv(self._end, 1 << 16)
            except ConnectionResetError:
                return b""

    async def head(self) -> bytes:
        """Of an HTTP response, and what follows it of frames is kept for `next`."""
        data = b""
        while b"\r\n\r\n" not in data:
            chunk = await self.read()
            assert chunk, f"closed after {data!r}"
            data += chunk
        head, _, rest = data.partition(b"\r\n\r\n")
        self._events += self._decoder.feed(rest)
        return head

    async def response(self) -> tuple[int, bytes, bytes]:
        """A response after which the connection ends: status, head, body."""
        data = b""
        while chunk := await self.read():
            data += chunk
        head, _, body = data.partition(b"\r\n\r\n")
        return int(head.split(b" ", 2)[1]), head.lower(), body

    async def next(self) -> Event:
        """The next frame of the server."""
        while not self._events:
            data = await self.read()
            assert data, "closed without a frame"
            self._events += self._decoder.feed(data)
            assert self._decoder.error is None
        return self._events.pop(0)

    async def texts(self, count: int) -> list[bytes]:
        return [(await self.next()).data for _ in range(count)]  # type: ignore[union-attr]

    async def closed(self) -> CloseFrame:
        """The Close frame, behind whatever comes before it."""
        while not isinstance(event := await self.next(), CloseFrame):
            pass
        return event

    async def ended(self) -> bool:
        """Nothing but the end of the connection comes."""
        return not self._events and await self.read() == b""

    def close(self) -> None:
        self._end.close()


@asynccontextmanager
async def joined(protocol: asyncio.Protocol, *, deflate: bool = False) -> AsyncIterator[tuple[asyncio.Transport, Peer]]:
    """A transport of the running loop with `protocol`, and the client at its other end."""
    ours, theirs = pair()
    transport, _ = await asyncio.get_running_loop().create_connection(lambda: protocol, sock=ours)
    peer = Peer(theirs, deflate=deflate)
    try:
        yield transport, peer
    finally:
        peer.close()
        transport.abort()
