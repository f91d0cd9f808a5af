"""Which store of rooms an URL names."""

from collections.abc import Callable

from freshet.engines.redis.access import SCHEMES as REDIS_SCHEMES
from freshet.engines.redis.scripts import RedisScripts
from freshet.errors import ConfigError
from freshet.runtime.clock import SYSTEM, Clock
from freshet.stores.base import Store
from freshet.stores.memory import MemoryStore
from freshet.stores.redis import RedisStore
from freshet.stores.sqlite import SqliteStore


def _postgres(url: str, clock: Clock) -> Store:
    try:  # here, so that an application without the package can still be imported
        from freshet.stores.postgres import PostgresStore  # noqa: PLC0415
    except ModuleNotFoundError:
        raise ConfigError("rooms.store", "PostgreSQL needs a package: pip install asyncpg") from None
    return PostgresStore(url, clock)


def _redis(url: str, clock: Clock) -> Store:
    """Its package is the engine's business, which also knows where the servers are."""
    try:
        return RedisStore(lambda scripts: RedisScripts(url, scripts))
    except ConfigError as error:
        raise ConfigError("rooms.store", error.message) from None


STORES: dict[str, Callable[[str, Clock], Store]] = {
    "memory": lambda url, clock: MemoryStore(clock),
    "sqlite": SqliteStore,
    **dict.fromkeys(("postgres", "postgresql"), _postgres),
    **dict.fromkeys(REDIS_SCHEMES, _redis),
}


def must_be_a_store(url: str) -> None:
    """Raises ConfigError for an URL of none, whether or not there are rooms that would open it."""
    scheme = url.partition(":")[0]
    if scheme not in STORES:
        raise ConfigError("rooms.store", f"no store {scheme!r}; there are {', '.join(sorted(STORES))}")


def store_of(url: str, clock: Clock = SYSTEM) -> Store:
    """The store that an URL names. Raises ConfigError."""
    must_be_a_store(url)
    return STORES[url.partition(":")[0]](url, clock)
