"""The queue of frames for one client, and the end of the turn at which it is written.

Nothing is written when it is pushed. Each outbox that got a frame is noted once in the process's `Turn`; when the turn
of the event loop ends, each is woken once, and its transport writes once. Its limit in bytes is the backpressure: a
client that does not read is disconnected, or loses what its rule says, and slows nobody. Whoever has much waiting is
behind: those catch up a piece at a time, after all who have little.
"""

import asyncio
import logging
import os
import sys
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from itertools import islice

from freshet.errors import Disconnect
from freshet.model.frame import Frame, unbatched
from freshet.runtime.fair_queue import FairQueue
from freshet.websocket.frames import rest, wire

log = logging.getLogger("freshet.outbox")

AT_ONCE = 64  # commands of one client before others have their turn
KIB = 1024
PORTION = KIB * KIB  # bytes that are written before others have theirs
PORTION_BEHIND = PORTION // 2  # the same, for those who are behind
EACH = 256  # bytes that cost as much as a write
ENDING = 64 * KIB  # bytes that cost as much as to end a client
LITTLE = 4 * KIB  # bytes: who has more waiting is behind, who sends more waits while this process is busy
CROWD = 64  # who are behind, before it is
ADMITTED = 64 * KIB  # bytes of those, in one turn
PATIENCE = 500  # turns that one waits at most
PIECE = 16 * KIB  # bytes that are joined for one write; as TLS has them in one record


class Turn:
    """The end of one turn of the event loop: first `flush` (the hub fans out), then every outbox that got something.

    It is scheduled by whoever has something to send, never by a timer, so an idle process does nothing.

    here: the event loop, if it is the one that runs this; raises RuntimeError otherwise. written: called when a portion
    of what there is has been written, which mostly is all. fair_queue: in which clients that sent much have their turn.
    behind: outboxes with much that waits, next first. busy: it waits for this process, not for those who read it.
    piece, left: bytes that are joined for a write, and that may still be written before others have their turn.
    dropped, conflated: frames that outboxes left out, for want of room or as a later one came.
    """

    __slots__ = (
        "_admitted",
        "_client",
        "_commands",
        "_here",
        "behind",
        "busy",
        "conflated",
        "dropped",
        "fair_queue",
        "flush",
        "left",
        "piece",
        "scheduled",
        "touched",
        "written",
    )

    def __init__(self, here: Callable[[], asyncio.AbstractEventLoop] = asyncio.get_running_loop) -> None:
        self._here = here
        self.fair_queue = FairQueue(here)
        self.flush: Callable[[], None] = lambda: None
        self.written: Callable[[], None] = lambda: None
        self.touched: list[Outbox] = []
        self.behind: OrderedDict[Outbox, None] = OrderedDict()
        self.busy = False
        self.left = 0
        self.piece = PIECE
        self.scheduled = False
        self.dropped = self.conflated = 0
        self._admitted = 0  # bytes, in this turn
        self._client = ""  # who was served last
        self._commands = 0  # of it, that are still run in this turn

    def schedule(self) -> None:
        if not self.scheduled:
            self._here().call_soon(self.end)
            self.scheduled = True

    def serves(self, client: str, commands: int) -> bool:
        """Whether these many commands of a client are run in this turn, or others have theirs first. client: its id."""
        if client is not self._client:
            self._client, self._commands = client, AT_ONCE
        had = self._commands
        self._commands -= commands
        return had > 0

    def end(self) -> None:
        self._client, self._admitted = "", 0
        try:
            self.flush()
        finally:
            self.scheduled = False
        touched, self.touched = self.touched, []
        self.touched[:0] = self._leave(touched)
        if self.behind:
            self._catch_up()
        self.busy = bool(self.touched) or len(self.behind) > CROWD
        if self.touched or self.behind:
            self.schedule()
        self.written()

    def admits(self, size: int) -> bool:
        """Whether so much of a client is looked at in this turn: not while what was sent before is not written."""
        if self.busy or self._admitted > ADMITTED:
            return False
        self._admitted += size
        self.schedule()
        return True

    async def admitted(self, size: int) -> None:
        """Until it is; not for ever, however busy others keep this process."""
        patience = PATIENCE
        while not self.admits(size) and patience:
            patience -= 1
            await asyncio.sleep(0)

    def _leave(self, touched: list["Outbox"]) -> list["Outbox"]:
        """Let each have what the turn had for it, by one write; past its transport where `broadcast` may do that, too.

        Who is left when a portion has been written has its turn in the next one: whatever somebody sends to many,
        others wait no longer for it than for what most send.
        """
        write = os.write
        self.left = PORTION
        for number, outbox in enumerate(touched, 1):
            direct, frame = outbox.direct, outbox.first
            if frame is None and not outbox.closed:  # it was written meanwhile
                continue
            if frame is None or frame.size > LITTLE or (outbox.more is not None and outbox.size > LITTLE):
                self.behind[outbox] = None
                continue
            if direct < 0:
                self._wake(outbox)
            else:
                if outbox.more is None:
                    outbox.first = None
                    data = frame.wire or wire(frame)
                    self.left -= EACH + len(data)
                else:
                    data = b"".join([it.wire or wire(it) for it in outbox.take_piece()])
                try:
                    sent = write(direct, data)
                except OSError:
                    sent = 0
                if sent < len(data):
                    outbox.direct = -1
                    outbox.put_back(rest(data, sent))
                if outbox.first is not None:  # what was missed came behind it, of which there may be much
                    self.behind[outbox] = None
            if self.left < 0:
                return touched[number:]
        return []

    def _catch_up(self) -> None:
        """Let those who are behind have a piece each, again and again, as long as their portion lasts."""
        self.left = PORTION_BEHIND
        while self.behind and self.left >= 0:
            outbox, _ = self.behind.popitem(last=False)
            self._wake(outbox)

    def _wake(self, outbox: "Outbox") -> None:
        """Its transport takes all, or a piece, after which it has its turn again, or nothing: it says when it can."""
        if outbox.first is not None and outbox.more is None:
            self.left -= EACH + outbox.first.size
        left = self.left
        outbox.leave()
        if outbox.first is not None and self.left < left:
            self.behind[outbox] = None
        elif outbox.closed:
            self.left -= ENDING


def _detached() -> None:
    """No transport is attached: what is pushed stays queued."""


class _Waiter:
    """frames: that have to be taken first."""

    __slots__ = ("done", "frames")

    def __init__(self) -> None:
        self.frames = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class Outbox:
    """A client's queue of frames, limited in bytes.

    wake: called once at the end of a turn in which a frame was pushed; set by the transport that is attached.
    limit: bytes of payload that may be queued. A client whose transport does not take them in time is closed as slow.
    closed: why no more will come; the transport sends what is queued, then ends.
    direct: a socket to which the next WebSocket message may be written past `wake`, as nothing is queued for it, here
        or in the transport, which sets this and takes it back; -1: none.
    size: bytes of the queued frames that count, reckoned from the second frame on.
    first: the only frame that is queued, most of the time; `more` are those behind it. A list for one frame would be
        half of what a delivery costs here.
    transport: the name of the one that was attached.
    """

    __slots__ = (
        "_lossy",
        "_waiter",
        "closed",
        "direct",
        "first",
        "limit",
        "more",
        "size",
        "transport",
        "turn",
        "wake",
    )

    def __init__(self, turn: Turn, limit: int) -> None:
        self.turn = turn
        self.limit = limit
        self.direct = -1
        self.first: Frame | None = None
        self.more: list[Frame] | None = None
        self.size = 0
        self._lossy: dict[object, Frame] | None = None  # those that are queued and may be dropped, oldest first
        self._waiter: _Waiter | None = None  # somebody waits until all that is queued is taken
        self.closed: Disconnect | None = None
        self.wake: Callable[[], None] = _detached
        self.transport = ""

    def attach(self, wake: Callable[[], None], transport: str = "") -> None:
        """Let a transport take over: from now on `wake` is called when there is something to take."""
        self.wake = wake
        self.transport = transport or self.transport
        self.direct = -1
        if self.first or self.closed:
            self._touch()

    def detach(self) -> None:
        """Let go of the transport, which is gone. They refer to one another: garbage that only a collection finds."""
        self.wake = _detached
        self.direct = -1

    def push(self, frame: Frame) -> None:
        """Queue a frame until the end of the turn. This runs once per delivery."""
        if self.first is not None or self.closed:
            self._push_more(frame)
            return
        turn = self.turn
        if not turn.scheduled:
            turn.schedule()
        self.first = frame
        turn.touched.append(self)

    def replay(self, frames: list[Frame]) -> None:
        """Queue all that this client missed. It asked for that: the limit is for what comes besides."""
        if self.closed or not frames:
            return
        if self.first is None:
            self.first, *self.more = frames
            self.size = 0
            self.go_on()
        else:
            if self.more is None:
                self.more, self.size = [], self.first.size
            self.more += frames

    def offer(self, frame: Frame, key: object) -> None:
        """As `push`, for what may be dropped: by a later frame with the same key, or the oldest for want of room."""
        if self.closed:
            return
        if self._lossy and (old := self._lossy.pop(key, None)) is not None:
            self._drop(old)
            self.turn.conflated += 1
        if self.waiting + frame.size > self.limit:
            self.make_room()
        while self._lossy and self.waiting + frame.size > self.limit:
            self._drop(self._lossy.pop(next(iter(self._lossy))))
            self.turn.dropped += 1
        self.push(frame)
        if self.first is None:
            return
        if self._lossy is None:
            self._lossy = {}
        self._lossy[key] = frame
        if self.more is None:  # so that it leaves by `take`
            self.more, self.size = [], self.first.size

    async def drained(self) -> None:
        """Until all that is queued now is taken, or no more will come."""
        if self.first is None or self.closed:
            return
        if self.more is None:  # so that it leaves by `take`
            self.more, self.size = [], self.first.size
        if self._waiter is None:
            self._waiter = _Waiter()
        self._waiter.frames = 1 + len(self.more)
        await self._waiter.done

    def _left(self, frames: int) -> None:
        assert self._waiter is not None
        self._waiter.frames -= frames
        if self._waiter.frames <= 0 or self.first is None:
            self._release()

    def _release(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done.done():
            waiter.done.set_result(None)

    @property
    def waiting(self) -> int:
        """Bytes that are queued and count."""
        if self.first is None:
            return 0
        return self.size if self.more is not None else self.first.size

    @property
    def crowded(self) -> bool:
        """Whether so much waits that its client has to read before it gets more of what it asks for."""
        first = self.first
        return first is not None and (first.size if self.more is None else self.size) > self.limit // 2

    def _drop(self, frame: Frame) -> None:
        self.size = max(self.size - frame.size, 0)  # see `take_piece`
        if frame is not self.first:
            assert self.more is not None
            del self.more[next(index for index, each in enumerate(self.more) if each is frame)]
        elif self.more:
            self.first = self.more.pop(0)
        else:
            self.first = self.more = None

    def send(self, frame: Frame) -> None:
        """As `push`, at the end of the turn, when nothing else will come in it: the transport writes at once."""
        first = self.first
        if first is None and not self.closed:
            self.first = frame
            self.leave()
        elif first is not None and self.direct >= 0 and self.more is None:  # such as the answer to who published it
            self.first = None
            self._write((first.wire or wire(first)) + (frame.wire or wire(frame)))
        else:
            self._push_more(frame)

    def _write(self, data: bytes) -> None:
        """Past the transport, which gets what the socket does not take."""
        try:
            sent = os.write(self.direct, data)
        except OSError:  # full, or broken: the transport finds out which, and does what is to be done
            sent = 0
        if sent < len(data):
            self.direct = -1
            self.put_back(rest(data, sent))

    def put_back(self, frame: Frame) -> None:
        """What the socket did not take of what was taken last: the transport gets it before all that is queued."""
        if self.first is not None:
            self.size = self.waiting + frame.size
            self.more = [self.first, *(self.more or ())]
        self.first = frame
        self.leave()

    def go_on(self) -> None:
        """The transport takes more again: at the end of the turn, as there may be many such."""
        if self.first is not None or self.closed:
            self.turn.schedule()
            self.turn.behind[self] = None

    def leave(self) -> None:
        """Let the transport write what is queued. Its mistake is its own: others have clients too."""
        try:
            self.wake()
        except Exception:
            log.exception("outbox: a transport failed to write, its client may miss what was sent")

    def _push_more(self, frame: Frame) -> None:
        if self.closed or self.first is None:
            return
        if self.more is None:
            self.more = []
            self.size = self.first.size
        if self.size + frame.size > self.limit:
            if self.make_room():
                self.push(frame)
            else:
                self.first = self.more = None
                self.close(Disconnect.slow())
        else:
            self.size += frame.size
            self.more.append(frame)

    def make_room(self) -> bool:
        """Whether all that waited is taken: at once, by a transport that is free; one that is not is slow."""
        self.turn.piece = sys.maxsize
        self.leave()
        self.turn.piece = PIECE
        return self.first is None

    def take(self) -> list[Frame]:
        """All that is queued, oldest first, each by itself."""
        if self.first is None:
            return []
        frames = [self.first, *self.more] if self.more else [self.first]
        self.first = self.more = self._lossy = None
        if self._waiter is not None:
            self._release()
        return unbatched(frames)

    def take_piece(self) -> list[Frame]:
        """What is written at once: the oldest of what is queued, a piece of it or one frame.

        A transport puts together what a `Batch` holds once for all who get it.
        """
        if self.first is None:
            return []
        most, frames, size = self.turn.piece, [self.first], self.first.size
        for frame in self.more or ():
            size += frame.size
            if size > most:
                size -= frame.size
                break
            frames.append(frame)
        self.turn.left -= EACH + size
        if self.more is None or len(frames) > len(self.more):
            self.first = self.more = self._lossy = None
        else:
            self.first = self.more[len(frames) - 1]
            del self.more[: len(frames)]
            self.size = max(self.size - size, 0)  # what was replayed did not count: what does is reckoned as the first
            if self._lossy:
                left = {*map(id, frames)}
                self._lossy = {key: frame for key, frame in self._lossy.items() if id(frame) not in left}
        if self._waiter is not None:
            self._left(len(frames))
        return frames

    def close(self, why: Disconnect) -> None:
        """Nothing more is taken in. What is queued already still goes out before the end. The first reason stays."""
        if self.closed is None:
            if self.wake is not _detached:  # or there is nobody to end
                self._touch()
            why.__traceback__ = None  # its frames refer to what keeps this: garbage that only a collection finds
            self.closed = why
            self.direct = -1
            self._release()

    def _touch(self) -> None:
        self.turn.schedule()
        self.turn.touched.append(self)


def broadcast(outboxes: Collection[Outbox], frame: Frame) -> None:
    """Send each the same, at the end of the turn, when nothing else will come in it. This is what a delivery costs.

    Whoever has all that came before is given this with one system call, for which nothing of the client but its outbox
    is looked at: the rest of its memory is seldom in the processor's cache. What is more than a portion is queued, see
    `Turn`.
    """
    data = frame.wire or wire(frame)
    size, write = len(data), os.write
    portion: Iterable[Outbox] = outboxes
    if len(outboxes) > (most := 1 + PORTION // (EACH + size)):
        portion = islice(outboxes, most)
        for outbox in islice(outboxes, most, None):
            outbox.push(frame)
    for outbox in portion:
        direct = outbox.direct
        if direct < 0 or outbox.first is not None:
            outbox.send(frame)
            continue
        try:
            sent = write(direct, data)
        except OSError:  # full, or broken: the transport finds out which, and does what is to be done
            sent = 0
        if sent < size:
            outbox.direct = -1
            outbox.put_back(rest(data, sent))
