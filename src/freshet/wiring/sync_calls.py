"""What an application asks of its server from code without `await`."""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Generator, Mapping
from typing import Any

from freshet.model.log import Position, Publication
from freshet.runs.calls import RunCalls, SyncRunCalls
from freshet.runtime.portal import Portal


class LiveCalls(RunCalls, ABC):
    """All that may be awaited; what `Freshet` does by itself is not here."""

    @abstractmethod
    async def emit(
        self,
        event: str,
        *arguments: Any,
        room: str | None = None,
        namespace: str = "/",
        tags: Mapping[str, str] | None = None,
    ) -> Position: ...

    @abstractmethod
    async def drain(self) -> None: ...

    @abstractmethod
    def listen(self, channel: str) -> AsyncGenerator[Publication, None]: ...


class SyncCalls(SyncRunCalls):
    """The methods of `Freshet` for code without `await`: `live.sync.publish("orders", 1)`.

    They are `publish`, `broadcast`, `emit`, `set_entry`, `add_to_entry`, `remove_entry`, `entries`, `history`,
    `remove_history`, `presence`, `channels`, `subscribe`, `unsubscribe`, `disconnect`, `revoke`, `refresh`, `drain`,
    `listen`, and of runs `start`, `stop`, `answer`, `resume`, `steer` and `messages`, for whatever runs in a thread of
    the same process: a plain `def` endpoint of FastAPI, a Django view, a task of Celery. Each takes, answers and raises
    what the method of the same name does, and blocks its thread meanwhile.

    Raises `NotRunning` before the start and after the end, and RuntimeError in the event loop itself, which would wait
    for itself: there, and in hooks, write `await live.publish(...)`.
    """

    def __init__(self, live: LiveCalls, portal: Portal) -> None:
        super().__init__(live, portal)
        self._live, self._portal = live, portal
        self.publish = portal.blocking(live.publish)
        self.broadcast = portal.blocking(live.broadcast)
        self.emit = portal.blocking(live.emit)
        self.set_entry = portal.blocking(live.set_entry)
        self.add_to_entry = portal.blocking(live.add_to_entry)
        self.remove_entry = portal.blocking(live.remove_entry)
        self.entries = portal.blocking(live.entries)
        self.history = portal.blocking(live.history)
        self.remove_history = portal.blocking(live.remove_history)
        self.presence = portal.blocking(live.presence)
        self.channels = portal.blocking(live.channels)
        self.subscribe = portal.blocking(live.subscribe)
        self.unsubscribe = portal.blocking(live.unsubscribe)
        self.disconnect = portal.blocking(live.disconnect)
        self.revoke = portal.blocking(live.revoke)
        self.refresh = portal.blocking(live.refresh)
        self.drain = portal.blocking(live.drain)

    def listen(self, channel: str) -> Generator[Publication, None, None]:
        """What is published in a channel from now on: `for publication in live.sync.listen("a"):`."""
        return self._portal.each(self._live.listen(channel))
