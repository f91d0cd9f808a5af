"""A worker's end of the connection to one hub: requests and their replies, and what the hub delivers."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

from freshet.engines.base import Receiver
from freshet.engines.local.messages import (
    HubConnection,
    HubDelivery,
    HubFailure,
    HubHello,
    HubNotification,
    HubReply,
    HubSubscribe,
    HubUnsubscribe,
    to_worker,
)
from freshet.errors import EngineUnavailable, PositionConflict
from freshet.model.log import History, Position
from freshet.runtime.tasks import Tasks

log = logging.getLogger("freshet.engines.local")

IN_FLIGHT = 20_000  # requests of a worker
TICK = 0.5  # seconds between looks at deadlines
TIMEOUT = 10  # ticks for a reply
RECONNECT_INTERVAL = 0.1  # seconds
AT_ONCE = 1000  # channels that are subscribed to anew


class HubLink:
    """path: of the hub's socket."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._last_id = 0
        self._requests: dict[int, asyncio.Future[HubReply]] = {}  # the oldest first
        self._last_ids: deque[int] = deque(maxlen=TIMEOUT)  # at each of the last ticks
        self._subscribed: dict[str, History | None] = {}
        self._connection: HubConnection | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._reconnecting: asyncio.Task[None] | None = None
        self._tasks = Tasks()

    async def open(self, hello: HubHello, receiver: Receiver, patience: float = 0.0) -> None:
        """Connect, and again whenever the connection is lost. patience: seconds that the hub may take to begin.

        Raises EngineUnavailable.
        """
        self._hello = hello
        self._receiver = receiver
        self._loop = asyncio.get_running_loop()
        until = self._loop.time() + patience
        while self._connection is None:
            try:
                await self._connect()
            except OSError as error:
                if self._loop.time() >= until:
                    raise EngineUnavailable(f"no hub at {self._path}: {error}") from error
                await asyncio.sleep(RECONNECT_INTERVAL)
        self._timer = self._loop.call_later(TICK, self._tick)

    async def _connect(self) -> None:
        _, connection = await self._loop.create_unix_connection(
            lambda: HubConnection(to_worker, self._received, self._lost), self._path
        )
        connection.send(self._hello)
        self._connection = connection

    async def close(self) -> None:
        """Disconnect; what waits for a reply fails."""
        if self._timer is not None:
            self._timer.cancel()
        await self._tasks.stop()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        self._subscribed.clear()

    # ------------------------------------------------------------------------------------------------------- requests

    def ask(self, request: Callable[..., object], *fields: Any) -> asyncio.Future[HubReply]:
        """Send a request, which is made of its correlation id and `fields`. The reply may be an EngineUnavailable."""
        reply: asyncio.Future[HubReply] = self._loop.create_future()
        if self._connection is None:
            reply.set_exception(EngineUnavailable("the hub of this host is away"))
        elif len(self._requests) >= IN_FLIGHT:
            reply.set_exception(EngineUnavailable(f"{IN_FLIGHT} requests wait for the hub"))
        else:
            self._last_id += 1
            self._requests[self._last_id] = reply
            self._connection.send(request(self._last_id, *fields))
        return reply

    async def withdraw(self, request: Callable[..., object], *fields: Any) -> None:
        """Ask the hub to forget something of this worker. With a connection that is lost it forgets all of that."""
        connection = self._connection
        try:
            await self.ask(request, *fields)
        except EngineUnavailable:
            if connection is not None and connection is self._connection:
                raise

    async def subscribe(self, channel: str, keep: History | None) -> Position:
        self._subscribed[channel] = keep
        return position_in(await self.ask(HubSubscribe, channel, keep))

    async def unsubscribe(self, channel: str) -> None:
        self._subscribed.pop(channel, None)
        await self.withdraw(HubUnsubscribe, channel)

    # -------------------------------------------------------------------------------------------------------- replies

    def _received(self, connection: HubConnection, messages: list[Any]) -> None:
        for message in messages:
            if type(message) is HubDelivery:
                if message.channel in self._subscribed:
                    self._receiver.deliver(message.delivery())
            elif type(message) is HubNotification:
                self._receiver.notify(message.body)
            elif (reply := self._requests.pop(message.correlation_id, None)) is not None and not reply.done():
                if type(message) is HubFailure:
                    reply.set_exception((PositionConflict if message.conflict else EngineUnavailable)(message.why))
                else:
                    reply.set_result(message)

    def _tick(self) -> None:
        """By ticks and not by the clock: when this process stood still, replies may have come that it has not read."""
        self._timer = self._loop.call_later(TICK, self._tick)
        if len(self._last_ids) == TIMEOUT:
            self._fail_requests(self._last_ids[0], "the hub of this host does not reply")
        self._last_ids.append(self._last_id)

    def _fail_requests(self, last: int, why: str) -> None:
        """Those up to the one that has the id `last`."""
        for correlation_id, reply in list(self._requests.items()):
            if correlation_id > last:
                break
            del self._requests[correlation_id]
            if not reply.done():
                reply.set_exception(EngineUnavailable(why))

    # ----------------------------------------------------------------------------------------------------- connection

    def _lost(self, connection: HubConnection) -> None:
        self._fail_requests(self._last_id, "the connection to the hub of this host is lost")
        if self._connection is connection:
            self._connection = None
            if self._reconnecting is None or self._reconnecting.done():
                self._reconnecting = self._tasks.start(self._reconnect(), "workers: reconnect to the hub")

    async def _reconnect(self) -> None:
        """Until there is a connection on which the hub knows what this worker is subscribed to."""
        reported, known = False, None
        while known is None or known is not self._connection:
            await asyncio.sleep(RECONNECT_INTERVAL)
            try:
                if self._connection is None:
                    await self._connect()
                connection = self._connection
                await self._subscribe_again()
                known = connection
            except (OSError, EngineUnavailable) as error:
                if not reported:  # a hub that stays away is reported once
                    reported = True
                    log.warning("workers: connection to the hub lost (%s), reconnecting", error)
        log.warning("workers: connected to the hub again; all channels are compared with their logs")
        self._receiver.suspect("")

    async def _subscribe_again(self) -> None:
        """Raises EngineUnavailable."""
        channels = list(self._subscribed.items())
        for start in range(0, len(channels), AT_ONCE):
            some = channels[start : start + AT_ONCE]
            await asyncio.gather(
                *(self.ask(HubSubscribe, channel, keep) for channel, keep in some if channel in self._subscribed)
            )


def position_in(reply: HubReply) -> Position:
    if reply.position is None:
        raise EngineUnavailable("the hub gave no position")
    return reply.position
