"""Presence in the NATS engine: a bucket with an entry for each client in each channel, which its node renews."""

from collections.abc import Callable, Iterable, Sequence

from freshet.engines.base import Present
from freshet.engines.codec import Info
from freshet.engines.nats.connection import NatsConnection
from freshet.engines.nats.messages import ClientJoined, ClientLeft, Names, UnknownMessage, decode, encode
from freshet.engines.nats.streams import BrokerStream, StoredMessage, ToAppend
from freshet.engines.nats.url import NatsSettings
from freshet.engines.presence_sweep import PresenceSweep
from freshet.model.log import ClientInfo
from freshet.runtime.clock import Clock

PORTION = 256  # clients whose entries are requested at once


class NatsPresence:
    """time: seconds after which a client that was not set again has left. is_subscribed: whether this node is."""

    def __init__(
        self,
        connection: NatsConnection,
        settings: NatsSettings,
        time: float,
        clock: Clock,
        is_subscribed: Callable[[str], bool],
    ) -> None:
        self._connection = connection
        self._names = Names(settings.prefix)
        self._time = time
        form = {
            "subjects": [f"$KV.{self._names.bucket}.>"],
            "storage": "memory",
            "num_replicas": settings.replicas,
            "max_msgs_per_subject": 1,
            "allow_rollup_hdrs": True,
            "allow_direct": True,
        }
        self.stream = BrokerStream(connection, f"KV_{self._names.bucket}", max(120.0, 3 * time), form)
        self._entries: dict[tuple[str, str], int] = {}  # the sequence numbers of this node's clients in the bucket
        self.sweep = PresenceSweep(time, clock, is_subscribed, self._sweep)

    async def stop(self) -> None:
        """Forget the clients of this node; their entries stay until their time is over."""
        await self.sweep.stop()
        await self.stream.stop()
        self._entries.clear()

    async def read(self, channel: str) -> dict[str, ClientInfo]:
        """See `Engine.presence`."""
        async with self._connection.deadline():
            now, found = await self.stream.read(self._names.client(channel, None))
        self.sweep.somebody(channel)
        present = (_joined(it) for it in found if it.time + self._time > now)
        return {it.client: it.info.info() for it in present if it is not None}

    async def set(self, channel: str, client: str, info: ClientInfo | None) -> None:
        """See `Engine.set_presence`."""
        if info is not None:
            await self.renew([Present(channel, client, info)])
            return
        async with self._connection.deadline():
            self._entries.pop((channel, client), None)
            if (found := await self.stream.last(self._names.client(channel, client))) is not None:
                await self._remove([(channel, found)])
        self.sweep.somebody(channel)

    async def renew(self, present: Sequence[Present]) -> None:
        """See `Engine.renew_presence`. A round trip for each portion whose clients are known, and no task."""
        for start in range(0, len(present), PORTION):
            portion = present[start : start + PORTION]
            async with self._connection.deadline():
                await self._enter(portion)
            for channel in {it.channel for it in portion}:
                self.sweep.somebody(channel)

    async def _enter(self, present: Sequence[Present]) -> None:
        """Behind the entry that this node knows; if that is gone, as the first; if another node has set it, anyway.

        Who comes as the first has joined: of two nodes that set a client at the same time, one broadcasts that.
        """
        joined: list[Present] = []
        left = await self._append([(it, self._entries.get((it.channel, it.client), 0)) for it in present], joined)
        if left:
            left = await self._append([(it, 0) for it in left], joined)
        if left:
            await self._append([(it, None) for it in left], joined)
        if joined:
            await self._publish((it.channel, ClientJoined(it.client, Info.of(it.info))) for it in joined)

    async def _append(self, entries: Sequence[tuple[Present, int | None]], joined: list[Present]) -> list[Present]:
        """Those that do not come behind that sequence number; the first ones go to `joined`."""
        to_append = [
            ToAppend(
                self._names.client(it.channel, it.client), encode(ClientJoined(it.client, Info.of(it.info))), after
            )
            for it, after in entries
        ]
        refused: list[Present] = []
        for (it, after), appended in zip(entries, await self.stream.append_all(to_append), strict=True):
            if appended is None:
                refused.append(it)
                continue
            self._entries[it.channel, it.client] = appended.seq
            if after == 0:
                joined.append(it)
        return refused

    async def _remove(self, entries: Iterable[tuple[str, StoredMessage]]) -> None:
        """Of those who find out at the same time, the one whom JetStream lets remove an entry broadcasts it."""
        left = []
        for channel, found in entries:
            joined = _joined(found)
            if await self.stream.purge(found.subject, before=found.seq + 1) and joined is not None:
                left.append((channel, ClientLeft(joined.info)))
        if left:
            await self._publish(left)

    async def _publish(self, messages: Iterable[tuple[str, ClientJoined | ClientLeft]]) -> None:
        flow = ((self._names.channel("flow", channel), encode(message)) for channel, message in messages)
        await self._connection.publish_all(flow)

    async def _sweep(self, channel: str) -> bool:
        """Remove those whose time is over; whether anybody is left."""
        async with self._connection.deadline():
            now, found = await self.stream.read(self._names.client(channel, None))
            over = [it for it in found if it.time + self._time <= now]
            await self._remove((channel, it) for it in over)
        return len(over) < len(found)


def _joined(found: StoredMessage) -> ClientJoined | None:
    """What an entry holds; None when no node has written it."""
    try:
        message = decode(found.data)
    except UnknownMessage:
        return None
    return message if isinstance(message, ClientJoined) else None
