"""Agents: who writes the runs of a channel, as its presence shows them while their runs run here."""

import logging
from typing import NamedTuple

import msgspec

from freshet.errors import EngineUnavailable, Refusal
from freshet.model.log import ClientInfo
from freshet.node.owners import Site
from freshet.observe.logs import BoundedLog

bounded_log = BoundedLog(logging.getLogger("freshet.runs"))


class Agent(NamedTuple):
    """Implements `presence.Attendant` and `presence.Attendance`. id: of its run. info: JSON that others see."""

    id: str
    name: str
    info: msgspec.Raw

    def client_info(self, channel_info: msgspec.Raw) -> ClientInfo:
        return ClientInfo(self.name, self.id, chan_info=channel_info)


class Agents:
    """Those in one channel. seen: whether its rule has presence."""

    def __init__(self, node: Site, channel: str, *, seen: bool) -> None:
        self._node = node
        self._channel = channel
        self._seen = seen
        self._here: dict[str, Agent] = {}  # by run

    async def enter(self, run: str, name: str, info: msgspec.Raw) -> None:
        """Raises `Refusal` 108 where nobody is seen, and `EngineUnavailable`."""
        if not self._seen:
            raise Refusal.not_available(f"{self._channel!r} has no presence: set `presence` in its rule")
        agent = self._here[run] = Agent(run, name, info)
        await self._node.presence.enter(agent, self._channel, agent)

    async def leave(self, run: str) -> None:
        """Its run runs no more."""
        if (agent := self._here.pop(run, None)) is not None:
            try:
                await self._node.presence.leave(agent, self._channel)
            except EngineUnavailable as why:
                self._still_seen(run, why)

    def abandon(self) -> None:
        """Another node has the channel, and says who is there."""
        for agent in self._here.values():
            self._node.presence.forget(agent, self._channel)
        self._here.clear()

    async def clear(self, run: str) -> None:
        """Whoever wrote a run is gone with its node."""
        if self._seen:
            try:
                await self._node.engine.set_presence(self._channel, run, None)
            except EngineUnavailable as why:
                self._still_seen(run, why)

    def _still_seen(self, run: str, why: EngineUnavailable) -> None:
        bounded_log.warning(
            "agents",
            "runs: the agent of %s left %r, but the engine is away (%s): it is seen until timing.presence_ttl is over",
            run,
            self._channel,
            why,
        )
