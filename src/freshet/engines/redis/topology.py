"""Which Redis server has a channel: the one server, the one that Sentinel names, or in a cluster that of the slot."""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

from redis.asyncio import Redis, Sentinel
from redis.asyncio.cluster import ClusterNode, NodesManager
from redis.asyncio.connection import ConnectionPool
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import MasterNotFoundError
from redis.backoff import NoBackoff
from redis.cluster import PRIMARY
from redis.exceptions import AskError, MovedError, NoScriptError, ReadOnlyError, RedisError, TryAgainError

from freshet.engines.redis.access import RedisAddress, RedisUrl
from freshet.engines.redis.driver import connection_options, explain
from freshet.engines.redis.link import ServerLink
from freshet.engines.redis.messages import LinkEvents, Part, ScriptCall
from freshet.errors import EngineUnavailable
from freshet.runtime.tasks import Tasks, in_task

log = logging.getLogger("freshet")

MOVES = 5  # how often a request follows a slot that moves
PACE = 0.5  # seconds between looks at who has which slot, while something is amiss
AT_ONCE = 1000  # scripts of `run_all` that wait for replies at a time


class RedisTopology(ABC):
    """What the engine calls. A `slot` says which channel it is about; see `slot_of`.

    sharded: whether topics belong to slots, too.
    """

    sharded = False

    def __init__(self, url: RedisUrl, scripts: dict[str, bytes], events: LinkEvents) -> None:
        self._url = url
        self._scripts = scripts
        self._events = events

    @abstractmethod
    async def start(self) -> None:
        """Connect. Raises EngineUnavailable."""

    @abstractmethod
    async def stop(self) -> None:
        """Disconnect."""

    @abstractmethod
    def link(self, slot: int) -> ServerLink:
        """The link to the server that has a slot. Raises EngineUnavailable."""

    @abstractmethod
    async def redirect(self, error: RedisError) -> ServerLink | None:
        """Where to go on after an error that says that the slot is at another server; None: at its owner, once more.

        Raises EngineUnavailable for any other error.
        """

    def _new_link(self, locate: Callable[[], Awaitable[RedisAddress]]) -> ServerLink:
        return ServerLink(locate, self._url.access, self._scripts, self._events, self.sharded)

    async def request(self, slot: int, *command: Part) -> Any:
        """What the server of the slot replies to a command. Raises EngineUnavailable."""
        link = self.link(slot)
        try:
            return await link.start_request(*command)
        except EOFError:
            raise link.gone() from None
        except RedisError as error:
            return await self._follow(
                error, link, slot, lambda other, asking: other.start_request(*command, asking=asking)
            )

    async def run(self, slot: int, script: ScriptCall) -> Any:
        """What a script replies there. Raises EngineUnavailable."""
        link = self.link(slot)
        try:
            return await link.start_script(script)
        except EOFError:
            raise link.gone() from None
        except RedisError as error:
            return await self._follow(error, link, slot, lambda other, asking: other.start_script(script, asking))

    async def run_all(self, scripts: Sequence[tuple[int, ScriptCall]]) -> list[Any]:
        """What many scripts reply, each at its slot's server: in few writes, and without a task for each.

        Raises EngineUnavailable when one of them fails; others may have run.
        """
        replied: list[Any] = []
        for start in range(0, len(scripts), AT_ONCE):
            part = scripts[start : start + AT_ONCE]
            started: list[asyncio.Future[Any]] = []
            try:
                started.extend(self.link(slot).start_script(script) for slot, script in part)
            finally:
                replies = await asyncio.gather(*started, return_exceptions=True)
            for (slot, script), reply in zip(part, replies, strict=True):
                if isinstance(reply, RedisError):  # forgotten scripts, or a slot that moved
                    replied.append(await self.run(slot, script))
                elif isinstance(reply, BaseException):
                    raise EngineUnavailable("Redis went away before it replied to all")
                else:
                    replied.append(reply)
        return replied

    async def subscribe(self, slot: int, topic: bytes) -> None:
        """Subscribe to a topic. Raises EngineUnavailable."""
        for _ in range(MOVES):
            try:
                await self.link(slot).subscribe(topic)
                return
            except RedisError as error:
                await self.redirect(error)
        raise EngineUnavailable("Redis moved the channel again and again")

    def unsubscribe(self, slot: int, topic: bytes) -> None:
        """Subscribe to a topic no longer."""
        with suppress(EngineUnavailable):  # at a server that nobody knows, nothing is subscribed to
            self.link(slot).unsubscribe(topic)

    async def _follow(
        self,
        error: RedisError,
        link: ServerLink,
        slot: int,
        start: Callable[[ServerLink, bool], Awaitable[Any]],
    ) -> Any:
        """Do again what `link` replied `error` to, where and as that says."""
        asking = False
        for _ in range(MOVES):
            if isinstance(error, NoScriptError):
                await link.load_scripts()
            else:
                other = await self.redirect(error)
                asking = other is not None
                link = self.link(slot) if other is None else other
            try:
                return await start(link, asking)
            except EOFError:
                raise link.gone() from None
            except RedisError as again:
                error = again
        raise EngineUnavailable("Redis moved the channel again and again")


class OneServer(RedisTopology):
    """One server: always the same, or the one that the Sentinels call the master."""

    def __init__(self, url: RedisUrl, scripts: dict[str, bytes], events: LinkEvents) -> None:
        super().__init__(url, scripts, events)
        self._sentinel = _sentinel(url) if url.kind == "sentinel" else None
        self._link = self._new_link(self._ask_sentinels if self._sentinel is not None else self._first)

    async def start(self) -> None:
        await self._link.open()

    async def stop(self) -> None:
        await self._link.close()
        if self._sentinel is not None:
            await self._sentinel.aclose()

    def link(self, slot: int) -> ServerLink:
        return self._link

    async def redirect(self, error: RedisError) -> ServerLink | None:
        if isinstance(error, ReadOnlyError):
            self._link.disconnect("the server is a replica now")
        raise EngineUnavailable(explain(error))

    async def _first(self) -> RedisAddress:
        return self._url.addresses[0]

    async def _ask_sentinels(self) -> RedisAddress:
        assert self._sentinel is not None
        service = self._url.service
        try:
            host, port = await self._sentinel.discover_master(service)
        except MasterNotFoundError as error:
            if "AuthenticationError" in str(error):  # it lists what each of them said
                raise EOFError("a Sentinel did not let us in, check sentinel_username and sentinel_password") from None
            silent = ", and not all of them answer" if "Error" in str(error) else ""
            raise EOFError(f"the Sentinels know no {service!r} that is up{silent}") from None
        except RedisError as error:
            raise EOFError(f"a Sentinel does not say where {service!r} is: {explain(error)}") from None
        return RedisAddress(host, int(port), f"{host}:{port}")


def _sentinel(url: RedisUrl) -> Sentinel:
    """One that is silent leaves time for the others."""
    share = url.access.timeout / (len(url.addresses) + 1)
    options = connection_options(url.sentinel) | {"socket_timeout": share / 2, "socket_connect_timeout": share / 2}
    options["retry"] = Retry(NoBackoff(), 0)
    sentinel = Sentinel([])  # type: ignore[no-untyped-call]
    sentinel.sentinels = [
        Redis.from_pool(ConnectionPool(host=address.host, port=address.port, **options)) for address in url.addresses
    ]
    return sentinel


class ClusterServers(RedisTopology):
    """A link to each master. redis-py knows who has which slot, and asks again whenever something has moved."""

    sharded = True

    def __init__(self, url: RedisUrl, scripts: dict[str, bytes], events: LinkEvents) -> None:
        super().__init__(url, scripts, events._replace(moved=self._look_again))
        self._links: dict[str, ServerLink] = {}  # by the name that redis-py gives a node: its host and port
        self._topics: dict[bytes, int] = {}
        self._why = "Redis cannot be reached: the cluster has no servers"
        half = url.access.timeout / 2  # to connect and to read
        options = connection_options(url.access) | {"socket_timeout": half, "socket_connect_timeout": half}
        self._seeds = [ClusterNode(address.host, address.port, **options) for address in url.addresses]
        self._nodes = NodesManager(
            self._seeds, require_full_coverage=False, connection_kwargs=options, address_remap=self._known_host
        )
        self._slots: dict[int, list[ClusterNode]] = {}  # redis-py's, as of when all their servers were connected to
        self._look = asyncio.Event()
        self._looked = asyncio.Event()
        self._reaching = asyncio.Lock()
        self._keeper = Tasks()

    async def start(self) -> None:
        await self._refresh()
        if not self._links:
            raise EngineUnavailable(self._why)
        self._keeper.start(self._keep_topology(), "redis: topology")

    async def stop(self) -> None:
        await self._keeper.stop()
        links, self._links = self._links, {}
        await asyncio.gather(*(link.close() for link in links.values()))
        await self._nodes.aclose()
        await self._nodes.aclose("startup_nodes")
        await asyncio.gather(*(node.disconnect() for node in self._seeds))

    def link(self, slot: int) -> ServerLink:
        name = self._owner(slot)
        link = self._links.get(name) if name is not None else None
        if link is None:
            self._look_again()
            raise EngineUnavailable("no server of the Redis cluster has this channel")
        return link

    async def redirect(self, error: RedisError) -> ServerLink | None:
        if isinstance(error, MovedError | TryAgainError):
            await self._refreshed()
            return None
        if isinstance(error, AskError):  # also what MovedError derives from
            return await self._reach(*self._known_host((error.host, error.port)))
        self._look_again()
        raise EngineUnavailable(explain(error))

    async def subscribe(self, slot: int, topic: bytes) -> None:
        new = topic not in self._topics
        self._topics[topic] = slot
        try:
            await super().subscribe(slot, topic)
        except BaseException:
            if new:
                self._topics.pop(topic, None)
            raise

    def unsubscribe(self, slot: int, topic: bytes) -> None:
        self._topics.pop(topic, None)
        super().unsubscribe(slot, topic)

    # ----------------------------------------------------------------------------------------------- who has which slot

    def _owner(self, slot: int) -> str | None:
        """The name of the node that has a slot; None: nobody has."""
        nodes = self._slots.get(slot)
        return nodes[0].name if nodes else None

    def _known_host(self, address: tuple[str | None, int]) -> tuple[str, int]:
        """A cluster that is reached through somebody else may give ports alone."""
        return address[0] or self._url.addresses[0].host, address[1]

    def _look_again(self) -> None:
        self._look.set()

    async def _refreshed(self) -> None:
        """Wait until the slots were looked at again. Raises EngineUnavailable."""
        self._looked.clear()
        self._look.set()
        await in_task()
        try:
            async with asyncio.timeout(self._url.access.timeout):
                await self._looked.wait()
        except TimeoutError:
            raise EngineUnavailable("the Redis cluster does not say who has this channel") from None

    async def _keep_topology(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(PACE):
                    await self._look.wait()
            if not self._look.is_set() and all(link.is_up for link in self._links.values()):
                continue
            self._look.clear()
            if await self._refresh():
                self._events.restored()
            self._looked.set()
            await asyncio.sleep(PACE / 5)  # so many requests that were sent elsewhere ask once

    async def _refresh(self) -> bool:
        """Ask who has which slot, and subscribe there. Whether some topic came to another server."""
        for node in self._seeds:  # redis-py asks only whom it found, and all of them may have moved
            self._nodes.startup_nodes.setdefault(node.name, node)
        try:
            await self._nodes.initialize()
        except Exception as error:  # also for a reply that it cannot read
            self._why = f"Redis cannot be reached: no server of the cluster says who has which slot ({error})"
            log.warning(
                "redis: no server of the cluster says who has which slot (%s), asking again in %g s", error, PACE
            )
            return False
        owners = {node.name: node for node in self._nodes.get_nodes_by_server_type(PRIMARY)}
        for node in owners.values():
            try:
                await self._reach(node.host, int(node.port))
            except EngineUnavailable as error:  # asked again soon, as long as somebody names it
                self._why = str(error)
        self._slots = self._nodes.slots_cache
        for name in set(self._links) - set(owners):
            await self._links.pop(name).close()
        return await self._subscribe_at_owners()

    async def _reach(self, host: str, port: int) -> ServerLink:
        """The link to a server, which is opened if there is none. Raises EngineUnavailable."""
        async with self._reaching:
            name = f"{host}:{port}"
            link = self._links.get(name)
            if link is None:
                link = self._new_link(_always(RedisAddress(host, port)))
                await link.open()
                self._links[name] = link
            return link

    async def _subscribe_at_owners(self) -> bool:
        """Subscribe to every topic at the server that has its slot, and only there. Whether any was not yet."""
        for name, link in self._links.items():
            for topic in [topic for topic in link.topics if self._owner(self._topics.get(topic, -1)) != name]:
                link.unsubscribe(topic)
        owners = {slot: self._links.get(self._owner(slot) or "") for slot in set(self._topics.values())}
        wanted = [(owners[slot], topic) for topic, slot in self._topics.items()]
        missing = [(link, topic) for link, topic in wanted if link is None or topic not in link.topics]
        done = await asyncio.gather(*(self._subscribe_again(link, topic) for link, topic in missing))
        return any(done)

    async def _subscribe_again(self, link: ServerLink | None, topic: bytes) -> bool:
        try:
            if link is not None:
                await link.subscribe(topic)
                return True
        except (RedisError, EngineUnavailable):
            pass
        self._look.set()
        return False


def topology_of(url: RedisUrl, scripts: dict[str, bytes], events: LinkEvents) -> RedisTopology:
    """The servers that an URL names, not started."""
    return ClusterServers(url, scripts, events) if url.kind == "cluster" else OneServer(url, scripts, events)


def _always(address: RedisAddress) -> Callable[[], Awaitable[RedisAddress]]:
    async def locate() -> RedisAddress:
        return address

    return locate
