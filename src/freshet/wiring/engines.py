"""Which engine an URL names."""

from collections.abc import Callable
from pathlib import Path

from freshet.config import Config
from freshet.engines.base import Engine
from freshet.engines.local.engine import LocalEngine
from freshet.engines.local.messages import EngineSettings
from freshet.engines.memory import MemoryEngine
from freshet.engines.nats.engine import SCHEMES as NATS_SCHEMES
from freshet.engines.nats.engine import NatsEngine
from freshet.engines.redis.engine import SCHEMES as REDIS_SCHEMES
from freshet.engines.redis.engine import RedisEngine
from freshet.engines.sqlite import SqliteEngine
from freshet.errors import ConfigError
from freshet.runtime.clock import SYSTEM, Clock
from freshet.runtime.places import WorkerPlaces
from freshet.runtime.server import SERVER

ENGINES: dict[str, Callable[[Config, Clock], Engine]] = {
    "memory": lambda config, clock: MemoryEngine(config.timing.presence_ttl, clock, config.limits.log_memory),
    "sqlite": lambda config, clock: SqliteEngine(
        config.engine, config.timing.presence_ttl, clock, config.limits.log_memory
    ),
    **dict.fromkeys(NATS_SCHEMES, lambda config, clock: NatsEngine(config.engine, config.timing.presence_ttl, clock)),
    **dict.fromkeys(REDIS_SCHEMES, lambda config, clock: RedisEngine(config.engine, config.timing.presence_ttl, clock)),
}


def engine_of(config: Config, clock: Clock = SYSTEM) -> Engine:
    """The engine that a configuration names; in one of several workers, what leads to the hub that has it.

    Raises ConfigError.
    """
    scheme = config.engine.partition(":")[0]
    if scheme not in ENGINES:
        raise ConfigError("engine", f"no engine {scheme!r}; there are {', '.join(sorted(ENGINES))}")
    engine = ENGINES[scheme](config, clock)
    server = SERVER.get()
    if server is None or not server.hubs:
        return engine
    if engine.shared:
        engine.places = WorkerPlaces(Path(server.hubs[0]).parent)
        return engine
    hubs = server.hubs if scheme == "memory" else server.hubs[:1]  # a file is for one process
    return LocalEngine(
        hubs, EngineSettings(config.engine, config.timing.presence_ttl, config.limits.log_memory, len(hubs))
    )
