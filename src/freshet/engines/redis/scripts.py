"""The servers of a Redis for who keeps data of his own there: his scripts, and single commands."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from freshet.engines.redis.access import parse
from freshet.engines.redis.messages import LinkEvents, Part, ScriptCall, slot_of
from freshet.errors import ConfigError, EngineUnavailable

if TYPE_CHECKING:
    from freshet.engines.redis.topology import RedisTopology


class RedisScripts:
    """url: as that of the engine. scripts: their text, by name.

    All keys of one call have the same hash tag, by which a cluster keeps them together. Its methods raise
    `EngineUnavailable`. Raises ConfigError, also when the package is missing.
    """

    def __init__(self, url: str, scripts: dict[str, bytes]) -> None:
        try:
            from freshet.engines.redis.topology import topology_of  # noqa: PLC0415
        except ModuleNotFoundError:
            raise ConfigError("rooms.store", "Redis needs a package: pip install redis hiredis") from None
        self._url = parse(url)
        self._scripts = scripts
        self._topology_of = topology_of
        self._topology: RedisTopology | None = None

    @property
    def prefix(self) -> str:
        """What keys begin with."""
        return self._url.prefix

    async def start(self) -> None:
        events = LinkEvents(lambda topic, data: None, lambda: None, lambda: None)
        self._topology = self._topology_of(self._url, self._scripts, events)
        try:
            await self._topology.start()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        topology, self._topology = self._topology, None
        if topology is not None:
            await topology.stop()

    async def run(self, tag: bytes, script: str, keys: Sequence[bytes], *arguments: Part) -> Any:
        return await self._servers.run(slot_of(tag), ScriptCall(script, list(keys), arguments))

    async def request(self, tag: bytes, *command: Part) -> Any:
        return await self._servers.request(slot_of(tag), *command)

    @property
    def _servers(self) -> "RedisTopology":
        if self._topology is None:
            raise EngineUnavailable("it was stopped")
        return self._topology
