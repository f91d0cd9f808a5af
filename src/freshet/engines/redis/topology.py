"""Where a channel's Redis is: one server, one that Sentinel names, or the one of a cluster that has the slot."""

import asyncio
import binascii
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from freshet.engines import tls
from freshet.engines.redis.connection import Access, Address, Events, Line, Link, Refused, explain, need_hiredis
from freshet.errors import ConfigError, EngineUnavailable

log = logging.getLogger("freshet")

SLOTS = 16384
MOVES = 5  # how often a call follows a slot that moves
PACE = 0.5  # seconds between looks at who has which slot

SCHEMES = tuple(f"redis{secure}{kind}" for secure in ("", "s") for kind in ("", "+sentinel", "+cluster"))
_NOWHERE = Address("", 0)
_PORTS = {"": 6379, "sentinel": 26379, "cluster": 6379}
_OPTIONS = (
    "prefix",
    "timeout",
    "sentinel_username",
    "sentinel_password",
    *tls.OPTIONS,
)


class Where(NamedTuple):
    """What an URL says. kind: empty, `sentinel` or `cluster`. service: what Sentinel calls the master."""

    kind: str
    addresses: list[Address]
    access: Access
    service: str = ""
    sentinel: Access = Access()
    prefix: str = "freshet"


def parse(url: str) -> Where:
    """`redis://[user:password@]host[:port][/database][?prefix=...]`, `redis+sentinel://host,host/service[/database]`,
    `redis+cluster://host,host`; with `rediss` over TLS. Raises ConfigError, without the URL, which may hold a secret.
    """
    need_hiredis()
    try:
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
        scheme, _, kind = parts.scheme.partition("+")
        login, _, hosts = parts.netloc.rpartition("@")
        user, _, password = login.partition(":")
        addresses = [_address(host, _PORTS[kind]) for host in hosts.split(",")]
        path = [unquote(part) for part in parts.path.split("/") if part]
        service = path.pop(0) if kind == "sentinel" else ""
        database = int(path.pop(0)) if path and kind != "cluster" else 0
        timeout = float(options.get("timeout", "5"))
    except (ValueError, LookupError) as error:
        raise ConfigError("engine", f"not the URL of a Redis: {type(error).__name__}") from None
    unknown = sorted(set(options) - set(_OPTIONS))
    if unknown:
        raise ConfigError("engine", f"Redis has no option {unknown[0]!r}; there are {', '.join(_OPTIONS)}")
    if path or (not kind and len(addresses) > 1) or not 0.05 <= timeout <= 3600:
        raise ConfigError("engine", "expected one host, a database's number as path, and a timeout in seconds")
    secured = tls.context(options, "Redis") if scheme == "rediss" else None
    return Where(
        kind,
        addresses,
        Access(unquote(user), unquote(password), database, secured, timeout),
        service,
        Access(options.get("sentinel_username", ""), options.get("sentinel_password", ""), 0, secured, timeout),
        options.get("prefix", "freshet"),
    )


def _address(text: str, port: int) -> Address:
    parts = urlsplit(f"//{text}")  # knows [::1]:6379
    return Address(parts.hostname or "localhost", parts.port or port)


class Servers(ABC):
    """What the engine calls. A `slot` says which channel it is about; see `slot_of`."""

    sharded = False

    def __init__(self, where: Where, scripts: dict[str, bytes], events: Events) -> None:
        self._where = where
        self._scripts = scripts
        self._events = events

    @abstractmethod
    async def start(self) -> None:
        """Reach them. Raises EngineUnavailable."""

    @abstractmethod
    async def stop(self) -> None:
        """Let go of them."""

    @abstractmethod
    def link(self, slot: int) -> Link:
        """The link to the server that has a slot. Raises EngineUnavailable."""

    @abstractmethod
    async def elsewhere(self, error: Refused) -> Link | None:
        """Where to go on after an error that says that the slot is at another server; None: here, once more.

        Raises EngineUnavailable for any other error.
        """

    def _new_link(self, locate: Callable[[], Awaitable[Address]]) -> Link:
        return Link(locate, self._where.access, self._scripts, self._events, self.sharded)

    async def call(self, slot: int, *command: bytes | str | int) -> Any:
        """What the server of the slot answers. Raises EngineUnavailable."""
        return await self._follow(slot, lambda link: command)

    async def run(self, slot: int, name: str, keys: list[bytes], *arguments: bytes | str | int) -> Any:
        """What a script answers there. Raises EngineUnavailable."""
        return await self._follow(slot, lambda link: link.script(name, keys, arguments))

    async def listen(self, slot: int, topic: bytes) -> None:
        """Subscribe to a topic. Raises EngineUnavailable."""
        for _ in range(MOVES):
            try:
                await self.link(slot).listen(topic)
                return
            except Refused as error:
                await self.elsewhere(error)
        raise EngineUnavailable("Redis moved the channel again and again")

    def ignore(self, slot: int, topic: bytes) -> None:
        """Subscribe to a topic no longer."""
        with suppress(EngineUnavailable):  # on a line that is lost, nothing is subscribed to
            self.link(slot).ignore(topic)

    async def _follow(self, slot: int, command_for: Callable[[Link], tuple[bytes | str | int, ...]]) -> Any:
        link = None
        for _ in range(MOVES):
            try:
                if link is not None:  # the slot is on its way, and only this call goes there
                    return await link.call_both((b"ASKING",), command_for(link))
                here = self.link(slot)
                return await here.call(*command_for(here))
            except Refused as error:
                if str(error).startswith("NOSCRIPT"):
                    await self._load_scripts(link or self.link(slot))
                else:
                    link = await self.elsewhere(error)
        raise EngineUnavailable("Redis moved the channel again and again")

    @staticmethod
    async def _load_scripts(link: Link) -> None:
        try:
            await link.load_scripts()
        except Refused as error:
            raise EngineUnavailable(explain(error)) from None


class One(Servers):
    """One server: always the same, or the one that the Sentinels call the master."""

    def __init__(self, where: Where, scripts: dict[str, bytes], events: Events) -> None:
        super().__init__(where, scripts, events)
        self._link = self._new_link(self._ask_sentinels if where.kind == "sentinel" else self._first)

    async def start(self) -> None:
        await self._link.open()

    async def stop(self) -> None:
        await self._link.close()

    def link(self, slot: int) -> Link:
        return self._link

    def ignore(self, slot: int, topic: bytes) -> None:
        self._link.ignore(topic)

    async def elsewhere(self, error: Refused) -> Link | None:
        text = explain(error)
        if str(error).startswith("READONLY"):
            self._link.drop("the server is a replica now")
        raise EngineUnavailable(text)

    async def _first(self) -> Address:
        return self._where.addresses[0]

    async def _ask_sentinels(self) -> Address:
        addresses = self._where.addresses
        share = self._where.access.timeout / (len(addresses) + 1)  # one that is silent leaves time for the others
        why = "no Sentinel answers"
        for address in addresses:
            try:
                async with asyncio.timeout(share):
                    found = await self._ask_sentinel(address)
            except (OSError, EOFError, Refused) as error:
                why = f"the Sentinel {address} does not answer: {error}"
                continue
            if found:
                host, port = found[0].decode(), int(found[1])
                return Address(host, port, f"{host}:{port}")
            why = f"the Sentinels know no {self._where.service!r}"
        raise EOFError(why)

    async def _ask_sentinel(self, address: Address) -> Any:
        line = await Line.dial(address, self._where.sentinel, lambda push: None, lambda: None)
        try:
            return await line.call(b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", self._where.service)
        finally:
            line.close()


class Cluster(Servers):
    """A link to each master, and who has which slot, which is asked again whenever something has moved."""

    sharded = True

    def __init__(self, where: Where, scripts: dict[str, bytes], events: Events) -> None:
        super().__init__(where, scripts, events._replace(moved=self._look_again))
        self._links: dict[Address, Link] = {}
        self._slots: list[Address | None] = [None] * SLOTS
        self._topics: dict[bytes, int] = {}
        self._look = asyncio.Event()
        self._looked = asyncio.Event()
        self._reaching = asyncio.Lock()
        self._keeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self._refresh()
        if not any(self._slots):
            raise EngineUnavailable("Redis cannot be reached: no server of the cluster says who has which slot")
        self._keeper = asyncio.get_running_loop().create_task(self._keep())

    async def stop(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
            self._keeper = None
        links, self._links = self._links, {}
        await asyncio.gather(*(link.close() for link in links.values()))

    def link(self, slot: int) -> Link:
        address = self._slots[slot]
        link = self._links.get(address) if address is not None else None
        if link is None:
            raise EngineUnavailable("no server of the Redis cluster has this channel")
        return link

    async def elsewhere(self, error: Refused) -> Link | None:
        word, _, rest = str(error).partition(" ")
        if word == "ASK":
            host, _, port = rest.partition(" ")[2].rpartition(":")
            return await self._reach(Address(host, int(port)))
        if word in ("MOVED", "TRYAGAIN"):
            await self._refreshed()
            return None
        self._look_again()
        raise EngineUnavailable(explain(error))

    async def listen(self, slot: int, topic: bytes) -> None:
        new = topic not in self._topics
        self._topics[topic] = slot
        try:
            await super().listen(slot, topic)
        except BaseException:
            if new:
                self._topics.pop(topic, None)
            raise

    def ignore(self, slot: int, topic: bytes) -> None:
        self._topics.pop(topic, None)
        super().ignore(slot, topic)

    def _look_again(self) -> None:
        self._look.set()

    async def _refreshed(self) -> None:
        """Wait until the slots were looked at again. Raises EngineUnavailable."""
        self._looked.clear()
        self._look.set()
        try:
            async with asyncio.timeout(self._where.access.timeout):
                await self._looked.wait()
        except TimeoutError:
            raise EngineUnavailable("the Redis cluster does not say who has this channel") from None

    async def _keep(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(PACE):
                    await self._look.wait()
            if not self._look.is_set() and all(link.is_up for link in self._links.values()):
                continue
            self._look.clear()
            if await self._refresh():
                self._events.back()
            self._looked.set()
            await asyncio.sleep(PACE / 5)  # so many calls that were sent elsewhere ask once

    async def _refresh(self) -> bool:
        """Ask who has which slot, and subscribe there. Whether some topic came to another server."""
        owners = await self._ask_for_slots()
        if not owners:
            return False
        for address in {address for address in owners if address is not None}:
            with suppress(EngineUnavailable):  # asked again soon, as long as somebody names it
                await self._reach(address)
        self._slots = owners
        for address in set(self._links) - set(owners):
            await self._links.pop(address).close()
        return await self._listen_there()

    async def _reach(self, address: Address) -> Link:
        """The link to a server, which is opened if there is none. Raises EngineUnavailable."""
        async with self._reaching:
            known = next((link for each, link in self._links.items() if each[:2] == address[:2]), None)
            if known is not None and (address in self._links or not address.name):
                return known
            link = self._new_link(_always(address))
            await link.open()
            self._links[address] = link
            return link

    async def _listen_there(self) -> bool:
        """Subscribe to every topic at the server that has its slot, and only there. Whether any was not yet."""
        for address, link in self._links.items():
            for topic in [topic for topic in link.topics if self._slots[self._topics.get(topic, 0)] != address]:
                link.ignore(topic)
        links = {slot: self._links.get(self._slots[slot] or _NOWHERE) for slot in set(self._topics.values())}
        wanted = [(links[slot], topic) for topic, slot in self._topics.items()]
        missing = [(link, topic) for link, topic in wanted if link is None or topic not in link.topics]
        answers = await asyncio.gather(*(self._listen_again(link, topic) for link, topic in missing))
        return any(answers)

    async def _listen_again(self, link: Link | None, topic: bytes) -> bool:
        try:
            if link is not None:
                await link.listen(topic)
                return True
        except (Refused, EngineUnavailable):
            pass
        self._look.set()
        return False

    async def _ask_for_slots(self) -> list[Address | None]:
        known = sorted(self._links, key=lambda address: not self._links[address].is_up)
        for address in [*known, *self._where.addresses]:
            try:
                async with asyncio.timeout(self._where.access.timeout):
                    line = await Line.dial(address, self._where.access, lambda push: None, lambda: None)
                    try:
                        return _slots_of(await line.call(b"CLUSTER", b"SLOTS"), address)
                    finally:
                        line.close()
            except (OSError, EOFError, TimeoutError, Refused) as error:
                log.warning("the Redis server %s does not say who has which slot: %s", address, error)
        return []


def servers_of(where: Where, scripts: dict[str, bytes], events: Events) -> Servers:
    """Those that an URL names, not started."""
    return Cluster(where, scripts, events) if where.kind == "cluster" else One(where, scripts, events)


def slot_of(tag: bytes) -> int:
    """The slot of all keys and topics with the hash tag `{tag}`."""
    return binascii.crc_hqx(tag, 0) % SLOTS


def _slots_of(answer: list[Any], asked: Address) -> list[Address | None]:
    owners: list[Address | None] = [None] * SLOTS
    for first, last, master, *_ in answer:
        host = bytes(master[0] or b"").decode() or asked.host  # a server may not know its own address
        address = Address(host, master[1], bytes(master[2]).decode())
        owners[first : last + 1] = [address] * (last + 1 - first)
    return owners


def _always(address: Address) -> Callable[[], Awaitable[Address]]:
    async def locate() -> Address:
        return address

    return locate
