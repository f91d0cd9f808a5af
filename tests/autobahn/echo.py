"""An echo server on `freshet.websocket` and asyncio alone: what the Autobahn suite talks to.

`python -m tests.autobahn.echo` listens on a free loopback port and prints it.
"""

import asyncio
from typing import cast

from freshet.model.frame import Frame
from freshet.websocket import deflate, handshake
from freshet.websocket.frames import (
    MIB,
    CloseFrame,
    Decoder,
    MessageLimits,
    Opcode,
    PingFrame,
    close_payload,
    deflated_wire,
    encode,
    wire,
)

# Group 9 sends 16 MiB, and 4 MiB in frames of 64 bytes.
LIMITS = MessageLimits(frame=17 * MIB, message=17 * MIB, fragments=128 * 1024)


class Echo(asyncio.Protocol):
    """One connection: the opening handshake, then every message back as it came."""

    def __init__(self) -> None:
        self._head = b""
        self._decoder: Decoder | None = None
        self._deflate = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._decoder is not None:
            self._decode(self._decoder, data)
            return
        self._head += data
        head, end, rest = self._head.partition(b"\r\n\r\n")
        if end or len(self._head) > handshake.HEAD_SIZE:
            self._open(head + end, rest)

    def _open(self, head: bytes, rest: bytes) -> None:
        try:
            request = handshake.parse_request(head)
            key = handshake.check(request.headers)
        except handshake.HandshakeError as error:
            self._transport.write(handshake.refuse(error.status, error.message, error.headers))
            self._transport.close()
            return
        offers = b", ".join(value for name, value in request.headers if name == b"sec-websocket-extensions")
        extensions = deflate.negotiate(offers)
        self._deflate = extensions is not None
        self._decoder = Decoder(LIMITS, deflate=self._deflate)
        self._transport.write(handshake.response(key, None, extensions, []))
        self._decode(self._decoder, rest)

    def _decode(self, decoder: Decoder, data: bytes) -> None:
        for event in decoder.feed(data):
            if isinstance(event, Frame):
                self._transport.write(deflated_wire(event) if self._deflate else wire(event))
            elif isinstance(event, PingFrame):
                self._transport.write(encode(Opcode.PONG, event.data))
            elif isinstance(event, CloseFrame):
                self._close(b"" if event.code is None else close_payload(event.code))
        if decoder.error is not None:
            self._close(close_payload(decoder.error.code, decoder.error.reason))

    def _close(self, payload: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(encode(Opcode.CLOSE, payload))
            self._transport.close()


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
