"""Which node has which channels in which something goes on by itself, as nodes tell one another, and who is gone.

What goes on are runs, and rooms that tick: nobody need ask anything of them for a long time. Whoever is told nothing
for as long as a lease lasts has the channel's owner go on there, and becomes that owner if there is none: the engine
decides who does. At whatever step an owner dies, somebody knows of it: others are told of what begins as it begins, and
who loses a channel looks after it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable

import msgspec

from freshet.errors import FreshetError
from freshet.node.owners import Site
from freshet.observe.logs import BoundedLog
from freshet.runtime.clock import Timer
from freshet.runtime.tasks import Tasks

bounded_log = BoundedLog(logging.getLogger("freshet.ownership"))

BEATS = 4  # in the time of a lease
PORTION = 500  # channels in one message
AT_ONCE = 20  # channels that are taken over at a time


class AliveMessage(msgspec.Struct, array_like=True):
    """channels: where something goes on, on that node. over: others, where it ended. orphans: for anybody."""

    node: str
    channels: list[str]
    over: list[str] = []
    orphans: list[str] = []


class Watching:
    """kind: of its messages on the bus. mine: the channels in which something goes on here.

    adopt: has a channel's owner go on there. tick: called with each beat.
    """

    def __init__(
        self,
        node: Site,
        kind: str,
        lease: float,
        mine: Callable[[], Iterable[str]],
        adopt: Callable[[str], Awaitable[None]],
        tick: Callable[[], None],
    ) -> None:
        self._node = node
        self._kind = kind
        self._lease = lease
        self._mine = mine
        self._adopt = adopt
        self._on_tick = tick
        self._told: set[str] = set()
        self._begun: list[str] = []  # in this turn
        self._seen: dict[str, tuple[str, float]] = {}  # by channel: the node, and when it said so
        self._adopting: set[str] = set()
        self._room = asyncio.Semaphore(AT_ONCE)
        self._timer: Timer | None = None
        self._tasks = Tasks()
        node.bus.handlers[kind] = self._on_alive

    def start(self) -> None:
        self._tick()

    async def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await self._tasks.stop()

    def suspect(self, channel: str) -> None:
        """Somebody has seen that something goes on there; if no node says that it has it, it is taken over."""
        if channel not in self._seen:
            self._seen[channel] = ("", self._node.clock.monotonic())

    def knows(self, channel: str) -> bool:
        """Whether it is looked after."""
        return channel in self._seen

    def begin(self, channel: str) -> None:
        """Something is about to begin there: others are told in the same turn, for who dies behind it tells nobody."""
        if channel in self._told or self._timer is None:  # or this node ends, and says what it leaves
            return
        self._told.add(channel)
        if not self._begun:
            self._tasks.start(self._tell_begun(), "ownership: tell other nodes")
        self._begun.append(channel)

    def lose(self, channel: str) -> None:
        """It is another node's now, or nobody's: what went on there has not come to its end."""
        self._told.discard(channel)
        self._seen[channel] = ("", self._node.clock.monotonic())

    async def abandon(self, channels: list[str]) -> None:
        """Others are to go on with these."""
        self._told.difference_update(channels)
        await self._say(AliveMessage(self._node.id, [], [], channels))

    def _tick(self) -> None:
        self._timer = self._node.clock.call_later(self._lease / BEATS, self._tick)
        self._on_tick()
        mine = set(self._mine())
        if mine or self._told:
            self._tasks.start(self._beat(sorted(mine), sorted(self._told - mine)), "ownership: tell other nodes")
        self._told = mine
        late = self._node.clock.monotonic() - self._lease
        for channel in [channel for channel, (_, at) in self._seen.items() if at < late]:
            self._try(channel)

    async def _beat(self, mine: list[str], over: list[str]) -> None:
        for start in range(0, max(len(mine), len(over), 1), PORTION):
            await self._say(AliveMessage(self._node.id, mine[start : start + PORTION], over[start : start + PORTION]))

    async def _tell_begun(self) -> None:
        begun, self._begun = self._begun, []
        await self._beat(begun, [])

    async def _say(self, message: AliveMessage) -> None:
        try:
            await self._node.bus.broadcast(self._kind, msgspec.msgpack.encode(message))
        except FreshetError as why:
            bounded_log.warning("alive", "ownership: other nodes were not told what goes on here: %s", why)

    async def _on_alive(self, body: bytes) -> bytes:
        it = msgspec.msgpack.decode(body, type=AliveMessage)
        now = self._node.clock.monotonic()
        for channel in it.channels:
            self._seen[channel] = (it.node, now)
        for channel in it.over:
            if self._seen.get(channel, ("", 0.0))[0] in (it.node, ""):
                self._seen.pop(channel, None)
        for channel in it.orphans:
            self._seen[channel] = ("", now)
            self._try(channel)
        return b""

    def _try(self, channel: str) -> None:
        if channel not in self._adopting and self._node.state != "draining":
            self._adopting.add(channel)
            self._tasks.start(self._take(channel), "ownership: see to a channel")

    async def _take(self, channel: str) -> None:
        try:
            async with self._room:
                await self._adopt(channel)
                self._seen.pop(channel, None)
        except FreshetError as why:
            bounded_log.warning("adopt", "ownership: nobody could go on in %r, trying again: %s", channel, why)
        finally:
            self._adopting.discard(channel)
