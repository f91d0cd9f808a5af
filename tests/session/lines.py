"""A client's outbox on a real socket, whose kernel takes little: what is written past a transport, and what is not."""

import os
import socket
from collections.abc import Iterator

from freshet.session.outbox import Outbox, Turn
from freshet.websocket.frames import wire

KIB = 1024


class Line:
    """A transport on a real socket, whose kernel takes little. pieces: it takes those. woken: how often it was."""

    def __init__(self, *, pieces: bool = False) -> None:
        self._pieces = pieces
        self.ours, self.theirs = socket.socketpair()
        self.ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        self.ours.setblocking(False)
        self.theirs.setblocking(False)
        self.outbox = Outbox(Turn(), 64 * KIB)
        self.outbox.attach(self.write)
        self.woken = 0
        self.waiting = b""

    def write(self) -> None:
        self.woken += 1
        if self._pieces and self.waiting:
            frames = []
        else:
            frames = self.outbox.take_piece() if self._pieces else self.outbox.take()
        self.waiting += b"".join(frame.wire or wire(frame) for frame in frames)
        self.outbox.direct = -1
        try:
            self.waiting = self.waiting[os.write(self.ours.fileno(), self.waiting) :]
        except OSError:
            return
        if not self.waiting and not self.outbox.closed:
            self.outbox.direct = self.ours.fileno()

    def read(self) -> bytes:
        """All that is there, and all that comes because there is room again."""
        came = b""
        while True:
            try:
                came += self.theirs.recv(1 << 20)
            except BlockingIOError:
                if not self.waiting:
                    return came
                self.write()

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()


def three_lines() -> Iterator[list[Line]]:
    """For a fixture."""
    made = [Line() for _ in range(3)]
    yield made
    for line in made:
        line.close()
