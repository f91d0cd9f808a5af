"""A connection on which the last word is said: it stays until that has arrived.

A socket that is closed while its client sends is reset, and what was said last is lost. So what still comes is let go.
Over TCP a client sees at once that no more will come; over TLS, where asyncio cannot say that, it sees it when the
connection is closed, which is when nothing has come for a while.
"""

import asyncio

from freshet.runtime.wheel import Wheel


class LastWord(asyncio.Protocol):
    """What such a connection is. timeout: seconds, however long its client goes on."""

    __slots__ = ("_connections", "_is_quiet", "_transport", "_until", "_wheel", "slot")

    def __init__(
        self, transport: asyncio.Transport, connections: set[asyncio.Protocol], wheel: Wheel, timeout: float
    ) -> None:
        self.slot = -1
        self._transport = transport
        self._connections = connections
        self._wheel = wheel
        self._until = wheel.clock.monotonic() + timeout
        self._is_quiet = True
        transport.set_protocol(self)
        connections.add(self)
        if transport.can_write_eof():
            transport.write_eof()
        if not transport.is_reading():
            transport.resume_reading()
        wheel.schedule(self, wheel.tick)

    def data_received(self, data: bytes) -> None:
        self._is_quiet = False

    def eof_received(self) -> bool:
        return False

    def visit(self, now: float) -> float:
        """The wheel: see whether it has finished."""
        if now >= self._until:
            self._transport.abort()
            return 0
        if self._is_quiet and not self._transport.get_write_buffer_size():
            self._transport.close()
            return max(self._wheel.tick, self._until - now)  # for its client's side of the end
        self._is_quiet = True
        return self._wheel.tick

    def shutdown(self) -> None:
        """What uvicorn calls when the server ends."""
        self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._connections.discard(self)
        self._wheel.cancel(self)
