"""One process: its parts, their start and stop. What they do is theirs."""

import asyncio
import secrets
from typing import Literal

from freshet.config import Config
from freshet.engines.base import Engine, Receiver
from freshet.errors import Disconnect
from freshet.hub.catch_up import CatchUp
from freshet.hub.hub import Hub
from freshet.model.log import Stamp
from freshet.node.bus import Bus
from freshet.node.expiry import Expiry
from freshet.node.holding import resident, snapshot_of
from freshet.node.invoking import Invoking
from freshet.node.leaving import Leaving
from freshet.node.owners import Door, Part, Summarizer, TakePublication
from freshet.node.position_check import PositionCheck
from freshet.node.presence import NodePresence
from freshet.node.pulse import Pulse
from freshet.node.registry import Registry
from freshet.node.revoking import Revoking
from freshet.node.sharing import Sharing
from freshet.node.who import Who
from freshet.observe.counts import Counts, Snapshot
from freshet.observe.tracing import Tracing
from freshet.policy.authentication import Authentication
from freshet.policy.limits import Waiting
from freshet.policy.revocations import Revocations
from freshet.policy.webhooks import WebhookHooks
from freshet.rules.hooks import Hooks
from freshet.rules.rules import ChannelRules, Owner
from freshet.runtime.admission import Admission
from freshet.runtime.clock import SYSTEM, Clock
from freshet.runtime.portal import Portal
from freshet.runtime.tasks import Tasks
from freshet.runtime.wheel import TICK, Wheel
from freshet.session.outbox import Turn


class Node:
    """engine: where the logs are. tokens: who clients are; None: no token can be right.

    owners: who takes what is published in a channel, by its rule's `owner`. doors: who wants to know, of those, which
    clients come and go. summarizers: who has a short form of their logs. parts: what starts and stops with the node.
    """

    def __init__(
        self,
        config: Config,
        engine: Engine,
        tokens: Authentication | None = None,
        clock: Clock = SYSTEM,
        webhooks: WebhookHooks | None = None,
    ) -> None:
        limits, timing = config.limits, config.timing
        self.id = secrets.token_hex(8)
        self.config = config
        self.engine = engine
        self.tokens = tokens
        self.clock = clock
        self.state: Literal["starting", "ready", "draining"] = "starting"
        self.rules = ChannelRules(limits.channel_length)
        self.hooks = Hooks()
        self.tasks = Tasks()
        self.counts = Counts()
        self.portal = Portal(self.tasks)
        self.turn = Turn(self.portal.here)
        self.wheel = Wheel(clock, min(TICK, timing.pong_timeout / 4), self.counts.lag.observe)
        self.admission = Admission(limits.connects_per_second, limits.connects_burst, clock)
        self.bus = Bus(self.id, engine)
        self.sharing = Sharing(self.bus, clock, config.rates.scope)
        self.hub = Hub(engine, self.turn, self.counts, node=self.id, wall=clock.wall)
        self.catch_up = CatchUp(engine)
        self.registry = Registry()
        self.passed_on = Waiting(limits.waiting_requests, limits.waiting_per_address, self.counts)  # to other nodes
        self.presence = NodePresence(engine, self.wheel, self.tasks, timing.presence_ttl)
        self.who = Who(engine)
        self.invoking = Invoking(self.wheel, timing)
        self.owners: dict[Owner, TakePublication] = {"log": engine.publish}
        self.doors: dict[Owner, Door] = {}
        self.summarizers: dict[Owner, Summarizer] = {}
        self.tracing: Tracing | None = None
        self.pulse = Pulse(engine, self.counts, clock.monotonic)
        self.parts: list[Part] = [self.pulse, PositionCheck(engine, self.hub, self.bus, timing.position_check)]
        self.leaving = Leaving(
            self.registry, self.hub, self.presence, self.invoking, self.hooks, self.tasks, self.counts, doors=self.doors
        )
        self.revoking = self._revoking()
        self.expiry = Expiry(timing, self.leaving, self.tasks, clock.wall, self.hooks, self.invoking)
        self.webhooks = webhooks or WebhookHooks(None, config.webhooks)
        self._began = clock.monotonic()
        self.memory_before = 0  # resident bytes, when it had no client yet
        self._draining: asyncio.Task[None] | None = None

    def _revoking(self) -> Revoking:
        known = self.tokens.revocations if self.tokens is not None else Revocations(self.clock.wall)
        interval, unsubscribe = self.config.timing.position_check, self.leaving.unsubscribe
        return Revoking(self.engine, self.bus, self.registry, known, self.clock.wall, interval, unsubscribe)

    async def start(self) -> None:
        """Raises `EngineUnavailable`."""
        await self.engine.start(self.id, Receiver(self.hub.deliver, self.hub.suspect, self.bus.receive))
        self.wheel.start()
        if self.engine.places is not None:
            self.engine.places.take(self.id)
        await self.bus.announce()
        await self.revoking.start()
        await self.webhooks.start(self.id)
        self.hub.occupancy = self._occupancy
        for part in self.parts:
            await part.start()
        self.portal.open()
        self.registry.reopen()
        self.memory_before = resident()
        self.state = "ready"

    async def drain(self) -> None:
        """Take no new clients, and disconnect those that are here, at a pace."""
        self.state = "draining"
        await self.registry.drain(self.config.timing.drain)

    def begin_draining(self) -> None:
        """Drain, while whoever asks for that goes on. Later calls do nothing."""
        if self._draining is None:
            self._draining = self.tasks.start(self.drain(), "node: drain")

    async def stop(self) -> None:
        """Disconnect every client with 3001, end all that runs, then let go of the engine."""
        self.state = "draining"
        self.registry.disconnect_all()
        await asyncio.sleep(0)  # the turn in which they get that
        self.wheel.stop()
        if self._draining is not None:
            self._draining.cancel()
            self._draining = None
        await self.bus.announce(leaving=True)
        await self.tasks.stop(grace=self.config.timing.close_timeout)
        for session in list(self.registry):
            session.end(Disconnect.shutdown())  # its transport has not come to that
        for part in self.parts:
            await part.stop()
        await self.tasks.stop(grace=self.config.timing.close_timeout)
        self.portal.close()
        await self.webhooks.stop(grace=self.config.timing.close_timeout)
        await self.catch_up.stop()
        await self.who.stop()
        await self.hub.stop()
        await self.sharing.stop()
        await self.bus.stop()
        await self.revoking.stop()
        if self.tokens is not None:
            await self.tokens.stop()
        await self.engine.stop()
        if self.engine.places is not None:
            self.engine.places.leave()

    def _occupancy(self, channel: str, occupied: bool) -> None:
        rule, _ = self.rules.find(channel)
        if rule.webhooks:
            self.webhooks.occupancy(channel, rule, occupied)

    @property
    def has_secret(self) -> bool:
        """Whether somebody beside this process can make tokens that are right."""
        return self.tokens is not None and self.tokens.has_secret

    def uptime(self) -> float:
        """Seconds."""
        return self.clock.monotonic() - self._began

    def stamp(self, trace: str = "") -> Stamp:
        """For what is published now."""
        return Stamp(self.clock.wall(), self.id, trace)

    def trace(self, tracing: Tracing) -> None:
        """From now on."""
        self.tracing = tracing
        self.hub.traced = lambda it: tracing.delivered(it, self.rules.find(it.channel)[0].match)

    def snapshot(self) -> Snapshot:
        """All that it counts, and what it holds now, for the metrics."""
        return snapshot_of(self)
