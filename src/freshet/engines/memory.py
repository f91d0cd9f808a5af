"""The engine of one process: logs in its memory, gone when it ends.

What nobody uses leaves nothing behind: a log goes `ttl` seconds after the last publication, read or subscription,
presence after the presence time, idempotency keys after 5 minutes.
"""

from collections import OrderedDict, deque
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import islice

from freshet.engines.base import Engine, Receiver, new_epoch
from freshet.model.events import Delivery, Joined, Left, Published
from freshet.model.log import NOWHERE, ClientInfo, History, Position, Publication, PublishOptions, Stream
from freshet.runtime.clock import SYSTEM, Clock, Timer

IDEMPOTENCY_TIME = 300.0  # seconds
SWEEP = 1.0  # seconds


class Log:
    """One channel's log. `entries` hold offsets without a gap, the last of them `offset`."""

    __slots__ = ("entries", "entries_until", "epoch", "offset", "ttl", "until")

    def __init__(self, epoch: str = "", offset: int = 0) -> None:
        self.epoch = epoch or new_epoch()
        self.offset = offset
        self.entries: deque[Publication] = deque()
        self.ttl = 0.0
        self.entries_until = 0.0
        self.until = 0.0

    @property
    def position(self) -> Position:
        return Position(self.epoch, self.offset)

    def append(self, publication: Publication, size: int) -> None:
        self.entries.append(publication)
        while len(self.entries) > size:
            self.entries.popleft()
        self.entries_until = self.until

    def read(self, since: Position | None, limit: int, reverse: bool) -> list[Publication]:
        """See `Engine.history`."""
        kept = len(self.entries)
        before = 0  # how many are passed over
        if since is not None:
            before = self.offset - since.offset + 1 if reverse else since.offset - (self.offset - kept)
        start = min(max(0, before), kept)
        stop = kept if limit < 0 else min(start + limit, kept)
        return list(islice(reversed(self.entries) if reverse else self.entries, start, stop))


class MemoryEngine(Engine):
    """presence_time: seconds for which a client that was set counts as there."""

    shared = False

    def __init__(self, presence_time: float = 60.0, clock: Clock = SYSTEM) -> None:
        self._presence_time = presence_time
        self._clock = clock.monotonic
        self._call_later = clock.call_later
        self._deliver: Callable[[Delivery], None] = lambda delivery: None
        self._subscribed: set[str] = set()
        self._logs: dict[str, Log] = {}
        self._expiry: list[tuple[float, str]] = []  # heap, one entry per log
        self._presence: dict[str, dict[str, ClientInfo]] = {}
        self._presence_until: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._idempotency: OrderedDict[tuple[str, str], tuple[float, Position]] = OrderedDict()
        self._timer: Timer | None = None

    async def start(self, node: str, receiver: Receiver) -> None:
        self._deliver = receiver.deliver
        self._timer = self._call_later(SWEEP, self._tick)

    async def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for held in (
            self._subscribed,
            self._logs,
            self._expiry,
            self._presence,
            self._presence_until,
            self._idempotency,
        ):
            held.clear()

    async def subscribe(self, channel: str, keep: History | None) -> Position:
        self._subscribed.add(channel)
        return self._log(channel, keep).position if keep is not None else NOWHERE

    async def unsubscribe(self, channel: str) -> None:
        self._subscribed.discard(channel)
        if channel in self._logs:
            self._touch(channel, self._logs[channel])

    async def publish(self, channel: str, data: bytes, options: PublishOptions) -> Position:
        key = (channel, options.idempotency_key) if options.idempotency_key is not None else None
        if key is not None and key in self._idempotency:
            until, position = self._idempotency[key]
            if until > self._clock():
                return position
            del self._idempotency[key]
        it = self._log(channel, options.history) if options.history is not None else None
        if it is not None:
            it.offset += 1
        offset = it.offset if it is not None else 0
        publication = Publication(data, offset, options.kind, options.tags, options.info)
        return self._append(channel, it, publication, options.history, options.idempotency_key)

    def _append(
        self, channel: str, it: Log | None, publication: Publication, keep: History | None, key: str | None
    ) -> Position:
        """It counts from now on. it: the log, which stands at its offset already; None: there is none."""
        position = NOWHERE
        if it is not None and keep is not None:
            position = it.position
            it.append(publication, keep.size)
        if key is not None:
            self._idempotency[channel, key] = (self._clock() + IDEMPOTENCY_TIME, position)
        if channel in self._subscribed:
            self._deliver(Published(channel, publication, position.epoch))
        return position

    async def history(
        self, channel: str, keep: History, since: Position | None = None, limit: int = -1, reverse: bool = False
    ) -> Stream:
        it = self._log(channel, keep)
        return Stream(it.read(since, limit, reverse), it.position)

    async def remove_history(self, channel: str) -> None:
        if channel in self._logs:
            self._logs[channel].entries.clear()

    async def presence(self, channel: str) -> dict[str, ClientInfo]:
        self._expire_presence()
        return dict(self._presence.get(channel, {}))

    async def set_presence(self, channel: str, client: str, info: ClientInfo | None) -> None:
        if info is None:
            self._leave(channel, client)
            return
        here = self._presence.setdefault(channel, {})
        joined = client not in here
        here[client] = info
        self._presence_until[channel, client] = self._clock() + self._presence_time
        self._presence_until.move_to_end((channel, client))
        if joined and channel in self._subscribed:
            self._deliver(Joined(channel, info))

    async def tell(self, node: str | None, message: bytes) -> None:
        """There is no other node."""

    # ------------------------------------------------------------------------------------------------- how time goes

    def _log(self, channel: str, keep: History) -> Log:
        it = self._logs.get(channel)
        now = self._clock()
        if it is not None and it.until <= now and channel not in self._subscribed:
            self.sweep()
            it = None
        if it is None:
            it = self._logs[channel] = Log()
            heappush(self._expiry, (now + keep.ttl, channel))
        elif it.entries and it.entries_until <= now:
            it.entries.clear()
        it.ttl = keep.ttl
        self._touch(channel, it)
        return it

    def _touch(self, channel: str, it: Log) -> None:
        it.until = self._clock() + it.ttl

    def _leave(self, channel: str, client: str) -> None:
        here = self._presence.get(channel)
        info = here.pop(client, None) if here is not None else None
        if here is None or info is None:
            return
        self._presence_until.pop((channel, client), None)
        if not here:
            del self._presence[channel]
        if channel in self._subscribed:
            self._deliver(Left(channel, info))

    def _tick(self) -> None:
        self._timer = self._call_later(SWEEP, self._tick)
        self.sweep()

    def sweep(self) -> None:
        """Let go of all whose time is over."""
        now = self._clock()
        while self._expiry and self._expiry[0][0] <= now:
            _, channel = heappop(self._expiry)
            it = self._logs[channel]
            if it.entries and it.entries_until <= now:
                it.entries.clear()
            if channel in self._subscribed:
                heappush(self._expiry, (now + it.ttl, channel))
            elif it.until > now:
                heappush(self._expiry, (it.until, channel))
            else:
                del self._logs[channel]
        while self._idempotency and next(iter(self._idempotency.values()))[0] <= now:
            self._idempotency.popitem(last=False)
        self._expire_presence()

    def _expire_presence(self) -> None:
        now = self._clock()
        while self._presence_until:
            (channel, client), until = next(iter(self._presence_until.items()))
            if until > now:
                break
            self._leave(channel, client)
