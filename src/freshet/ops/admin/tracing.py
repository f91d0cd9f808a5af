"""What happens in one channel, or with one user's clients, live: sampled and bounded, so that looking harms nobody.

A channel's publications come to this node as to any that has subscribers there. A user's clients may be on any node:
each is asked to report, again and again, and stops by itself when it is asked no more.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from freshet.commands.dispatch import Dispatcher
from freshet.errors import EngineUnavailable, Refusal
from freshet.model.commands import Command, Connect
from freshet.model.events import Delivery, Event, Joined, Left, Published, Refused
from freshet.ops.admin.survey import now
from freshet.runtime.tasks import Tasks
from freshet.session.session import Session

log = logging.getLogger("freshet.admin")

TRACE, TRACED = "admin.trace", "admin.traced"
FLUSH = 0.25  # seconds
AT_ONCE = 50  # events of one tail in that time; the others are counted
PREVIEW = 2000  # bytes of a payload
CHANNELS = 50  # of one user's clients that are looked into
RENEW, LEASE = 3.0, 10.0  # seconds: an asker says that it still looks, and is forgotten

Item = dict[str, Any]


class Sample:
    """What is to be shown next, and how many more there were."""

    def __init__(self) -> None:
        self._items: list[Item] = []
        self._left_out = 0

    def add(self, item: Item) -> None:
        if len(self._items) < AT_ONCE:
            self._items.append(item)
        else:
            self._left_out += 1

    def extend(self, items: Iterable[Item], left_out: int) -> None:
        for item in items:
            self.add(item)
        self._left_out += left_out

    def take(self) -> tuple[list[Item], int]:
        items, left_out = self._items, self._left_out
        self._items, self._left_out = [], 0
        return items, left_out


def delivery(event: Delivery) -> Item:
    """A publication, or who came or went, as it is shown."""
    item: Item = {"at": now(), "channel": event.channel}
    if isinstance(event, Published):
        it = event.publication
        item |= {"kind": "publication", "offset": it.offset, "data": preview(it.data), "size": len(it.data)}
        if it.tags:
            item["tags"] = it.tags
        if it.info is not None:
            item |= {"user": it.info.user, "client": it.info.client}
    elif isinstance(event, Joined | Left):
        kind = "join" if isinstance(event, Joined) else "leave"
        item |= {"kind": kind, "user": event.info.user, "client": event.info.client}
    return item


def preview(data: bytes) -> str:
    return data[:PREVIEW].decode(errors="replace")


class _Trace(msgspec.Struct):
    """One user, for as long as `askers` (nodes, and until when) want to know. taps: of the channels of its clients."""

    user: str
    askers: dict[str, float]
    sample: Any
    taps: dict[str, Callable[[], None]] = {}


class _Asked(msgspec.Struct):
    user: str
    asker: str


class _Seen(msgspec.Struct):
    user: str
    items: list[Item]
    left_out: int


class Tracer:
    """One node's part in it. traced: called with a user, and what its clients did on any node."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self.traced: Callable[[str, list[Item], int], None] = lambda user, items, left_out: None
        self._dispatcher = dispatcher
        self._node = dispatcher.node
        self._traces: dict[str, _Trace] = {}
        self._tasks = Tasks()
        self._node.bus.handlers |= {TRACE: self._asked, TRACED: self._seen}

    async def stop(self) -> None:
        await self._tasks.stop()

    async def channel(self, channel: str, take: Callable[[Item], None]) -> Callable[[], None]:
        """Let `take` have what happens in a channel; the answer ends that. Raises `Refusal` and EngineUnavailable."""
        rule, _ = self._node.rules.find(channel)

        def taken(events: list[Delivery]) -> None:
            for event in events:
                take(delivery(event))

        return await self._node.hub.tap(channel, rule, taken)

    async def user(self, user: str) -> None:
        """Let `traced` hear of a user, until this is cancelled. Raises EngineUnavailable when the others are away."""
        body = msgspec.msgpack.encode(_Asked(user, self._node.id))
        while True:
            await self._asked(body)
            await self._node.bus.broadcast(TRACE, body)
            await asyncio.sleep(RENEW)

    # ----------------------------------------------------------------------------------------------------- on each node

    async def _asked(self, body: bytes) -> bytes:
        asked = msgspec.msgpack.decode(body, type=_Asked)
        trace = self._traces.get(asked.user)
        if trace is None:
            trace = self._traces[asked.user] = _Trace(asked.user, {}, Sample())
            self._dispatcher.watches[asked.user] = self._watch
            self._tasks.start(self._report(trace), f"admin: trace of {asked.user!r}")
        trace.askers[asked.asker] = now() + LEASE
        return b""

    async def _seen(self, body: bytes) -> bytes:
        seen = msgspec.msgpack.decode(body, type=_Seen)
        self.traced(seen.user, seen.items, seen.left_out)
        return b""

    async def _report(self, trace: _Trace) -> None:
        try:
            while trace.askers:
                await self._follow(trace)
                await asyncio.sleep(FLUSH)
                items, left_out = trace.sample.take()
                trace.askers = {node: until for node, until in trace.askers.items() if until > now()}
                if items:
                    await self._tell(trace, _Seen(trace.user, items, left_out))
        finally:
            for untap in trace.taps.values():
                untap()
            del self._traces[trace.user], self._dispatcher.watches[trace.user]

    async def _tell(self, trace: _Trace, seen: _Seen) -> None:
        for node in trace.askers:
            if node == self._node.id:
                self.traced(seen.user, seen.items, seen.left_out)
            else:
                await self._node.bus.send(node, TRACED, msgspec.msgpack.encode(seen))

    async def _follow(self, trace: _Trace) -> None:
        """Look into the channels that the user's clients are in now."""
        sessions = self._node.registry.of(trace.user)
        wanted = list(dict.fromkeys(channel for it in sessions for channel in it.subscriptions))[:CHANNELS]
        for channel in trace.taps.keys() - set(wanted):
            trace.taps.pop(channel)()
        for channel in wanted:
            if channel not in trace.taps:
                try:
                    trace.taps[channel] = await self.channel(channel, trace.sample.add)
                except (EngineUnavailable, Refusal):
                    return  # looked at again soon

    def _watch(self, session: Session, command: Command | None, reply: Event | None) -> None:
        trace = self._traces.get(session.user)
        if trace is None:
            return
        item: Item = {"at": now(), "user": session.user, "client": session.id, "node": self._node.id}
        if command is None:
            item |= {"kind": "end", "why": str(session.ended)}
        else:
            item |= {"kind": "command", "command": type(command).__name__, "transport": session.outbox.transport}
            item |= {name: getattr(command, name) for name in ("channel", "method", "event") if hasattr(command, name)}
            data = getattr(command, "data", None)
            if isinstance(data, bytes) and data and not isinstance(command, Connect):  # which may show a secret
                item |= {"data": preview(data), "size": len(data)}
        if isinstance(reply, Refused):
            item["refused"] = f"{reply.message} ({reply.code})"
        trace.sample.add(item)
