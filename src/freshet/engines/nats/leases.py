"""Leases in the NATS engine: a stream with an entry for each name, written behind the one before or not at all.

A key-value bucket of nats-server 2.9 has one time to live for all its keys. So an entry says itself how long it counts,
and whoever finds one compares that with the time at which the server stored it.
"""

import asyncio
from collections.abc import Mapping

import msgspec

from freshet.engines.base import Lease
from freshet.engines.nats.connection import NatsConnection
from freshet.engines.nats.messages import Names
from freshet.engines.nats.streams import BrokerStream, StoredMessage, ToAppend
from freshet.engines.nats.url import NatsSettings
from freshet.errors import EngineUnavailable

TRIES = 5
AGES = 60.0  # seconds for which entries are kept, at least
PORTION = 1000  # leases that are renewed at once


class LeaseEntry(msgspec.Struct, frozen=True, array_like=True):
    """fence: 0: the sequence number of this entry, the first of its owner. ttl: seconds."""

    owner: str
    ttl: float
    fence: int = 0


class NatsLeases:
    def __init__(self, connection: NatsConnection, settings: NatsSettings) -> None:
        self._connection = connection
        self._names = Names(settings.prefix)
        form = {
            "subjects": [self._names.all("lease")],
            "storage": "memory",
            "num_replicas": settings.replicas,
            "max_msgs_per_subject": 1,
        }
        self.stream = BrokerStream(connection, f"{settings.prefix}-leases", AGES, form)
        self._seqs: dict[tuple[str, int], int] = {}  # the entries of leases that this node renews, by name and fence

    async def stop(self) -> None:
        await self.stream.stop()
        self._seqs.clear()

    async def take(self, name: str, owner: str, ttl: float) -> Lease:
        """See `Engine.take_lease`."""
        subject = self._names.channel("lease", name)
        async with self._connection.deadline():
            await self.stream.keep_for(2 * ttl)
            for _ in range(TRIES):
                now, found = await self.stream.read(subject)
                last = found[-1] if found else None
                entry = _entry(last)
                fence = 0
                if entry is not None and last is not None and last.time + entry.ttl > now:
                    fence = entry.fence or last.seq
                    if entry.owner != owner:
                        return Lease(entry.owner, fence)
                data = msgspec.msgpack.encode(LeaseEntry(owner, ttl, fence))
                appended = await self.stream.append(subject, data, last.seq if last is not None else 0)
                if appended is not None:
                    fence = fence or appended.seq
                    self._seqs[name, fence] = appended.seq
                    return Lease(owner, fence)
        raise EngineUnavailable(f"too many nodes take the lease of {name!r} at the same time")

    async def renew(self, owner: str, leases: Mapping[str, int], ttl: float) -> set[str]:
        """See `Engine.renew_leases`."""
        names, renewed = list(leases), set[str]()
        for start in range(0, len(names), PORTION):
            async with self._connection.deadline():
                renewed |= await self._renew(
                    owner, {name: leases[name] for name in names[start : start + PORTION]}, ttl
                )
        return renewed

    async def _renew(self, owner: str, leases: Mapping[str, int], ttl: float) -> set[str]:
        afters = {name: seq for name, fence in leases.items() if (seq := self._seqs.get((name, fence), 0))}
        renewed = await self._append(owner, leases, afters, ttl)
        # What was renewed without a reply, and so is behind another entry than this node knows.
        afters, missed = {}, list(leases.keys() - renewed)
        found = await asyncio.gather(*(self.stream.last(self._names.channel("lease", name)) for name in missed))
        for name, last in zip(missed, found, strict=True):
            entry = _entry(last)
            if (
                last is not None
                and entry is not None
                and (owner, leases[name]) == (entry.owner, entry.fence or last.seq)
            ):
                afters[name] = last.seq
            else:
                self._seqs.pop((name, leases[name]), None)
        return renewed | await self._append(owner, leases, afters, ttl)

    async def _append(self, owner: str, leases: Mapping[str, int], afters: Mapping[str, int], ttl: float) -> set[str]:
        messages = [
            ToAppend(
                self._names.channel("lease", name), msgspec.msgpack.encode(LeaseEntry(owner, ttl, leases[name])), after
            )
            for name, after in afters.items()
        ]
        renewed: set[str] = set()
        for name, appended in zip(afters, await self.stream.append_all(messages), strict=True):
            if appended is not None:
                self._seqs[name, leases[name]] = appended.seq
                renewed.add(name)
        return renewed

    async def release(self, name: str, lease: Lease) -> None:
        """See `Engine.release_lease`."""
        seq = self._seqs.pop((name, lease.fence), 0)
        if seq:
            async with self._connection.deadline():
                await self.stream.purge(self._names.channel("lease", name), before=seq + 1)


def _entry(found: StoredMessage | None) -> LeaseEntry | None:
    if found is None:
        return None
    try:
        return msgspec.msgpack.decode(found.data, type=LeaseEntry)
    except msgspec.MsgspecError:
        return None  # no node has written it
