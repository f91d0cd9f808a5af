"""What a place that keeps the channels' logs promises. `tests/contracts/engine.py` holds every engine to it."""

from abc import ABC, abstractmethod
from collections.abc import Callable

from freshet.model import ClientInfo, Delivery, History, Position, PublishOptions, Stream


class Engine(ABC):
    """The log behind channels: publish, history, presence, and messages between nodes.

    Any method raises `EngineUnavailable` when the engine cannot be reached; what was asked then did not happen.

    Why a position has an epoch: a log that holds 1, 2, 3 is lost in a restart, and a new one under the same name
    reaches 5. A client that stopped at 3 would take 4 and 5 of the new log for all that it missed. The epochs differ,
    so it is told that it cannot recover.
    """

    @abstractmethod
    async def start(self, deliver: Callable[[Delivery], None]) -> None:
        """Begin. `deliver` is called, once per node, for all that happens in a channel that the node listens to.

        Publications of one channel are delivered in the order of their offsets.
        """

    @abstractmethod
    async def stop(self) -> None:
        """End, and let go of everything."""

    @abstractmethod
    async def subscribe(self, channel: str) -> None:
        """This node listens to `channel`. What is published after this returns is delivered."""

    @abstractmethod
    async def unsubscribe(self, channel: str) -> None:
        """This node no longer listens to `channel`."""

    @abstractmethod
    async def publish(self, channel: str, data: bytes, options: PublishOptions) -> Position:
        """Append `data` to the channel's log and spread it to every node that listens.

        The offset, the append and the spread are one step: no subscriber sees offset n+1 before n. Without
        `options.history` there is no log: it is spread at once and the position is `NOWHERE`.

        data: the payload as it goes to clients, of `options.kind`; never decoded here.
        """

    @abstractmethod
    async def history(
        self, channel: str, keep: History, since: Position | None = None, limit: int = -1, reverse: bool = False
    ) -> Stream:
        """The publications after `since` (before it, newest first, when `reverse`), and where the log stands.

        A log that does not exist yet is begun, so that its epoch can be told, and is kept as `keep` says.

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

        The first of it spreads `Joined`, the end `Left`. A client that is not set again within the engine's presence
        time is taken for gone.
        """

    @abstractmethod
    async def tell(self, node: str | None, message: bytes) -> None:
        """Send a control message to one node, or to all others."""
