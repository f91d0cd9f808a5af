"""Whether a client takes what waits for it, so that who asks and does not read can be told from who is slow."""

import asyncio
import sys
from fcntl import ioctl
from math import inf
from termios import TIOCOUTQ


class Unread:
    """Of one connection. timeout: seconds in which its client has to take some of what waits."""

    __slots__ = ("_timeout", "_transport", "_until", "_waiting")

    def __init__(self, transport: asyncio.Transport, timeout: float) -> None:
        self._transport = transport
        self._timeout = timeout
        self._waiting = 0
        self._until = inf

    def deadline(self, now: float) -> float:
        """When more of it has to have been taken; inf: nothing waits here. now: of the loop's time."""
        if not self._transport.get_write_buffer_size():
            self._until = inf
            return inf
        waiting = self._transport.get_write_buffer_size() + _in_kernel(self._transport)
        if self._until == inf or waiting < self._waiting:
            self._until = now + self._timeout
        self._waiting = waiting
        return self._until


def _in_kernel(transport: asyncio.Transport) -> int:
    """Bytes that wait there: they tell of a slow client what it takes long before it takes more from here."""
    try:
        return int.from_bytes(ioctl(transport.get_extra_info("socket").fileno(), TIOCOUTQ, bytes(4)), sys.byteorder)
    except (AttributeError, OSError, ValueError):  # it is closed, or no socket
        return 0
