"""Two connections to one Redis server, for requests and for subscriptions, which reconnect when they are lost."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from redis.exceptions import RedisError

from freshet.engines.reconnect import Reconnecting
from freshet.engines.redis.access import RedisAccess, RedisAddress
from freshet.engines.redis.batch import BatchedConnection
from freshet.engines.redis.driver import explain
from freshet.engines.redis.messages import LinkEvents, Part, ScriptCall
from freshet.errors import EngineUnavailable

SUBSCRIBED_AT_ONCE = 1000  # topics, when all are subscribed to again

log = logging.getLogger("freshet")

_NOT_UTF8 = "replace"


class ServerLink(Reconnecting):
    """locate: where the server is now; raises RedisError or OSError.

    scripts: their text, by name. sharded: as in a cluster, where a topic is at the server of its slot alone.
    """

    broker = "Redis"

    def __init__(
        self,
        locate: Callable[[], Awaitable[RedisAddress]],
        access: RedisAccess,
        scripts: dict[str, bytes],
        events: LinkEvents,
        sharded: bool = False,
    ) -> None:
        super().__init__(events.restored)
        self.topics: set[bytes] = set()
        self._locate = locate
        self._access = access
        self._scripts = scripts
        self._events = events
        self._sharded = sharded
        self._subscribe = b"ssubscribe" if sharded else b"subscribe"
        self._unsubscribe = b"sunsubscribe" if sharded else b"unsubscribe"
        self._requests: BatchedConnection | None = None
        self._subscriptions: BatchedConnection | None = None
        self._closing: list[BatchedConnection] = []  # closed ones whose tasks may not have ended
        self._all_subscribed = False
        self._address: RedisAddress | None = None
        self._identity: tuple[bytes, bytes] = (b"", b"")
        self._shas: dict[str, bytes] = {}
        self._loading: asyncio.Future[list[bytes]] | None = None
        self._role: asyncio.Future[Any] | None = None  # what the server was last asked about itself

    @property
    def _server(self) -> RedisAddress | None:
        return self._address

    @property
    def _subscribed(self) -> int:
        return len(self.topics)

    @property
    def is_up(self) -> bool:
        """Whether both connections are open, and all topics are subscribed to."""
        return self._requests is not None and self._all_subscribed

    # ------------------------------------------------------------------------------------------------------- requests

    def start_request(self, *command: Part, asking: bool = False) -> asyncio.Future[Any]:
        """Put a command into the turn's batch. asking: the slot is on its way to this server.

        The future raises RedisError for a reply that is an error, and EOFError when the connection is lost; see `gone`.
        Raises EngineUnavailable.
        """
        try:
            requests = self._open_requests()
            if asking:
                requests.send(b"ASKING")
            return requests.request(*command)
        except EOFError:
            raise self.gone() from None

    def start_script(self, script: ScriptCall, asking: bool = False) -> asyncio.Future[Any]:
        """Put a script into the turn's batch; see `start_request`."""
        if self._requests is None:
            raise self._away()
        head = (b"EVALSHA", self._shas[script.name], len(script.keys))
        return self.start_request(*head, *script.keys, *self._identity, *script.arguments, asking=asking)

    async def load_scripts(self) -> None:
        """Give the server the scripts, which it has forgotten: once for all calls that find out meanwhile.

        Raises EngineUnavailable.
        """
        if self._loading is None or self._loading.done():
            loads = [self.start_request(b"SCRIPT", b"LOAD", text) for text in self._scripts.values()]
            self._loading = asyncio.gather(*loads)
        try:
            await asyncio.shield(self._loading)
        except EOFError:
            raise self.gone() from None
        except RedisError as error:
            raise EngineUnavailable(explain(error)) from None

    def gone(self) -> EngineUnavailable:
        """What to raise for a request whose connection was lost before the reply."""
        return EngineUnavailable(f"Redis went away before it replied: {self._why}")

    def _away(self) -> EngineUnavailable:
        return EngineUnavailable(f"Redis is away: {self._why}")

    def _open_requests(self) -> BatchedConnection:
        if self._requests is None:
            raise self._away()
        return self._requests

    # -------------------------------------------------------------------------------------------------- subscriptions

    async def subscribe(self, topic: bytes) -> None:
        """Subscribe to `topic`; returns when the server has confirmed it. Raises RedisError, EngineUnavailable."""
        if not self._all_subscribed or self._subscriptions is None:
            raise self._away()
        new = topic not in self.topics
        self.topics.add(topic)
        try:
            await self._subscriptions.subscribe(self._subscribe, topic)
        except BaseException as error:
            if new:
                self.unsubscribe(topic)
            if isinstance(error, EOFError):
                raise self.gone() from None
            raise

    def unsubscribe(self, topic: bytes) -> None:
        """Subscribe to `topic` no longer."""
        self.topics.discard(topic)
        if self._subscriptions is not None:
            # With a full backlog the subscription stays for a while, and what comes from it is not for anybody.
            with suppress(EngineUnavailable, EOFError):
                self._subscriptions.unsubscribe(self._unsubscribe, topic)

    # ------------------------------------------------------------------------------------------------------ connecting

    def disconnect(self, why: str) -> None:
        """Close both connections, and look again for where the server is."""
        requests, self._requests = self._requests, None
        if requests is not None:
            self._close(requests)
        self._disconnect_subscriptions(why)

    def _disconnect_subscriptions(self, why: str) -> None:
        subscriptions, self._subscriptions = self._subscriptions, None
        self._all_subscribed = False
        self._why = why
        self._lost.set()
        if subscriptions is not None:
            self._close(subscriptions)

    def _close(self, connection: BatchedConnection) -> None:
        connection.close()
        self._closing.append(connection)

    async def _wait_closed(self) -> None:
        closing, self._closing = self._closing, []
        for connection in closing:
            await connection.wait_closed()

    def _check_deadlines(self) -> None:
        """Give up a server that does not reply in time, and see whether an idle one still does."""
        for connection in (self._requests, self._subscriptions):
            if connection is None or connection.closed:
                continue
            if connection.is_late(self._access.timeout):
                self.disconnect(f"no answer within {self._access.timeout:g} s")
                return
            if connection is self._requests:
                self._check_role(connection)
            elif connection.is_idle:
                connection.send(b"PING")

    def _check_role(self, requests: BatchedConnection) -> None:
        """A server that has become a replica takes PUBLISH without an error, and those at the new master miss it."""
        if self._role is None or self._role.done():
            with suppress(EngineUnavailable, EOFError):
                self._role = requests.request(b"INFO", b"replication")
                self._role.add_done_callback(self._on_role)

    def _on_role(self, role: "asyncio.Future[Any]") -> None:
        if role.cancelled() or role.exception() is not None or not isinstance(role.result(), bytes):
            return  # who may not ask any more learns it from the first error
        if role is self._role and facts_of(role.result()).get("role") == "slave":
            self.disconnect("the server is a replica now")

    async def _connect(self) -> bool:
        """Open the connections that are missing and subscribe to all topics again; if that fails, `_why` says why."""
        self._disconnect_subscriptions(self._why)
        self._lost.clear()
        try:
            async with asyncio.timeout(self._access.timeout):
                await self._open_connections()
            await self._subscribe_again()
        except TimeoutError:
            self._disconnect_subscriptions(f"no answer within {self._access.timeout:g} s")
        except RedisError as error:
            place = f"{self._address}: " if self._address is not None else ""
            self._disconnect_subscriptions(place + explain(error))
        except (OSError, EOFError, EngineUnavailable) as error:
            self._disconnect_subscriptions(str(error))
        except Exception as error:  # what redis-py makes of a server that is no Redis; the next attempt must come
            self._disconnect_subscriptions(f"{self._address} does not reply as Redis does ({type(error).__name__})")
        return self.is_up

    async def _open_connections(self) -> None:
        """Both have to lead to one server: another one does not broadcast what is published at this one."""
        address = self._address = await self._locate()
        self._subscriptions = await self._open_one(address, for_requests=False)
        identity = await self._identify(self._subscriptions, address)
        if self._requests is not None and identity == self._identity:
            return
        if self._requests is not None:
            self._close(self._requests)
            self._requests = None
        requests = await self._open_one(address, for_requests=True)
        try:
            if await self._identify(requests, address) != identity:
                raise EOFError(f"{address} is two servers")
            for name, text in self._scripts.items():
                self._shas[name] = await requests.request(b"SCRIPT", b"LOAD", text)
        except BaseException:
            self._close(requests)
            raise
        self._identity = identity
        self._requests = requests

    def _open_one(self, address: RedisAddress, for_requests: bool) -> Awaitable[BatchedConnection]:
        # Without requests the subscriptions go too: the server may have restarted as another one.
        lost = self.disconnect if for_requests else self._disconnect_subscriptions
        return BatchedConnection.open(address, self._access, self._on_push, lost)

    async def _identify(self, connection: BatchedConnection, address: RedisAddress) -> tuple[bytes, bytes]:
        """What the scripts have to know of the server. Raises EOFError for one that we cannot use, RedisError."""
        info = await connection.request(b"INFO")
        if not isinstance(info, bytes):
            raise EOFError(f"{address} does not say what it is, as Redis does")
        facts = facts_of(info)
        if facts.get("role") != "master":
            raise EOFError(f"{address} is a replica")
        least = (7, 0) if self._sharded else (6, 2)
        if _version(facts) < least:
            raise EOFError(f"{address} is Redis {facts.get('redis_version')}, older than {_dotted(least)}")
        name = ""
        if facts.get("aof_enabled") == "1" and await _writes_before_it_replies(connection):
            name = await _name_in_cluster(connection, address) if self._sharded else address.name or "data"
        return facts.get("run_id", "").encode(), name.encode()

    async def _subscribe_again(self) -> None:
        """While this goes on, topics may leave, but none comes."""
        subscriptions = self._subscriptions
        topics = list(self.topics)
        for start in range(0, len(topics), SUBSCRIBED_AT_ONCE):
            batch = [topic for topic in topics[start : start + SUBSCRIBED_AT_ONCE] if topic in self.topics]
            if subscriptions is None or subscriptions.closed:
                raise EOFError(self._why)
            async with asyncio.timeout(self._access.timeout):
                await asyncio.gather(*(subscriptions.subscribe(self._subscribe, topic) for topic in batch))
        self._all_subscribed = self._subscriptions is not None

    def _on_push(self, push: list[Any]) -> None:
        match push:
            case [b"message" | b"smessage", bytes() as topic, bytes() as data]:
                self._events.message(topic, data)
            case [b"sunsubscribe", bytes() as topic, *_]:
                self.topics.discard(topic)
                self._events.moved()
            case _:  # what a later Redis may push is nothing that we asked for
                log.debug("redis: a push of an unknown kind is left out")


def facts_of(info: bytes) -> dict[str, str]:
    """What INFO replies."""
    pairs = (part.partition(":") for part in info.decode("utf-8", _NOT_UTF8).splitlines())
    return {name: value for name, _, value in pairs if value}


async def _writes_before_it_replies(connection: BatchedConnection) -> bool:
    """Whether all is on disk before it is answered. With `everysec`, a crash loses up to two seconds of it."""
    try:
        found = await connection.request(b"CONFIG", b"GET", b"appendfsync")
    except RedisError:  # who runs the server for us does not say
        return False
    return isinstance(found, dict) and bool(found.get(b"appendfsync") == b"always")


async def _name_in_cluster(connection: BatchedConnection, address: RedisAddress) -> str:
    """What the cluster calls the server, wherever it moves to; its address where we may not ask."""
    try:
        name = await connection.request(b"CLUSTER", b"MYID")
    except RedisError:
        return str(address)
    return name.decode(errors=_NOT_UTF8) if isinstance(name, bytes) else str(address)


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _version(facts: dict[str, str]) -> tuple[int, ...]:
    numbers = facts.get("redis_version", "").split(".")[:2]
    return tuple(int(number) for number in numbers if number.isdecimal())
