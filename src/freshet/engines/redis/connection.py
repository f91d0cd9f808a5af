"""Lines to Redis servers: all commands of a turn of the loop leave in one write, and answers come in their order.

`Line` is one connection. `Link` keeps two of them to a server, one for calls and one for what is published there, and
opens them again when they are lost.
"""

import asyncio
import logging
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NamedTuple, cast

from freshet.engines.reconnect import Staying
from freshet.errors import ConfigError, EngineUnavailable

try:
    import hiredis
except ModuleNotFoundError:  # pragma: no cover - `need_hiredis` says what to do
    hiredis = None  # type: ignore[assignment]

log = logging.getLogger("freshet")

WAITING_CALLS = 100_000  # of one line
WAITING_BYTES = 64 * 1024 * 1024  # of one line
BATCH = 1000  # topics that are subscribed to at a time

_NOTHING = object()
_CONFIRMATIONS = frozenset({b"subscribe", b"unsubscribe", b"ssubscribe", b"sunsubscribe"})


class Refused(Exception):
    """An error that Redis answered."""


class Address(NamedTuple):
    """name: under which the server finds its data again after a restart, if it keeps them; see `lua/log.lua`."""

    host: str
    port: int
    name: str = ""

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Access(NamedTuple):
    """How a server lets us in."""

    username: str = ""
    password: str = ""
    database: int = 0
    tls: ssl.SSLContext | None = None
    timeout: float = 5.0

    def __repr__(self) -> str:
        return "Access(...)"  # a password is in no log


class Events(NamedTuple):
    """message: something was published on a topic. back: a line was lost, and is there again with all its topics.

    moved: a server no longer has a topic that it had (in a cluster).
    """

    message: Callable[[bytes, bytes], None]
    back: Callable[[], None]
    moved: Callable[[], None]


def need_hiredis() -> None:
    """Raises ConfigError when the package is not there."""
    if hiredis is None:
        raise ConfigError("engine", "Redis needs a package: pip install freshet[redis]")


class _Call(NamedTuple):
    answer: asyncio.Future[Any] | None
    since: float
    size: int
    leaves: bytes | None  # the topic that it unsubscribes from


class Line(asyncio.Protocol):
    """One connection. pushed: called with what the server says without being asked. lost: when it is no more."""

    def __init__(self, pushed: Callable[[list[Any]], None], lost: Callable[[], None]) -> None:
        self._pushed = pushed
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(replyError=Refused, notEnoughData=_NOTHING)
        self._transport: asyncio.Transport | None = None
        self._calls: deque[_Call] = deque()
        self._size = 0
        self._out: list[bytes] = []
        self.closed = False

    @classmethod
    async def dial(
        cls, address: Address, access: Access, pushed: Callable[[list[Any]], None], lost: Callable[[], None]
    ) -> "Line":
        """A line that the server has let in. Raises OSError, EOFError, Refused; the caller limits the time."""
        loop = asyncio.get_running_loop()
        try:
            _, line = await loop.create_connection(lambda: cls(pushed, lost), *address[:2], ssl=access.tls)
        except OSError as error:  # not every loop names the place
            raise OSError(f"{address}: {error.strerror or error}") from error
        login = ("AUTH", access.username or "default", access.password) if access.password else ()
        try:
            await line.call(b"HELLO", 3, *login)
            if access.database:
                await line.call(b"SELECT", access.database)
        except BaseException:
            line.close()
            raise
        return line

    def call(self, *command: bytes | str | int) -> asyncio.Future[Any]:
        """What the server answers; the future raises EOFError when the line is lost before, or Refused.

        Raises EngineUnavailable when too much waits for answers, EOFError on a line that is lost.
        """
        answer: asyncio.Future[Any] = self._loop.create_future()
        self._send(command, answer)
        return answer

    def tell(self, *command: bytes | str | int, leaves: bytes | None = None) -> None:
        """A call whose answer does not matter."""
        self._send(command, None, leaves)

    def _send(
        self, command: tuple[bytes | str | int, ...], answer: asyncio.Future[Any] | None, leaves: bytes | None = None
    ) -> None:
        if self.closed:
            raise EOFError("the line is closed")
        packed: bytes = hiredis.pack_command(command)  # type: ignore[arg-type]  # it says one, and takes any number
        if len(self._calls) >= WAITING_CALLS or (self._calls and self._size + len(packed) > WAITING_BYTES):
            raise EngineUnavailable("Redis does not keep up: too many calls wait for an answer")
        self._calls.append(_Call(answer, self._loop.time(), len(packed), leaves))
        self._size += len(packed)
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(packed)

    def _flush(self) -> None:
        out, self._out = self._out, []
        if self._transport is not None and not self.closed:
            self._transport.write(b"".join(out))

    def is_late(self, timeout: float) -> bool:
        """Whether the oldest call has waited for longer than `timeout` seconds."""
        return bool(self._calls) and self._loop.time() - self._calls[0].since > timeout

    @property
    def is_quiet(self) -> bool:
        """Whether nothing waits for an answer."""
        return not self._calls

    def close(self) -> None:
        """Let go of it at once; all that waits fails with EOFError. It does not count as lost."""
        if self._transport is not None:
            self._transport.abort()
        self._end(EOFError("the line is closed"))

    # -------------------------------------------------------------------------------------------- asyncio calls these

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def connection_lost(self, why: Exception | None) -> None:
        if not self.closed:
            self._end(EOFError(f"the line was lost: {why or 'the server closed it'}"))
            self._lost()

    def data_received(self, data: bytes) -> None:
        if self.closed:
            return
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets(False)) is not _NOTHING:
                if isinstance(reply, hiredis.PushNotification) and not self._confirms(reply):
                    self._pushed(reply)
                else:
                    self._answer(reply)
        except hiredis.ProtocolError as error:
            log.warning("what the Redis server sent is not its protocol: %s", error)
            self.close()
            self._lost()

    # -----------------------------------------------------------------------------------------------------------------

    def _confirms(self, push: list[Any]) -> bool:
        """Whether it answers a command of ours; a cluster also ends subscriptions of its own accord."""
        if push[0] not in _CONFIRMATIONS or not self._calls:
            return False
        return bool(push[0] != b"sunsubscribe" or self._calls[0].leaves == push[1])

    def _answer(self, reply: Any) -> None:
        if not self._calls:
            return  # nothing was asked
        call = self._calls.popleft()
        self._size -= call.size
        if call.answer is None or call.answer.done():  # nobody waits any more
            return
        if isinstance(reply, Refused):
            call.answer.set_exception(reply)
        else:
            call.answer.set_result(reply)

    def _end(self, why: Exception) -> None:
        if self.closed:
            return
        self.closed = True
        calls, self._calls, self._size, self._out = self._calls, deque(), 0, []
        for call in calls:
            if call.answer is not None and not call.answer.done():
                call.answer.set_exception(why)


class Link(Staying):
    """Two lines to one server, which come back when they are lost.

    locate: where the server is now; it may raise as `Line.dial` does.
    scripts: by name. sharded: as in a cluster, where a topic is at the server of its slot alone.
    """

    broker = "Redis"

    def __init__(
        self,
        locate: Callable[[], Awaitable[Address]],
        access: Access,
        scripts: dict[str, bytes],
        events: Events,
        sharded: bool = False,
    ) -> None:
        super().__init__(events.back)
        self.topics: set[bytes] = set()
        self._locate = locate
        self._access = access
        self._scripts = scripts
        self._events = events
        self._subscribe = b"SSUBSCRIBE" if sharded else b"SUBSCRIBE"
        self._unsubscribe = b"SUNSUBSCRIBE" if sharded else b"UNSUBSCRIBE"
        self._least = (7, 0) if sharded else (6, 2)
        self._calls: Line | None = None
        self._flow: Line | None = None
        self._shas: dict[str, bytes] = {}
        self._identity: tuple[bytes, bytes] = (b"", b"")
        self._hears = False  # whether all topics are subscribed to

    @property
    def is_up(self) -> bool:
        return self._calls is not None and self._hears

    async def call(self, *command: bytes | str | int) -> Any:
        """What the server answers. Raises Refused, EngineUnavailable."""
        return await self._answer(self._line(), command)

    async def call_both(self, first: tuple[bytes, ...], command: tuple[bytes | str | int, ...]) -> Any:
        """The answer to `command`, which follows `first` with nothing between. Raises as `call`."""
        line = self._line()
        line.tell(*first)
        return await self._answer(line, command)

    def script(self, name: str, keys: Iterable[bytes], arguments: Iterable[bytes | str | int]) -> tuple[Any, ...]:
        """The command that runs a script of that name on this server. Raises EngineUnavailable."""
        self._line()
        keys = tuple(keys)
        return (b"EVALSHA", self._shas[name], len(keys), *keys, *self._identity, *arguments)

    async def load_scripts(self) -> None:
        """Give the server the scripts, which it has not or has forgotten. Raises Refused, EngineUnavailable."""
        for name, text in self._scripts.items():
            self._shas[name] = await self.call(b"SCRIPT", b"LOAD", text)

    async def listen(self, topic: bytes) -> None:
        """Subscribe to `topic`, and return when the server has confirmed it. Raises Refused, EngineUnavailable."""
        if not self._hears or self._flow is None:
            raise EngineUnavailable(f"Redis is away: {self._why}")
        new = topic not in self.topics
        self.topics.add(topic)
        try:
            await self._answer(self._flow, (self._subscribe, topic))
        except BaseException:
            if new:
                self.ignore(topic)
            raise

    def ignore(self, topic: bytes) -> None:
        """Subscribe to `topic` no longer."""
        self.topics.discard(topic)
        if self._flow is not None and not self._flow.closed:
            self._flow.tell(self._unsubscribe, topic, leaves=topic)

    def drop(self, why: str) -> None:
        """Hang up, and look again for where the server is."""
        self._hang_up(why)

    # ---------------------------------------------------------------------------------------------------- staying there

    def _line(self) -> Line:
        if self._calls is None:
            raise EngineUnavailable(f"Redis is away: {self._why}")
        return self._calls

    async def _answer(self, line: Line, command: tuple[bytes | str | int, ...]) -> Any:
        try:
            return await line.call(*command)
        except EOFError:
            raise EngineUnavailable(f"Redis went away before it answered: {self._why}") from None

    def _look_at_the_time(self) -> None:
        for line in (self._calls, self._flow):
            if line is None or line.closed:
                continue
            if line.is_late(self._access.timeout):
                self._hang_up(f"no answer within {self._access.timeout:g} s")
                return
            if line.is_quiet:
                line.tell(b"PING")

    async def _connect(self) -> bool:
        """Open the lines that are missing and subscribe to all topics again; if that fails, `_why` says why."""
        self._lose_flow(self._why)
        self._lost.clear()
        try:
            async with asyncio.timeout(self._access.timeout):
                await self._open_lines()
            await self._subscribe_again()
        except TimeoutError:
            self._lose_flow(f"no answer within {self._access.timeout:g} s")
        except (OSError, EOFError, EngineUnavailable) as error:
            self._lose_flow(str(error))
        except Refused as error:
            self._lose_flow(explain(error))
        return self.is_up

    async def _open_lines(self) -> None:
        """Both lines have to lead to one server: another one does not spread what is published at this one."""
        address = await self._locate()
        self._flow = await Line.dial(address, self._access, self._pushed, lambda: self._line_lost(flow=True))
        identity = await self._identify(self._flow, address)
        if self._calls is not None and identity == self._identity:
            return
        if self._calls is not None:
            self._calls.close()
        calls = await Line.dial(address, self._access, self._pushed, lambda: self._line_lost(flow=False))
        try:
            if await self._identify(calls, address) != identity:
                raise EOFError(f"{address} is two servers")
            for script, text in self._scripts.items():
                self._shas[script] = await calls.call(b"SCRIPT", b"LOAD", text)
        except BaseException:
            calls.close()
            raise
        self._identity = identity
        self._calls = calls

    async def _identify(self, line: Line, address: Address) -> tuple[bytes, bytes]:
        """What the scripts are told of the server. Raises EOFError for one that we cannot use."""
        facts = facts_of(await line.call(b"INFO"))
        if facts.get("role") != "master":
            raise EOFError(f"{address} is a replica")
        if _version(facts) < self._least:
            raise EOFError(f"{address} is Redis {facts.get('redis_version')}, older than {_dotted(self._least)}")
        name = (address.name or "data") if facts.get("aof_enabled") == "1" and await self._writes_first(line) else ""
        return facts.get("run_id", "").encode(), name.encode()

    @staticmethod
    async def _writes_first(line: Line) -> bool:
        """Whether all is on disk before it is answered. With `everysec`, a crash loses up to two seconds of it."""
        try:
            found = await line.call(b"CONFIG", b"GET", b"appendfsync")
        except Refused:  # who runs the server for us does not tell
            return False
        return bool(found.get(b"appendfsync") == b"always")

    async def _subscribe_again(self) -> None:
        """While this goes on, topics may leave, but none comes."""
        flow = self._flow
        topics = list(self.topics)
        for start in range(0, len(topics), BATCH):
            batch = [topic for topic in topics[start : start + BATCH] if topic in self.topics]
            async with asyncio.timeout(self._access.timeout):
                assert flow is not None
                await asyncio.gather(*(flow.call(self._subscribe, topic) for topic in batch))
        self._hears = True

    def _line_lost(self, flow: bool) -> None:
        """Without the line for calls the other goes too: it may come back to another server."""
        if flow:
            self._lose_flow("the server closed the line")
        else:
            self._hang_up("the server closed the line")

    def _hang_up(self, why: str) -> None:
        """Close both lines, if there are any."""
        calls, self._calls = self._calls, None
        self._why = why
        if calls is not None:
            calls.close()
        self._lose_flow(why)

    def _lose_flow(self, why: str) -> None:
        flow, self._flow = self._flow, None
        self._hears = False
        self._why = why
        self._lost.set()
        if flow is not None:
            flow.close()

    def _pushed(self, push: list[Any]) -> None:
        if push[0] in (b"message", b"smessage"):
            self._events.message(push[1], push[2])
        elif push[0] == b"sunsubscribe":
            self.topics.discard(push[1])
            self._events.moved()


def facts_of(info: bytes) -> dict[str, str]:
    """What INFO answers."""
    pairs = (line.partition(":") for line in bytes(info).decode("utf-8", "replace").splitlines())
    return {name: value for name, _, value in pairs if value}


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _version(facts: dict[str, str]) -> tuple[int, ...]:
    numbers = facts.get("redis_version", "").split(".")[:2]
    return tuple(int(number) for number in numbers if number.isdecimal())


def explain(error: Refused) -> str:
    """An error of Redis, in words that say what to do where there is something."""
    text = str(error)
    if text.startswith("OOM") or "-OOM " in text:  # the latter before Redis 7, of a script
        return f"Redis has no memory left, raise its maxmemory or keep less history ({text})"
    if text.startswith(("NOAUTH", "WRONGPASS")):
        return f"Redis did not let us in, check the user and the password ({text})"
    if text.startswith("NOPERM"):
        return f"the user of Redis may not do this ({text})"
    return f"Redis refused: {text}"
