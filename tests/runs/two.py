"""Two nodes with runs over one engine, in one process. One whose clock stands is as a process that is paused."""

import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from msgspec.structs import replace

from freshet import Freshet
from freshet.config import Config, Runs, Timing, Tokens
from freshet.engines.base import Engine
from freshet.engines.local.engine import LocalEngine
from freshet.engines.local.host_hub import HostHub
from freshet.engines.local.messages import EngineSettings
from freshet.engines.memory import MemoryEngine
from freshet.engines.nats.engine import NatsEngine
from freshet.engines.redis.engine import RedisEngine
from freshet.engines.sqlite import SqliteEngine
from freshet.testing import ManualClock
from tests.tools.nats import nats
from tests.tools.patience import seconds
from tests.tools.redis import redis

KEPT = seconds(3)  # a lease that a node on a busy machine does not lose
LOST = seconds(0.6)  # one that ends soon, where the clock of its owner stands
CONFIG = Config(runs=Runs(drain=seconds(2)), timing=Timing(close_timeout=0.5), tokens=Tokens(anonymous=True))
ENGINES = ["memory", "sqlite", "redis", "nats"]
_numbers = itertools.count()

Register = Callable[[Freshet], None]


class Engines:
    """Makes engines that share one place."""

    def __init__(self, kind: str, path: Path) -> None:
        self.kind = kind
        self.path = path
        self._stack = AsyncExitStack()
        self._make: Callable[[], Engine] | None = None

    async def __aenter__(self) -> Callable[[], Engine]:
        if self.kind in ("memory", "sqlite"):
            hub_path = str(self.path / f"hub{next(_numbers)}")
            file = f"sqlite:///{self.path}/runs{next(_numbers)}.db"
            hub = HostHub(hub_path, lambda wanted: MemoryEngine() if self.kind == "memory" else SqliteEngine(file))
            await hub.start()
            self._stack.push_async_callback(hub.stop)
            return lambda: LocalEngine([hub_path], EngineSettings("memory://"))
        if self.kind == "redis":
            server = self._stack.enter_context(redis())
            return lambda: RedisEngine(str(server.url))
        url = f"{self._stack.enter_context(nats()).url}?prefix=runs{next(_numbers)}&storage=memory"
        return lambda: NatsEngine(url)

    async def __aexit__(self, *why: object) -> None:
        await self._stack.aclose()


class Nodes:
    """a, b: the nodes. clock: of a."""

    def __init__(self, a: Freshet, b: Freshet, clock: ManualClock) -> None:
        self.a = a
        self.b = b
        self.clock = clock


@asynccontextmanager
async def nodes(
    kind: str, path: Path, register: Register, *, paused: bool = False, **options: float
) -> AsyncIterator[Nodes]:
    """paused: the clock of a stands. options: of runs, where they are to be others."""
    async with Engines(kind, path) as make, nodes_of(make, register, paused=paused, **options) as here:
        yield here


@asynccontextmanager
async def nodes_of(
    make: Callable[[], Engine], register: Register, *, paused: bool = False, **options: float
) -> AsyncIterator[Nodes]:
    """make: their engines, whose place outlives them."""
    runs = replace(CONFIG.runs, **{"lease": LOST if paused else KEPT, **options})
    config = replace(CONFIG, runs=runs)
    async with AsyncExitStack() as stack:
        clock = ManualClock()
        lives: list[Freshet] = []
        for each in (clock, None) if paused else (None, None):
            with patch("freshet.app.engine_of", lambda config, clock: make()):
                live = Freshet(secret="s" * 32, config=config, **({"clock": each} if each else {}))
            register(live)
            lives.append(live)
        for live in lives:
            await stack.enter_async_context(live.lifespan())
        yield Nodes(*lives, clock)


def texts(message: dict[str, Any]) -> str:
    """What a message says."""
    return "".join(part["text"] for part in message["parts"] if part["type"] == "text")
