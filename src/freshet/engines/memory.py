"""The engine of one process: logs in its memory, gone when it ends.

What nobody uses leaves nothing behind: a log goes `ttl` seconds after the last publication, read or subscription,
presence after the presence time, idempotency keys after 5 minutes. When logs hold more than they may, those that were
quiet for longest are forgotten: one that nobody is subscribed to begins anew, with another epoch, and one that has
subscribers goes on without its publications. Either way who returns to it learns that it cannot recover.
"""

import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from heapq import heapify, heappop, heappush
from itertools import count, islice

from freshet.engines.base import REVOCATIONS, USED_TICKET, WITHDRAWN, Engine, Lease, Receiver, check_position, new_epoch
from freshet.engines.quota import LOG, Quota
from freshet.model.events import Delivery, Joined, Left, Published
from freshet.model.log import NOWHERE, ClientInfo, History, Position, Publication, PublishOptions, Stream
from freshet.observe.logs import BoundedLog
from freshet.runtime.clock import SYSTEM, Clock, Timer

log = logging.getLogger("freshet.engines.memory")

IDEMPOTENCY_TIME = 300.0  # seconds
SWEEP = 1.0  # seconds
LEASE_KEPT = 60.0  # seconds behind its end, in which its owner may renew one that nobody has taken
AT_ONCE = 64  # logs that give way for one publication, at most
SHORT = 16  # publications of a log, up to which a list holds them: an empty deque alone has 760 bytes


class Log:
    """One channel's log. `entries` hold offsets without a gap, the last of them `offset`.

    quotas: of the pools that it belongs to. size: bytes that it holds.
    """

    __slots__ = ("_quotas", "channel", "entries", "entries_until", "epoch", "offset", "size", "ttl", "until")

    def __init__(self, channel: str, quotas: tuple[Quota, ...], epoch: str = "", offset: int = 0) -> None:
        self.channel = channel
        self.epoch = epoch or new_epoch()
        self.offset = offset
        self.entries: list[Publication] | deque[Publication] = []
        self.ttl = 0.0
        self.entries_until = 0.0
        self.until = 0.0
        self.size = 0
        self._quotas = quotas
        self._grow(LOG + len(channel))

    @property
    def position(self) -> Position:
        return Position(self.epoch, self.offset)

    def _grow(self, size: int) -> None:
        self.size += size
        for quota in self._quotas:
            quota.grown(self, size)

    def append(self, publication: Publication, size: int) -> None:
        """size: how many it keeps."""
        entries = self.entries
        entries.append(publication)
        self._grow(publication.size)
        while len(entries) > size:
            self.drop_oldest()
        if len(entries) == SHORT + 1 and type(entries) is list:
            self.entries = deque(entries)

    def drop_oldest(self) -> None:
        entries = self.entries
        size = entries[0].size
        del entries[0]
        self.size -= size
        for quota in self._quotas:
            quota.shrunk(size)

    def clear(self) -> None:
        """Forget all publications; its offsets go on."""
        for quota in self._quotas:
            quota.shrunk(self.size - LOG - len(self.channel))
        self.size = LOG + len(self.channel)
        self.entries = []

    def pass_over(self) -> None:
        """Others are to give way first."""
        self._grow(0)

    def end(self) -> None:
        """It is no more."""
        for quota in self._quotas:
            quota.removed(self)

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
    """presence_time: seconds for which a client that was set counts as there. log_memory: bytes of all logs; 0: any.

    shares: how many engines the channels are spread over; this one may hold its part of what all of them may.
    """

    shared = False
    forgets = True

    def __init__(
        self, presence_time: float = 60.0, clock: Clock = SYSTEM, log_memory: int = 0, shares: int = 1
    ) -> None:
        self._presence_time = presence_time
        self._shares = shares
        self._clock = clock.monotonic
        self._call_later = clock.call_later
        self._deliver: Callable[[Delivery], None] = lambda delivery: None
        self._subscribed: set[str] = set()
        self._logs: dict[str, Log] = {}
        self._quota = Quota(log_memory // shares)
        self._pools: dict[History, Quota] = {}  # of histories with a quota of their own
        self._bounded_log = BoundedLog(log)
        self._expiry: list[tuple[float, str]] = []  # heap, one entry per log
        self._presence: dict[str, dict[str, ClientInfo]] = {}
        self._presence_until: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._idempotency: OrderedDict[tuple[str, str], tuple[float, Position]] = OrderedDict()
        self._leases: dict[str, tuple[float, Lease]] = {}  # until when, and which
        self._fences = count(1)
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
            self._pools,
            self._leases,
        ):
            held.clear()
        self._quota = Quota(self._quota.most)

    async def subscribe(self, channel: str, keep: History | None) -> Position:
        self._subscribed.add(channel)
        return self._log(channel, keep).position if keep is not None else NOWHERE

    async def unsubscribe(self, channel: str) -> None:
        self._subscribed.discard(channel)
        if channel in self._logs:
            self._touch(self._logs[channel])

    async def publish(self, channel: str, data: bytes, options: PublishOptions) -> Position:
        position = MemoryEngine.publish_now(self, channel, data, options)
        assert position is not None  # it never has to wait
        return position

    def publish_now(self, channel: str, data: bytes, options: PublishOptions) -> Position | None:
        history, key = options.history, options.idempotency_key
        if history is None and key is None:  # it is kept by nobody
            if channel in self._subscribed:
                publication = Publication(data, 0, options.kind, options.tags, options.info, options.stamp)
                self._deliver(Published(channel, publication))
            return NOWHERE
        if key is not None and (known := self._idempotency.get((channel, key))) is not None:
            until, position = known
            if until > self._clock():
                return position
            del self._idempotency[channel, key]
        it = self._log(channel, history) if history is not None else None
        if it is not None:
            if options.after is not None:
                check_position(options.after, it.position)
            it.offset += 1
        offset = it.offset if it is not None else 0
        publication = Publication(data, offset, options.kind, options.tags, options.info, options.stamp)
        return self._append(channel, it, publication, history, key)

    def _append(
        self, channel: str, it: Log | None, publication: Publication, keep: History | None, key: str | None
    ) -> Position:
        """It counts from now on. it: the log, which stands at its offset already; None: there is none."""
        position = NOWHERE
        if it is not None and keep is not None:
            position = it.position
            it.append(publication, keep.size)
            it.entries_until = it.until
            self._make_room(it, keep)
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
            self._logs[channel].clear()

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

    async def take_lease(self, name: str, owner: str, ttl: float) -> Lease:
        until, lease = self._leases.get(name, (0.0, None))
        now = self._clock()
        if lease is None or until <= now:
            lease = Lease(owner, next(self._fences))
        if lease.owner == owner:
            self._leases[name] = (now + ttl, lease)
        return lease

    async def renew_leases(self, owner: str, leases: Mapping[str, int], ttl: float) -> set[str]:
        now, renewed = self._clock(), set()
        for name, fence in leases.items():
            _, lease = self._leases.get(name, (0.0, None))
            if lease == (owner, fence):  # also one that has ended, if nobody has taken it
                self._leases[name] = (now + ttl, lease)
                renewed.add(name)
        return renewed

    async def release_lease(self, name: str, lease: Lease) -> None:
        if name in self._leases and self._leases[name][1] == lease:
            del self._leases[name]

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
            it = self._logs[channel] = self._new_log(channel, keep)
            self._make_room(it, keep)
            heappush(self._expiry, (now + keep.ttl, channel))
        elif it.entries and it.entries_until <= now:
            it.clear()
        it.ttl = keep.ttl
        self._touch(it)
        return it

    def _new_log(self, channel: str, keep: History | None = None, epoch: str = "", offset: int = 0) -> Log:
        """keep: None: it is not known yet."""
        if channel.startswith((REVOCATIONS, USED_TICKET, WITHDRAWN)):
            return Log(channel, (), epoch, offset)
        if keep is None or not keep.bytes:
            return Log(channel, (self._quota,), epoch, offset)
        pool = self._pools.setdefault(keep, Quota(keep.bytes // self._shares))
        return Log(channel, (self._quota, pool), epoch, offset)

    # ------------------------------------------------------------------------------------------------------- quotas

    def _make_room(self, wrote: Log, keep: History) -> None:
        """Forget the logs that were quiet for longest, and of the one that was written to, if need be, its oldest."""
        self._make_room_in(self._quota, wrote, "limits.log_memory")
        if keep.bytes and (pool := self._pools.get(keep)) is not None:
            self._make_room_in(pool, wrote, "the bytes of a rule's history")

    def _make_room_in(self, quota: Quota, wrote: Log, option: str) -> None:
        for _ in range(AT_ONCE):
            it = quota.over()
            if it is None:
                return
            self._bounded_log.warning(
                option,
                "logs hold more than %d bytes: those that were quiet for longest are forgotten, and who returns to "
                "them cannot recover; raise %s, or let rules keep less history",
                quota.most,
                option,
            )
            oldest = self._logs[it.channel]
            if oldest is wrote and wrote.entries:
                wrote.drop_oldest()
            else:
                self._evict(oldest)

    def _evict(self, it: Log) -> None:
        it.clear()
        if it.channel in self._subscribed:
            it.pass_over()
            return
        it.end()
        del self._logs[it.channel]
        if len(self._expiry) > 2 * len(self._logs) + AT_ONCE:
            self._expiry = [(each.until, channel) for channel, each in self._logs.items()]
            heapify(self._expiry)

    def _touch(self, it: Log) -> None:
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
            it = self._logs.get(channel)
            if it is None:
                continue  # it had to give way
            if it.entries and it.entries_until <= now:
                it.clear()
            if channel in self._subscribed:
                heappush(self._expiry, (now + it.ttl, channel))
            elif it.until > now:
                heappush(self._expiry, (it.until, channel))
            else:
                del self._logs[channel]
                it.end()
        while self._idempotency and next(iter(self._idempotency.values()))[0] <= now:
            self._idempotency.popitem(last=False)
        self._expire_presence()
        for name in [name for name, (until, _) in self._leases.items() if until + LEASE_KEPT <= now]:
            del self._leases[name]

    def _expire_presence(self) -> None:
        now = self._clock()
        while self._presence_until:
            (channel, client), until = next(iter(self._presence_until.items()))
            if until > now:
                break
            self._leave(channel, client)
