"""Two nodes in one process, with clocks of their own: one whose clock stands is a process that is paused."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from unittest.mock import patch

from freshet import Freshet, Room
from freshet.config import Config, Rooms, Timing, Tokens
from freshet.engines.local.engine import LocalEngine
from freshet.engines.local.host_hub import HostHub
from freshet.engines.local.messages import EngineSettings
from freshet.engines.memory import MemoryEngine
from freshet.stores.memory import MemoryStore
from freshet.testing import ManualClock
from tests.rooms.test_rooms import SECRET

LEASE = 4.0


class SharedStore(MemoryStore):
    """Of one process, in which there are several nodes."""

    reach = "host"


class World:
    """a, b: the nodes. clocks: theirs, and that of the engine."""

    def __init__(self, path: str, store: MemoryStore, kinds: dict[str, Callable[[], type[Room]]]) -> None:
        self.store = store
        self.clocks = {name: ManualClock() for name in ("a", "b", "engine")}
        self.hub = HostHub(path, lambda wanted: MemoryEngine(clock=self.clocks["engine"]))
        self.a, self.b = (self._node(path, name, kinds) for name in ("a", "b"))

    def _node(self, path: str, name: str, kinds: dict[str, Callable[[], type[Room]]]) -> Freshet:
        config = Config(
            rooms=Rooms(store="memory://", lease=LEASE), timing=Timing(close_timeout=0.5), tokens=Tokens(anonymous=True)
        )
        with patch("freshet.app.engine_of", lambda config, clock: LocalEngine([path], EngineSettings("memory://"))):
            live = Freshet(secret=SECRET, config=config, clock=self.clocks[name])
        live._rooms._make_store = lambda url: self.store
        for match, kind in kinds.items():
            live.room(match)(kind())
        return live

    async def advance(self, seconds: float, *names: str) -> None:
        """Let time pass for some, and for the engine."""
        for _ in range(int(seconds * 2)):
            for name in ("engine", *names):
                await self.clocks[name].advance(0.5)


@asynccontextmanager
async def world(
    path: Path, store: MemoryStore | None = None, **kinds: Callable[[], type[Room]]
) -> AsyncIterator[World]:
    """kinds: of rooms, by what channels begin with; each node has a class of its own, as two processes have."""
    matches = {f"{name}:{{name}}": kind for name, kind in kinds.items()}
    it = World(str(path / "hub"), store or SharedStore(), matches)
    async with AsyncExitStack() as stack:
        await it.hub.start()
        stack.push_async_callback(it.hub.stop)
        await stack.enter_async_context(it.a.lifespan())
        await stack.enter_async_context(it.b.lifespan())
        yield it
