"""What a place that keeps the channels' logs promises. `tests/contracts/engine.py` holds every engine to it."""

import asyncio
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, NamedTuple, TypeAlias

from freshet.errors import PositionConflict
from freshet.model.events import Delivery
from freshet.model.log import ClientInfo, History, Position, PublishOptions, Stream
from freshet.runtime.places import WorkerPlaces

REVOCATIONS, USED_TICKET, WITHDRAWN = "\0revocations", "\0ticket:", "\0withdrawn:"
"""Logs that are never forgotten for want of memory, or who fills it could undo a revocation, use a ticket again, and
return to rooms that were taken from it.

They are few: revocations are counted, clients with tickets are admitted at a pace, and only the server takes rooms.
"""


def new_epoch() -> str:
    """A name for a log that no other has had. Why one is needed: see `Engine`."""
    return secrets.token_urlsafe(6)


def check_position(after: Position | None, stands: Position) -> None:
    """Whether a log may be appended to, by `PublishOptions.after`. Raises `PositionConflict`."""
    if after is not None and after != stands:
        raise PositionConflict(f"the log stands at {stands}, not at {after}")


class Receiver(NamedTuple):
    """What an engine calls at its node, in the node's loop.

    deliver: once per node, for all that happens in a channel that the node is subscribed to. Publications of one
    channel come in the order of their offsets.
    suspect: publications may have been lost on the way to this node, in the channel that is named, or with "" in any:
    the node compares what came with the log.
    notify: a control message from another node.
    """

    deliver: Callable[[Delivery], None]
    suspect: Callable[[str], None]
    notify: Callable[[bytes], None]


class ToPublish(NamedTuple):
    """What `Engine.publish` takes."""

    channel: str
    data: bytes
    options: PublishOptions


Outcome: TypeAlias = Position | BaseException
"""What became of a publication: where it is, or what `publish` of it raises."""


class Present(NamedTuple):
    """A client that is in a channel."""

    channel: str
    client: str
    info: ClientInfo


class Lease(NamedTuple):
    """Who has a name for itself. fence: rises with each owner of the name, unless the engine has lost its data."""

    owner: str
    fence: int


class Engine(ABC):
    """The log behind channels: publish, history, presence, and messages between nodes.

    Any method but `start` and `stop` raises `EngineUnavailable`, in a bounded time, when the engine cannot be reached.
    What was asked then did not happen; or, if the connection broke before the reply, nobody knows: to publish again is
    safe with the same idempotency key.

    Why a position has an epoch: a log that holds 1, 2, 3 is lost in a restart, and a new one under the same name
    reaches 5. A client that stopped at 3 would take 4 and 5 of the new log for all that it missed. The epochs differ,
    so the server answers that it cannot recover.

    Any of them may be called where there is no task yet: see `runtime.tasks.in_task`.

    shared: several nodes may use the same place. What one publishes can be lost on the way to another, so that each
    compares what came with the logs.

    forgets: the logs end with the server, so that what was in them before it began is known to nobody.
    """

    shared: ClassVar[bool] = True
    forgets: bool = False
    places: WorkerPlaces | None = None  # of the workers of this host, if this is one of several

    @abstractmethod
    async def start(self, node: str, receiver: Receiver) -> None:
        """Begin, for the node of that name. Raises `EngineUnavailable` when there is nothing to begin with."""

    @abstractmethod
    async def stop(self) -> None:
        """End, and let go of everything."""

    @abstractmethod
    async def subscribe(self, channel: str, keep: History | None) -> Position:
        """This node subscribes to `channel`. All that is published behind the position that this answers is delivered.

        keep: as for `history`; None: the channel has no log, and the answer is `NOWHERE`.
        What was published before may be delivered too, if that was on its way. While a node is subscribed, a log keeps
        its epoch and its offset; a node that is subscribed for long calls `history` within an hour.
        """

    @abstractmethod
    async def unsubscribe(self, channel: str) -> None:
        """This node is no longer subscribed to `channel`."""

    @abstractmethod
    async def publish(self, channel: str, data: bytes, options: PublishOptions) -> Position:
        """Append `data` to the channel's log and broadcast it to every node that is subscribed.

        The offset, the append and the broadcast are one step: no subscriber sees offset n+1 before n. Without
        `options.history` there is no log: it is broadcast at once and the position is `NOWHERE`.

        data: the payload as it goes to clients, of `options.kind`; never decoded here.

        With `options.after` the comparison is part of that step. Raises `PositionConflict` when it stands elsewhere.

        Raises `TooLargeForEngine` for what does not fit by itself, whatever it was to be batched with.
        """

    def publish_now(self, channel: str, data: bytes, options: PublishOptions) -> Position | None:
        """As `publish`, for an engine that need not wait for it; None: it has to, and nothing was done."""
        return None

    async def publish_each(self, publications: Sequence[ToPublish]) -> list[Outcome]:
        """As `publish` of each, none of which waits for another."""
        return await asyncio.gather(*(self.publish(*each) for each in publications), return_exceptions=True)

    @abstractmethod
    async def history(
        self, channel: str, keep: History, since: Position | None = None, limit: int = -1, reverse: bool = False
    ) -> Stream:
        """The publications after `since` (before it, newest first, when `reverse`), and where the log stands.

        A log that does not exist yet is begun, so that it has an epoch, and is kept as `keep` says.

        since: None: from the oldest that is kept, or the newest when `reverse`.
        limit: at most so many; 0: the position alone; below 0: all.
        """

    @abstractmethod
    async def remove_history(self, channel: str) -> None:
        """Forget the publications of a channel's log.

        Its epoch and its offset stay, so that the next publication follows the last; a client that had not seen the
        last cannot recover.
        """

    @abstractmethod
    async def presence(self, channel: str) -> dict[str, ClientInfo]:
        """Who is in `channel`, by the client's id."""

    @abstractmethod
    async def set_presence(self, channel: str, client: str, info: ClientInfo | None) -> None:
        """Say that a client is there (again), or with None that it left.

        The first of it broadcasts `Joined`, the end `Left`. A client that is not set again within the engine's presence
        time is taken for gone.
        """

    async def renew_presence(self, present: Sequence[Present]) -> None:
        """Say of many clients that they are still there: `set_presence` for each, in as few requests as can be.

        Raises `EngineUnavailable` when not all of them could be set; some may have been.
        """
        for channel, client, info in present:
            await self.set_presence(channel, client, info)

    @abstractmethod
    async def take_lease(self, name: str, owner: str, ttl: float) -> Lease:
        """Who has `name` for itself: `owner` from now on, if nobody has.

        The lease ends after `ttl` seconds, by the engine's clock, unless it is renewed. One that `owner` has is renewed
        by this.
        """

    @abstractmethod
    async def renew_leases(self, owner: str, leases: Mapping[str, int], ttl: float) -> set[str]:
        """Let leases last for `ttl` seconds from now; which of them `owner` still has, with the fence that it knows.

        One that has ended may be among them, where the engine knows that nobody has taken it. leases: fences by names.
        """

    @abstractmethod
    async def release_lease(self, name: str, lease: Lease) -> None:
        """Let the next one have it, if it is still that lease."""

    async def neighbours(self) -> list[str]:
        """The nodes that share this one's port, and itself, each in a place that the one after it takes; "": nobody.

        None at all: it has its port for itself.
        """
        return self.places.read() if self.places is not None else []

    @abstractmethod
    async def tell(self, node: str | None, message: bytes) -> None:
        """Send a control message to one node, or to all others. One that is not there does not get it."""
