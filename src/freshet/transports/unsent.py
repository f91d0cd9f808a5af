"""What waits for a client that takes it slowly, or not at all."""

import asyncio
import sys
from fcntl import ioctl
from termios import TIOCOUTQ


class Unsent:
    """timeout: seconds within which it has to take some more. size: bytes, when they were last looked at."""

    __slots__ = ("_timeout", "_transport", "_until", "size")

    def __init__(self, transport: asyncio.Transport, timeout: float) -> None:
        self._transport = transport
        self._timeout = timeout
        self.size = _unsent(transport)
        self._until = asyncio.get_running_loop().time() + timeout

    def deadline(self) -> float:
        """When it has to have taken some more, in the loop's time."""
        size = _unsent(self._transport)
        if size < self.size:
            self._until = asyncio.get_running_loop().time() + self._timeout
        self.size = size
        return self._until


def _unsent(transport: asyncio.Transport) -> int:
    """Bytes that wait for a client here and in the kernel, which says of a slow one what it takes long before it takes
    more from here."""
    try:
        in_kernel = ioctl(transport.get_extra_info("socket").fileno(), TIOCOUTQ, bytes(4))
    except (AttributeError, OSError, ValueError):  # it is closed, or no socket
        in_kernel = b""
    return transport.get_write_buffer_size() + int.from_bytes(in_kernel, sys.byteorder)
