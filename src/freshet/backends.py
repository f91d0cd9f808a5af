"""Which engine and which store an URL names, and who traces messages."""

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
from freshet.observe.tracing import Tracing
from freshet.runtime.clock import SYSTEM, Clock
from freshet.runtime.places import WorkerPlaces
from freshet.runtime.server import SERVER
from freshet.stores.base import Store
from freshet.stores.memory import MemoryStore
from freshet.stores.sqlite import SqliteStore

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
    if not engine.shared and server is not None and server.hub:
        wanted = EngineSettings(config.engine, config.timing.presence_ttl, config.limits.log_memory)
        return LocalEngine(server.hub, wanted)
    if server is not None and server.hub:
        engine.places = WorkerPlaces(Path(server.hub).parent)
    return engine


def _postgres(url: str, clock: Clock) -> Store:
    try:  # here, so that an application without the package can still be imported
        from freshet.stores.postgres import PostgresStore  # noqa: PLC0415
    except ModuleNotFoundError:
        raise ConfigError("rooms.store", "PostgreSQL needs a package: pip install asyncpg") from None
    return PostgresStore(url, clock)


def tracing_of(config: Config) -> Tracing | None:
    """None: nothing is traced. Raises ConfigError when the package is missing."""
    if not config.tracing.enabled:
        return None
    try:  # here, so that an application without the package can still be imported
        from freshet.observe.otel import OpenTelemetryTracing  # noqa: PLC0415
    except ModuleNotFoundError:
        raise ConfigError("tracing.enabled", "it needs a package: pip install freshet[otel]") from None
    return OpenTelemetryTracing(expose=config.tracing.expose)


STORES: dict[str, Callable[[str, Clock], Store]] = {
    "memory": lambda url, clock: MemoryStore(clock),
    "sqlite": SqliteStore,
    "postgres": _postgres,
    "postgresql": _postgres,
}


def store_of(url: str, clock: Clock = SYSTEM) -> Store:
    """The store that an URL names. Raises ConfigError."""
    scheme = url.partition(":")[0]
    if scheme not in STORES:
        raise ConfigError("rooms.store", f"no store {scheme!r}; there are {', '.join(sorted(STORES))}")
    return STORES[scheme](url, clock)
