"""Presence in the NATS engine: a bucket with an entry for each client in each channel, which its node renews."""

from collections.abc import Callable

from freshet.engines.codec import Info
from freshet.engines.nats.access import Where
from freshet.engines.nats.link import Link
from freshet.engines.nats.messages import Came, Foreign, Names, Went, decode, encode
from freshet.engines.nats.streams import Stored
from freshet.engines.nats.streams import Stream as Place
from freshet.engines.presence_sweep import Sweeping
from freshet.model.log import ClientInfo
from freshet.runtime.clock import Clock


class Presence:
    """time: seconds for which a client that was set counts as there. listens: whether this node does, to a channel."""

    def __init__(self, link: Link, where: Where, time: float, clock: Clock, listens: Callable[[str], bool]) -> None:
        self._link = link
        self._names = Names(where.prefix)
        self._time = time
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
        self.sweeping = Sweeping(time, clock, listens, self._sweep)

    async def stop(self) -> None:
        await self.sweeping.stop()
        self._set.clear()

    async def read(self, channel: str) -> dict[str, ClientInfo]:
        async with self._link.in_time():
            now, found = await self.place.read(self._names.client(channel, None))
        self.sweeping.somebody(channel)
        here = (_came(it) for it in found if it.time + self._time > now)
        return {it.client: it.info.info() for it in here if it is not None}

    async def set(self, channel: str, client: str, info: ClientInfo | None) -> None:
        async with self._link.in_time():
            await (self._leave(channel, client) if info is None else self._enter(channel, client, Info.of(info)))
        self.sweeping.somebody(channel)

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

    async def _sweep(self, channel: str) -> bool:
        """Let those go whose time is over; whether anybody is left."""
        async with self._link.in_time():
            now, found = await self.place.read(self._names.client(channel, None))
            gone = [it for it in found if it.time + self._time <= now]
            for it in gone:
                await self._went(channel, it)
        return len(gone) < len(found)


def _came(found: Stored) -> Came | None:
    """What an entry says; None when it is a stranger's."""
    try:
        said = decode(found.data)
    except Foreign:
        return None
    return said if isinstance(said, Came) else None
