"""Who takes what happens in a channel: what a node and such owners know of one another."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from freshet.config import Config
from freshet.engines.base import Engine
from freshet.hub.catch_up import CatchUp
from freshet.model.log import Position, Publication, PublishOptions
from freshet.node.bus import Bus
from freshet.node.invoking import Invoking
from freshet.rules.rules import ChannelRules, Owner
from freshet.runtime.clock import Clock
from freshet.runtime.tasks import Tasks
from freshet.runtime.wheel import Wheel
from freshet.session.outbox import Turn
from freshet.session.session import Session

TakePublication = Callable[[str, bytes, PublishOptions], Awaitable[Position]]
"""What the owner of a channel does with a publication; see `Engine.publish`."""


class Door(Protocol):
    """An owner of channels that wants to know who comes and goes, and answers what they publish."""

    async def enter(self, session: Session, channel: str, data: bytes) -> list[Publication]:
        """A session is about to be in; the answer is what it alone gets then, before all that comes in the channel.

        data: JSON that the client sent along. Raises `Refusal` when it may not, and `EngineUnavailable`.
        """

    def leave(self, session: Session, channel: str) -> None:
        """A session that had entered is no longer in, for whatever reason."""

    async def say(self, channel: str, data: bytes, options: PublishOptions) -> bytes:
        """Take what a client publishes; see `options.info`. The answer is JSON; empty: there is none.

        Raises `Refusal`, and `EngineUnavailable` when nobody knows whether it was done.
        """

    async def request(self, session: Session, channel: str, request: bytes) -> bytes:
        """Answer a request over HTTP: an `HttpRequest` with an `HttpResponse`. Raises as `say`."""


class ChannelSummary(Protocol):
    """All that a channel's log amounts to up to `position`."""

    position: Position

    def publication(self, later: list[Publication]) -> Publication:
        """The same in one publication, with what came behind it; it has the offset of the last."""


class Summarizer(Protocol):
    """An owner of channels whose log is too long for who comes late: he gets a summary of it in its place."""

    async def summarize(self, channel: str) -> ChannelSummary:
        """Of a state that is not older than this call. Raises `EngineUnavailable`, and `Disconnect`."""


class Part(Protocol):
    """What runs as long as a node does, and uses its engine and its bus."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


class Site(Protocol):
    """What owners of channels use of the node that they are on."""

    id: str
    config: Config
    engine: Engine
    clock: Clock
    rules: ChannelRules
    tasks: Tasks
    turn: Turn
    wheel: Wheel
    bus: Bus
    catch_up: CatchUp
    invoking: Invoking
    owners: dict[Owner, TakePublication]
    doors: dict[Owner, Door]
    summarizers: dict[Owner, Summarizer]
    parts: list[Part]

    @property
    def state(self) -> str: ...
