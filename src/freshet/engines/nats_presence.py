"""Presence in the NATS engine: a bucket with an entry for each client in each channel, which its node renews."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress

from freshet.clock import Clock, Timer
from freshet.engines.info import Info
from freshet.engines.nats_access import Where
from freshet.engines.nats_form import Came, Foreign, Names, Went, decode, encode
from freshet.engines.nats_link import Link
from freshet.engines.nats_streams import Stored
from freshet.engines.nats_streams import Stream as Place
from freshet.errors import EngineUnavailable
from freshet.model import ClientInfo

SWEEP = 1.0  # seconds between looks for clients whose time is over
SWEPT = 50  # channels that are looked at in one sweep


class Presence:
    """time: seconds for which a client that was set counts as there. listens: whether this node does, to a channel."""

    def __init__(self, link: Link, where: Where, time: float, clock: Clock, listens: Callable[[str], bool]) -> None:
        self._link = link
        self._names = Names(where.prefix)
        self._time = time
        self._clock = clock
        self._listens = listens
        form = {
            "subjects": [f"$KV.{self._names.bucket}.>"],
            "storage": "memory",
            "num_replicas": where.replicas,
            "max_msgs_per_subject": 1,
            "allow_rollup_hdrs": True,
            "allow_direct": True,
        }
        self.place = Place(link, f"KV_{self._names.bucket}", max(120.0, 3 * time), form)
        self._set: dict[tuple[str, str], int] = {}  # where this node's clients are in the bucket
        self._due: OrderedDict[str, float] = OrderedDict()  # when to look at which channel
        self._timer: Timer | None = None
        self._sweeping: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._timer = self._clock.call_later(SWEEP, self._tick)

    async def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.gather(self._sweeping, return_exceptions=True)
            self._sweeping = None
        self._set.clear()
        self._due.clear()

    async def read(self, channel: str) -> dict[str, ClientInfo]:
        async with self._link.in_time():
            now, found = await self.place.read(self._names.client(channel, None))
        self.somebody(channel)
        here = (_came(it) for it in found if it.time + self._time > now)
        return {it.client: it.info.info() for it in here if it is not None}

    async def set(self, channel: str, client: str, info: ClientInfo | None) -> None:
        async with self._link.in_time():
            await (self._leave(channel, client) if info is None else self._enter(channel, client, Info.of(info)))
        self.somebody(channel)

    async def _enter(self, channel: str, client: str, info: Info) -> None:
        subject, value = self._names.client(channel, client), encode(Came(client, info))
        known = self._set.get((channel, client), 0)
        done = await self.place.append(subject, value, known)
        if done is None and known:  # it ran out, or another node has it
            known = 0
            done = await self.place.append(subject, value, known)
        new = done is not None and not known
        if done is None:
            done = await self.place.append(subject, value)
        assert done is not None  # it was not told behind what
        self._set[channel, client] = done.seq
        if new:
            await self._link.tell(self._names.channel("flow", channel), value)

    async def _leave(self, channel: str, client: str) -> None:
        self._set.pop((channel, client), None)
        if (found := await self.place.last(self._names.client(channel, client))) is not None:
            await self._went(channel, found)

    async def _went(self, channel: str, found: Stored) -> None:
        """Of those who find out at the same time, the one whom JetStream lets remove it tells it."""
        came = _came(found)
        if await self.place.purge(found.subject, before=found.seq + 1) and came is not None:
            await self._link.tell(self._names.channel("flow", channel), encode(Went(came.info)))

    # ------------------------------------------------------------------------------------ those who go without a word

    def somebody(self, channel: str) -> None:
        """Somebody may be there, who may go without a word: look in a while, as long as this node listens."""
        if self._listens(channel):
            self._due[channel] = self._clock.monotonic() + self._time + SWEEP
            self._due.move_to_end(channel)

    def nobody_listens(self, channel: str) -> None:
        self._due.pop(channel, None)

    def _tick(self) -> None:
        self._timer = self._clock.call_later(SWEEP, self._tick)
        if self._due and (self._sweeping is None or self._sweeping.done()):
            self._sweeping = asyncio.get_running_loop().create_task(self._sweep())

    async def _sweep(self) -> None:
        """Look where nobody has said for the presence time that somebody is there; a few channels at a time."""
        now = self._clock.monotonic()
        due: list[str] = []
        for channel, when in self._due.items():
            if when > now or len(due) == SWEPT:
                break
            due.append(channel)
        with suppress(EngineUnavailable):  # the next sweep looks again
            for channel in due:
                async with self._link.in_time():
                    await self._look(channel)

    async def _look(self, channel: str) -> None:
        now, found = await self.place.read(self._names.client(channel, None))
        gone = [it for it in found if it.time + self._time <= now]
        for it in gone:
            await self._went(channel, it)
        if len(gone) == len(found):
            self._due.pop(channel, None)
        else:
            self.somebody(channel)


def _came(found: Stored) -> Came | None:
    """What an entry says; None when it is a stranger's."""
    try:
        said = decode(found.data)
    except Foreign:
        return None
    return said if isinstance(said, Came) else None
