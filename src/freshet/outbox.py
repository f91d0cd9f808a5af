"""What waits for one client, and the end of the turn at which all that waits leaves.

Nothing is written when it is pushed. Each outbox that got something is noted once in the process's `Turn`; when the
turn of the event loop ends, each is woken once, and its transport writes once.
"""

import asyncio
from collections.abc import Callable

from freshet.errors import Disconnect
from freshet.model import Frame


class Turn:
    """The end of one turn of the event loop: first `flush` (the hub fans out), then every outbox that got something.

    It is scheduled by whoever has something to send, never by a timer, so an idle process does nothing.
    """

    __slots__ = ("_loop", "_scheduled", "flush", "touched")

    def __init__(self) -> None:
        self.flush: Callable[[], None] = lambda: None
        self.touched: list[Outbox] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._scheduled = False

    def schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            if self._loop is None or self._loop.is_closed():
                self._loop = asyncio.get_running_loop()
            self._loop.call_soon(self.end)

    def end(self) -> None:
        self._scheduled = False
        self.flush()
        touched, self.touched = self.touched, []
        for outbox in touched:
            outbox.wake()


def _detached() -> None:
    """No transport is attached: what is pushed waits."""


class Outbox:
    """A client's waiting frames, limited in bytes.

    wake: called once at the end of a turn in which something came; set by the transport that is attached.
    limit: bytes of payload that may wait. A client whose transport does not take them in time is closed as slow.
    closed: why no more will come; the transport sends what waits, then ends.
    """

    __slots__ = ("closed", "limit", "size", "turn", "waiting", "wake")

    def __init__(self, turn: Turn, limit: int) -> None:
        self.turn = turn
        self.limit = limit
        self.waiting: list[Frame] = []
        self.size = 0
        self.closed: Disconnect | None = None
        self.wake: Callable[[], None] = _detached

    def attach(self, wake: Callable[[], None]) -> None:
        """Let a transport take over: from now on `wake` is called when there is something to take."""
        self.wake = wake
        if self.waiting or self.closed:
            self._touch()

    def push(self, frame: Frame) -> None:
        if self.closed:
            return
        self.size += len(frame.data)
        if not self.waiting:
            self._touch()
        elif self.size > self.limit:
            self.wake()  # a transport that is free takes all that waited until now
            if self.waiting:
                self.waiting.clear()
                self.size = 0
                self.close(Disconnect.slow())
                return
            self.size = len(frame.data)
            self._touch()
        self.waiting.append(frame)

    def take(self) -> list[Frame]:
        """All that waits, oldest first; it is the caller's now."""
        frames, self.waiting = self.waiting, []
        self.size = 0
        return frames

    def close(self, why: Disconnect) -> None:
        """Nothing more is taken in. What waits already still goes out before the end. The first reason stays."""
        if self.closed is None:
            self.closed = why
            self._touch()

    def _touch(self) -> None:
        self.turn.touched.append(self)
        self.turn.schedule()
