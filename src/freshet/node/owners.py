"""Who takes what happens in a channel: what a node and such owners know of one another."""

from collections.abc import Awaitable, Callable
from typing import NamedTuple, Protocol

from freshet.config import Config
from freshet.engines.base import Engine
from freshet.hub.catch_up import CatchUp
from freshet.model.entries import EntryChange, EntryPage, EntryResult
from freshet.model.log import Position, Publication, PublishOptions, Stamp
from freshet.node.bus import Bus
from freshet.node.invoking import Invoking
from freshet.node.presence import NodePresence
from freshet.observe.counts import Counts
from freshet.rules.hooks import Hooks
from freshet.rules.rules import ChannelRules, Owner
from freshet.runtime.clock import Clock
from freshet.runtime.portal import Portal
from freshet.runtime.tasks import Tasks
from freshet.runtime.wheel import Wheel
from freshet.session.outbox import Turn
from freshet.session.session import Session

TakePublication = Callable[[str, bytes, PublishOptions], Awaitable[Position]]
"""What the owner of a channel does with a publication; see `Engine.publish`."""


class Greeting(NamedTuple):
    """What a session alone gets as it comes in, before all that comes in the channel.

    page: of the channel's state, for one that asked for it; None: there is no state.
    """

    publications: list[Publication]
    page: EntryResult | None = None


class Door(Protocol):
    """An owner of channels that wants to know who comes and goes, answers what they publish, and may keep a state."""

    async def enter(
        self, session: Session, channel: str, data: bytes, page: EntryPage | None, *, is_complete: bool
    ) -> Greeting:
        """A session is about to be in. Raises `Refusal` when it may not, and `EngineUnavailable`.

        data: JSON that the client sent along. page: of the state, if the client takes it as entries. is_complete: it
        has been in before, and gets all that it missed.
        """

    async def change(self, session: Session | None, channel: str, change: EntryChange, once: str) -> EntryResult:
        """Carry out what is asked of a channel's state. session: who asks; None: the server.

        once: a key under which it is done once within five minutes; empty: none. Raises `Refusal`, and
        `EngineUnavailable` when nobody knows whether it was done.
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

    def watched(self, channel: str) -> None:
        """Somebody is there who needs none, for he knows all up to where the log goes on."""


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
    portal: Portal
    turn: Turn
    wheel: Wheel
    bus: Bus
    presence: NodePresence
    catch_up: CatchUp
    invoking: Invoking
    hooks: Hooks
    counts: Counts
    owners: dict[Owner, TakePublication]
    doors: dict[Owner, Door]
    summarizers: dict[Owner, Summarizer]
    parts: list[Part]

    @property
    def state(self) -> str: ...

    def stamp(self, trace: str = "") -> Stamp:
        """For what is published now, by whoever publishes in a channel of clients."""
