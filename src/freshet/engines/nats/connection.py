"""The engine's connection to NATS: to one of the servers, and again, perhaps to another, when it is lost.

Requests and their replies, what is published, and subscriptions. What was sent and not answered when a connection was
lost fails at once; subscriptions are made again at the next server.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from freshet.engines.nats.messages import BrokerMessage
from freshet.engines.nats.url import NatsServer, NatsSettings
from freshet.engines.reconnect import Reconnecting
from freshet.errors import ConfigError, EngineUnavailable
from freshet.runtime.tasks import in_task

if TYPE_CHECKING:
    from freshet.engines.nats.client import NatsClient


REQUESTS = 100_000  # that wait for a reply
DISCOVERED = 64  # servers that are remembered beside those of the URL
_REPLIES = 1  # the number of the subscription that replies come by


class NoResponders(EngineUnavailable):
    """NATS knows nobody who is subscribed to the subject of a request."""


class _Request(NamedTuple):
    reply: asyncio.Future[BrokerMessage]
    since: float


class _Collection(NamedTuple):
    """each: called with each message. complete: when all are there, or the connection is lost."""

    each: Callable[[BrokerMessage], None]
    complete: asyncio.Future[None]


def client_class() -> "type[NatsClient]":
    """The client; imported when there is a NATS engine, so that nobody else pays for it. Raises ConfigError."""
    try:
        from freshet.engines.nats.client import NatsClient  # noqa: PLC0415
    except ModuleNotFoundError:
        raise ConfigError("engine", "NATS needs a package: pip install nats-py") from None
    return NatsClient


class NatsConnection(Reconnecting):
    """on_message: called with what is published on the subjects that are subscribed to.

    on_reconnected: called when a lost connection is there again, with all subscriptions.
    connects: how often it was made; to see whether what a server was told was told to this one.

    Raises ConfigError when the client library is not installed.
    """

    broker = "NATS"

    def __init__(
        self, settings: NatsSettings, on_message: Callable[[BrokerMessage], None], on_reconnected: Callable[[], None]
    ) -> None:
        super().__init__(on_reconnected)
        self.connects = 0
        self._settings = settings
        self._on_message = on_message
        self._new_client = client_class()
        self._client: NatsClient | None = None  # the open one
        self._ended: NatsClient | None = None  # the last, not yet disposed of
        self._check: tuple[asyncio.Future[None], float] | None = (
            None  # whether the server still answers, and since when
        )
        self._discovered: list[NatsServer] = []
        self._next = 0
        self._inbox = f"_INBOX.{secrets.token_hex(11)}."
        self._requests: dict[str, _Request] = {}  # by the subject of the reply, in the order in which they were sent
        self._last_request = 0
        self._subscriptions: dict[str, int] = {}  # their numbers, by subject
        self._collections: dict[int, _Collection] = {}  # by the number of their subscription
        self._last_number = _REPLIES

    @property
    def _server(self) -> NatsServer:
        servers = [*self._settings.servers, *self._discovered]
        return servers[self._next % len(servers)]

    @property
    def _subscribed(self) -> int:
        return len(self._subscriptions)

    @asynccontextmanager
    async def deadline(self) -> AsyncIterator[None]:
        """What takes several requests has as much time as one. Raises EngineUnavailable when that is over."""
        await in_task()
        try:
            async with asyncio.timeout(self._settings.timeout):
                yield
        except TimeoutError:
            raise EngineUnavailable(f"NATS did not do it within {self._settings.timeout:g} s") from None

    # -------------------------------------------------------------------------------------------------------- requests

    async def request(self, subject: str, data: bytes, headers: bytes = b"") -> BrokerMessage:
        """The reply. Raises EngineUnavailable; NoResponders when nobody is subscribed to `subject`."""
        sent = self.send_request(subject, data, headers)
        try:
            return _checked(await sent)
        except EOFError:
            raise self._unavailable("NATS went away before it replied") from None

    def send_request(self, subject: str, data: bytes, headers: bytes = b"") -> asyncio.Future[BrokerMessage]:
        """A request whose reply is awaited by `replies`, so that many are under way at once. Does not wait."""
        if len(self._requests) >= REQUESTS:
            raise EngineUnavailable("NATS does not keep up: too many requests wait for a reply")
        client = self._connected()
        self._last_request += 1
        inbox = f"{self._inbox}{self._last_request}"
        try:
            client.send(subject, data, inbox, headers)
        except EOFError:
            raise self._unavailable("NATS is away") from None
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[BrokerMessage] = loop.create_future()
        self._requests[inbox] = _Request(reply, loop.time())
        return reply

    async def replies(self, sent: Sequence[asyncio.Future[BrokerMessage]]) -> list[BrokerMessage]:
        """The replies to requests, in their order. Raises as `request`, when any of them fails."""
        try:
            return [_checked(reply) for reply in await asyncio.gather(*sent)]
        except EOFError:
            raise self._unavailable("NATS went away before it replied") from None

    async def collect(
        self, request: Callable[[str], tuple[str, bytes]], is_last: Callable[[BrokerMessage], bool]
    ) -> BrokerMessage:
        """All that is sent to a subject of our own, and the reply to the request that has it sent.

        request: given that subject, the subject and the data of the request. is_last: called with each message, and
        with the reply, which has no `reply` of its own; whether all are there. Raises as `request`, also when not all
        come before the deadline.
        """
        client = self._connected()
        complete: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def each(message: BrokerMessage) -> None:
            if is_last(message) and not complete.done():
                complete.set_result(None)

        number = self._number()
        inbox = f"{self._inbox}all.{number}"
        self._collections[number] = _Collection(each, complete)
        client.add_subscription(number, inbox)
        try:
            reply = await self.request(*request(inbox))
            each(reply)
            async with self.deadline():
                await complete
        except EOFError:
            raise self._unavailable("NATS went away before all had come") from None
        finally:
            del self._collections[number]
            client.remove_subscription(number)
        return reply

    # ------------------------------------------------------------------------------------- publications, subscriptions

    async def publish(self, subject: str, data: bytes) -> None:
        """Publish, and return when the server has it. Raises EngineUnavailable."""
        try:
            client = self._connected()
            confirmation = client.confirm()
            client.send(subject, data)
            await confirmation
        except EOFError:
            raise self._unavailable("NATS went away before it confirmed") from None

    async def publish_all(self, messages: Iterable[tuple[str, bytes]]) -> None:
        """Publish many, by subject and data, and return when the server has them. Raises EngineUnavailable."""
        try:
            client = self._connected()
            confirmation = client.confirm()
            for subject, data in messages:
                client.send(subject, data)
            await confirmation
        except EOFError:
            raise self._unavailable("NATS went away before it confirmed") from None

    def publish_unconfirmed(self, subject: str, data: bytes) -> None:
        """Publish what may be lost."""
        with suppress(EOFError, EngineUnavailable):
            self._connected().send(subject, data)

    async def subscribe(self, subjects: Iterable[str]) -> None:
        """Returns when the server knows. Raises EngineUnavailable; then those that are new are not subscribed to."""
        new = set(subjects) - self._subscriptions.keys()
        for subject in new:
            self._subscriptions[subject] = self._number()
        try:
            client = self._connected()
            confirmation = client.confirm()
            for subject in new:
                client.add_subscription(self._subscriptions[subject], subject)
            await confirmation
        except EOFError:
            self.unsubscribe(new)
            raise self._unavailable("NATS went away before it confirmed") from None
        except BaseException:
            self.unsubscribe(new)
            raise

    def unsubscribe(self, subjects: Iterable[str]) -> None:
        """Of those that are subscribed to."""
        for subject in subjects:
            number = self._subscriptions.pop(subject, None)
            if number is not None and self._client is not None:
                self._client.remove_subscription(number)

    def _number(self) -> int:
        self._last_number += 1
        return self._last_number

    # ----------------------------------------------------------------------------------------------------- what comes

    def _receive(self, number: int, message: BrokerMessage) -> None:
        if number == _REPLIES:
            request = self._requests.pop(message.subject, None)
            if request is not None and not request.reply.done():
                request.reply.set_result(message)
        elif (collection := self._collections.get(number)) is not None:  # which keep the subjects that they had
            collection.each(message)
        elif self._subscriptions.get(message.subject) == number:  # or it was on its way when that was given up
            self._on_message(message)

    # --------------------------------------------------------------------------------------------------- reconnecting

    def _connected(self) -> "NatsClient":
        if self._client is None:
            raise self._unavailable("NATS is away")
        return self._client

    def _unavailable(self, what: str) -> EngineUnavailable:
        return EngineUnavailable(f"{what}: {self._why}")

    async def _connect(self) -> bool:
        """Connect to the next server and subscribe to all again; if that fails, `_why` says why."""
        self._lost.clear()
        await self._wait_closed()
        servers = [*self._settings.servers, *self._discovered]
        server = servers[self._next % len(servers)]
        self._next += 1
        client = self._new_client(self._receive, self.disconnect)
        try:
            async with asyncio.timeout(self._settings.timeout):
                await client.open(server, self._settings)
                client.add_subscription(_REPLIES, f"{self._inbox}*")
                subscribed = dict(self._subscriptions)
                for subject, number in subscribed.items():
                    client.add_subscription(number, subject)
                await client.confirm()
                if client.ended:
                    raise ConnectionError(client.ended)
        except TimeoutError:
            self._why = f"{server} did not answer within {self._settings.timeout:g} s"
        except Exception as error:  # the library raises many that it does not list
            self._why = f"{server}: {str(error).removeprefix('nats: ') or type(error).__name__}"
        else:
            for subject, number in subscribed.items():  # those that were given up meanwhile
                if self._subscriptions.get(subject) != number:
                    client.remove_subscription(number)
            self._client = client
            self.connects += 1
            self._discovered = self._discover(client, server)
            self._next -= 1  # if it is lost, it is tried first: it may only have blinked
            return True
        finally:
            if self._client is not client:
                await client.dispose()
        task = asyncio.current_task()
        if task is not None and task.cancelling():  # `wait_for`, in the library, swallows that in Python 3.11
            raise asyncio.CancelledError
        return False

    def _discover(self, client: "NatsClient", server: NatsServer) -> list[NatsServer]:
        """The other servers that it named: by addresses, so that their certificates are asked for its own name."""
        name = server.tls_name or server.host
        named = (NatsServer(it.hostname or "", it.port or server.port, name) for it in client.discovered_servers)
        return [it for it in named if it.host and it[:2] != server[:2]][:DISCOVERED]

    def disconnect(self, why: str) -> None:
        client, self._client = self._client, None
        self._why = why
        self._check = None
        self._lost.set()
        if client is not None:
            client.end(why)
            self._ended = client
        self._fail_all(EOFError(why))

    async def _wait_closed(self) -> None:
        client, self._ended = self._ended, None
        if client is not None:
            await client.dispose()

    def _fail_all(self, error: EOFError) -> None:
        waiting: list[asyncio.Future[Any]] = [it.reply for it in self._requests.values()]
        waiting += [it.complete for it in self._collections.values()]
        self._requests.clear()
        for future in waiting:
            if not future.done():
                future.set_exception(error)
                future.exception()  # perhaps nobody waits any more

    def _check_deadlines(self) -> None:
        """Fail the requests that nobody has replied to before their deadline, and see whether the server answers."""
        now, timeout = asyncio.get_running_loop().time(), self._settings.timeout
        while self._requests:
            inbox, request = next(iter(self._requests.items()))
            if request.since > now - timeout:
                break
            del self._requests[inbox]
            if not request.reply.done():
                request.reply.set_exception(EngineUnavailable(f"nobody in NATS replied within {timeout:g} s"))
                request.reply.exception()
        if self._client is None:
            return
        if self._check is None or self._check[0].done():
            with suppress(EOFError):
                self._check = (self._client.confirm(), now)
        elif self._check[1] < now - timeout:
            self.disconnect(f"no answer within {timeout:g} s")


def _checked(reply: BrokerMessage) -> BrokerMessage:
    """Raises NoResponders."""
    if reply.headers and reply.status == 503:
        raise NoResponders("in NATS nobody replies: is JetStream enabled there?")
    return reply
