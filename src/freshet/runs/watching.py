"""Which node has which channels with runs, as nodes tell one another each second; and who is gone with his runs.

Whoever is told nothing for as long as a lease lasts has the channel's owner go on there, and becomes that owner if
there is none: the engine decides who does. At whatever step an owner dies, somebody knows of it: other nodes are told
of a run as it goes into the log, who loses a channel looks after it, and so does a node to which comes who watches it.
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

bounded_log = BoundedLog(logging.getLogger("freshet.runs"))

ALIVE = "runs:alive"
BEATS = 4  # in the time of a lease
PORTION = 500  # channels in one message
AT_ONCE = 20  # channels that are taken over at a time


class AliveMessage(msgspec.Struct, array_like=True):
    """channels: in which runs run on that node. over: others, in which none does any more. orphans: for anybody."""

    node: str
    channels: list[str]
    over: list[str] = []
    orphans: list[str] = []


class Watching:
    """mine: the channels in which something goes on here. adopt: have a channel's owner go on. tick: each beat."""

    def __init__(
        self,
        node: Site,
        lease: float,
        mine: Callable[[], Iterable[str]],
        adopt: Callable[[str], Awaitable[None]],
        tick: Callable[[], None],
    ) -> None:
        self._node = node
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
        node.bus.handlers[ALIVE] = self._on_alive

    def start(self) -> None:
        self._tick()

    async def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await self._tasks.stop()

    def suspect(self, channel: str) -> None:
        """Somebody has seen a run there that runs; if no node says that it has it, it is taken over."""
        if channel not in self._seen:
            self._seen[channel] = ("", self._node.clock.monotonic())

    def knows(self, channel: str) -> bool:
        """Whether it is looked after."""
        return channel in self._seen

    def begin(self, channel: str) -> None:
        """A run is about to begin there: others are told in the same turn, for who dies behind it tells nobody."""
        if channel in self._told:
            return
        self._told.add(channel)
        if not self._begun:
            self._tasks.start(self._tell_begun(), "runs: tell other nodes")
        self._begun.append(channel)

    def lose(self, channel: str) -> None:
        """It is another node's now, or nobody's: what ran there is not over."""
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
            self._tasks.start(self._beat(sorted(mine), sorted(self._told - mine)), "runs: tell other nodes")
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
            await self._node.bus.broadcast(ALIVE, msgspec.msgpack.encode(message))
        except FreshetError as why:
            bounded_log.warning("alive", "runs: other nodes were not told what runs here: %s", why)

    async def _on_alive(self, body: bytes, cancelled: asyncio.Event) -> bytes:
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
            self._tasks.start(self._take(channel), "runs: see to a channel")

    async def _take(self, channel: str) -> None:
        try:
            async with self._room:
                await self._adopt(channel)
                self._seen.pop(channel, None)
        except FreshetError as why:
            bounded_log.warning("adopt", "runs: nobody could go on in %r, trying again: %s", channel, why)
        finally:
            self._adopting.discard(channel)
