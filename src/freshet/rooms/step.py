"""One step of a room: what a hook reads and writes, and what is to go out once that is durable."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple, TypeAlias

from freshet.errors import FreshetError
from freshet.model.entries import EntryResult
from freshet.model.log import Kind, PublishOptions
from freshet.node.owners import Site
from freshet.rooms.messages import Direct, Kept, RoomReply, RoomVisitor, encode
from freshet.rooms.sessions import Occupancy
from freshet.rooms.state import RoomState
from freshet.rules.rules import ChannelRule
from freshet.stores.base import KEEP, Change, Store

RETRY = 1.0  # seconds after which it is tried again to let out what was changed in a state

log = logging.getLogger("freshet.rooms")


Outgoing: TypeAlias = tuple[str, Direct] | tuple[bytes, PublishOptions]
"""A node, and what one of its clients gets; or what is broadcast."""


class Outside(NamedTuple):
    """What a room's steps act on. deliver: to a client, wherever it is: its node, and what it gets. alarm: noted.

    occupants: all clients of a room, as all nodes know them.
    """

    node: Site
    store: Store
    rule: ChannelRule
    fence: Callable[[str], int]
    deliver: Callable[[str, Direct], Awaitable[None]]
    alarm: Callable[[str, float | None], None]
    occupants: Callable[[str], Awaitable[list[RoomVisitor]]]


class RoomStep:
    """The transaction that is open in a room, and its output gate.

    What is written waits for `commit`; what goes out waits with it. When `commit` raises, both are dropped.

    shared: the room's state, while there is an instance of the room; None: it has none.
    """

    __slots__ = (
        "_alarm",
        "_clear",
        "_entries",
        "_greeting",
        "_joining",
        "_kept",
        "_outgoing",
        "_outside",
        "_visitor",
        "channel",
        "occupancy",
        "open",
        "shared",
        "tick_rate",
    )

    def __init__(self, channel: str, outside: Outside) -> None:
        self.channel = channel
        self._outside = outside
        self.occupancy = Occupancy(channel, outside.occupants, outside.node)
        self.tick_rate = 0.0  # of the room's hook, a second
        self.shared: RoomState | None = None
        self.open = False
        self.begin(RoomVisitor("", ""))

    def begin(self, visitor: RoomVisitor, *, joining: bool = False) -> None:
        """visitor: whose request this is about. joining: what it is sent goes with the reply."""
        self.open = True
        self._visitor = visitor
        self._joining = joining
        self._greeting: list[Direct] = []
        self._forget()

    def _forget(self) -> None:
        self._entries: dict[str, bytes | None] = {}
        self._clear = False
        self._alarm: float | None = KEEP
        self._kept: dict[str, RoomVisitor] = {}  # for whom something else is kept from now on
        self._outgoing: list[Outgoing] = []
        if self.shared is not None:
            self.shared.forget()

    def now(self) -> float:
        """Epoch seconds."""
        return self._outside.node.clock.wall()

    @property
    def has_written(self) -> bool:
        """Whether there is something that has to be durable before anything goes out."""
        return bool(self._entries) or self._clear or self._alarm != KEEP

    # ------------------------------------------------------------------------------------------------- what hooks do

    def _check(self) -> None:
        if not self.open:
            raise RuntimeError("a room is used by its hooks alone, while they run; tasks that they begin cannot use it")
        if not self._outside.node.portal.is_here():
            raise RuntimeError(
                "a room is used in its event loop alone: a thread returns to the hook what is to be done"
            )

    async def read(self, key: str) -> bytes | None:
        self._check()
        if key in self._entries:
            return self._entries[key]
        if self._clear:
            return None
        return (await self._outside.store.get(self.channel, [key])).get(key)

    async def scan(self, prefix: str, after: str, limit: int) -> list[tuple[str, bytes]]:
        """As the store would answer if what was written so far were in it."""
        self._check()
        mine = {key: value for key, value in self._entries.items() if key.startswith(prefix) and key > after}
        kept: list[tuple[str, bytes]] = []
        if not self._clear:
            enough = limit if limit < 0 else limit + len(mine)
            kept = await self._outside.store.scan(self.channel, prefix, after, enough)
        found = sorted((key, value) for key, value in {**dict(kept), **mine}.items() if value is not None)
        return found if limit < 0 else found[:limit]

    def write(self, key: str, value: bytes | None) -> None:
        self._check()
        self._entries[key] = value

    def clear(self) -> None:
        self._check()
        self._clear = True
        self._entries = dict(self.shared.rows()) if self.shared is not None else {}

    def set_alarm(self, seconds: float | None) -> None:
        self._check()
        self._alarm = None if seconds is None else self._outside.node.clock.wall() + max(0.0, seconds)

    def broadcast(self, data: bytes, kind: Kind, tags: Mapping[str, str] | None) -> None:
        self._check()
        stamp = self._outside.node.stamp()
        options = PublishOptions(kind, self._outside.rule.history, dict(tags) if tags else None, stamp=stamp)
        self._outgoing.append((data, options))

    def send(self, visitor: RoomVisitor, it: Direct) -> None:
        self._check()
        if self._joining and visitor.client == self._visitor.client and not it.code:
            self._greeting.append(it)
        else:
            self._outgoing.append((visitor.node, it))

    def keep(self, visitor: RoomVisitor) -> None:
        """For a client, from now on, what the visitor says."""
        self._check()
        self._kept[visitor.client] = visitor

    def kept(self, visitor: RoomVisitor) -> Kept:
        """For a client, as the room knows it now."""
        return (self._kept.get(visitor.client) or self.occupancy.latest(visitor)).kept

    async def visitors(self) -> list[RoomVisitor]:
        """All clients of the room; one that joins counts already."""
        self._check()
        found = await self.occupancy.all()
        if self._joining:
            found[self._visitor.client] = self._visitor
        return [self._kept.get(client, it) for client, it in found.items()]

    def set_tick_rate(self, rate: float) -> None:
        self._check()
        self.tick_rate = rate

    # ------------------------------------------------------------------------------------------------------- the gate

    async def commit(
        self, request: str = "", *, alarm: bool = False, answer: bytes = b"", result: EntryResult | None = None
    ) -> RoomReply:
        """Make durable what was written, then let out what waits for that. The answer is the reply to the request.

        request: whose reply is remembered with what was written; empty: it is not over yet. alarm: it was the alarm,
        which is over then unless it was set anew. answer: of the hook. result: of what was asked of the state.

        Raises `StaleOwner`, `NotOwner`, `StoreUnavailable`: nothing has gone out then.
        """
        self._check()
        if alarm and self._alarm == KEEP:
            self._alarm = None
        mine = self._kept.get(self._visitor.client)
        kept = mine.kept if mine is not None else None
        reply = RoomReply(greeting=self._greeting, kept=kept, answer=answer, result=result)
        try:
            fence = self._outside.fence(self.channel)
            if self.has_written:
                remembered = (request, encode(reply)) if request else None
                if self.shared is not None:
                    rows, self._alarm = self.shared.prepare(self._alarm, KEEP)
                    self._entries |= rows
                change = Change(self._entries, self._clear, self._alarm, remembered)
                await self._outside.store.commit(self.channel, fence, change)
        except BaseException:
            self.open = False  # a hook that goes on all the same has no store any more
            raise
        if self._alarm != KEEP:
            self._outside.alarm(self.channel, self._alarm)
        outgoing = self._outgoing
        for it in self._kept.values():
            self.occupancy.changed(it)
            if it.client != self._visitor.client or not request:
                outgoing.append((it.node, Direct(self.channel, it.client, kept=it.kept)))
        self._forget()
        await self._let_out(outgoing)
        return reply

    async def let_out_changes(self) -> None:
        """What was changed in the state goes out, if it has not yet. Raises `EngineUnavailable`: it has to.

        The engine takes each change once, so that an owner before, which goes on after a pause, changes nothing back.
        """
        shared = self.shared
        if shared is None or shared.is_out:
            return
        node, history = self._outside.node, self._outside.rule.history
        for publication, key in shared.unsent():
            options = PublishOptions(
                publication.kind, history, publication.tags, idempotency_key=key, stamp=node.stamp()
            )
            await node.engine.publish(self.channel, publication.data, options)
        shared.sent()

    async def _let_out(self, outgoing: list[Outgoing]) -> None:
        try:
            await self.let_out_changes()
        except FreshetError as why:
            log.warning("rooms: changes of the state of %r did not go out yet: %s", self.channel, why)
            self._outside.alarm(self.channel, self.now() + RETRY)
        for place, what in outgoing:
            try:
                if isinstance(what, Direct):
                    await self._outside.deliver(str(place), what)
                elif isinstance(place, bytes):
                    await self._outside.node.engine.publish(self.channel, place, what)
            except FreshetError as why:  # what was written stays, and the room goes on from there
                log.warning("rooms: a broadcast of %r did not go out: %s", self.channel, why)
