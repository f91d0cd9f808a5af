"""Notices that a process is to end, beside whoever else handles the signals for it.

An ASGI server that gets SIGTERM waits until all responses have ended before it says `lifespan.shutdown` to its
application. An event stream does not end by itself, so an application that only waited for the message would keep the
server from sending it.
"""

import asyncio
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

ENDING = (signal.SIGTERM, signal.SIGINT)

Handler = Callable[[int, FrameType | None], object]


class EndingSignals:
    """Calls `notify` in the event loop that `watch` ran in, for each of `ENDING` that comes.

    Whoever handled a signal before still does, behind that. A signal that nobody handled is left alone: it ends the
    process at once, as ever.
    """

    __slots__ = ("_links", "_loop", "_notify")

    def __init__(self, notify: Callable[[], None]) -> None:
        self._notify = notify
        self._links: dict[int, _Link] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def watch(self) -> None:
        """Begin, once in a loop. Python lets only the main thread handle signals: in another one this does nothing."""
        loop = asyncio.get_running_loop()
        if self._loop is loop or threading.current_thread() is not threading.main_thread():
            return
        self.stop()
        self._loop = loop
        for number in ENDING:
            handler = signal.getsignal(number)
            if callable(handler) and handler is not signal.default_int_handler:
                link = self._links[number] = _Link(handler, lambda: loop.call_soon_threadsafe(self._notify))
                signal.signal(number, link)

    def stop(self) -> None:
        """Put back the handlers that were there. Behind one that was set since then, ours only passes signals on."""
        links, self._links, self._loop = self._links, {}, None
        for number, link in links.items():
            link.notify = None
            current: object = signal.getsignal(number)
            if current is link and threading.current_thread() is threading.main_thread():
                signal.signal(number, link.next)


class _Link:
    """One handler of a chain. next: whoever is to handle the signal, too."""

    __slots__ = ("next", "notify")

    def __init__(self, next: Handler, notify: Callable[[], object]) -> None:  # noqa: A002 - the word for it
        self.next = next
        self.notify: Callable[[], object] | None = notify

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.notify is not None:
            with suppress(RuntimeError):  # the loop is closed
                self.notify()
        self.next(number, frame)
