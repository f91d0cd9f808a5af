"""A connection to a Redis server on which all commands of one turn of the event loop leave in one write.

redis-py opens it, secures it and authenticates, and then sends a command and waits for its reply. Here commands are
gathered until the turn ends, and replies resolve futures in the order of the commands, so that many batches are on
their way at once.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import hiredis
from redis.asyncio.connection import Connection, DefaultParser
from redis.exceptions import InvalidResponse

from freshet.engines.redis.access import RedisAccess, RedisAddress
from freshet.engines.redis.driver import connect, reason
from freshet.engines.redis.messages import Part
from freshet.errors import EngineUnavailable

log = logging.getLogger("freshet")

BACKLOG_COMMANDS = 100_000  # of one connection, sent or not, that have no reply yet
BACKLOG_BYTES = 64 * 1024 * 1024  # of these

_NOT_ENOUGH = object()


class _PendingReply(NamedTuple):
    """A command without a reply. reply: None where nobody waits. confirmed_by: how a push that replies to it begins."""

    reply: asyncio.Future[Any] | None
    since: float
    size: int
    confirmed_by: list[bytes] | None


class BatchedConnection(asyncio.Protocol):
    """on_push: called with what the server sends without being asked. on_lost: called with why, once, when it is lost.

    A push that raises loses the connection: nothing that came may go unnoticed.
    """

    def __init__(self, on_push: Callable[[list[Any]], None], on_lost: Callable[[str], None]) -> None:
        self._on_push = on_push
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(
            protocolError=InvalidResponse, replyError=DefaultParser.parse_error, notEnoughData=_NOT_ENOUGH
        )
        self._pending: deque[_PendingReply] = deque()
        self._pending_bytes = 0
        self._unsent: list[bytes] = []
        self._connection: Connection | None = None
        self._transport: asyncio.Transport | None = None
        self.closed = False

    @classmethod
    async def open(
        cls,
        address: RedisAddress,
        access: RedisAccess,
        on_push: Callable[[list[Any]], None],
        on_lost: Callable[[str], None],
    ) -> "BatchedConnection":
        """A connection that the server has let in. Raises RedisError; the caller limits the time."""
        made = cls(on_push, on_lost)
        made._connection, made._transport = await connect(address, access, made)
        return made

    def request(self, *command: Part) -> asyncio.Future[Any]:
        """The reply: the future raises RedisError for a reply that is an error, EOFError when the connection is lost.

        Raises EngineUnavailable when the backlog is full, EOFError on a connection that is closed.
        """
        reply: asyncio.Future[Any] = self._loop.create_future()
        self._enqueue(command, reply)
        return reply

    def send(self, *command: Part) -> None:
        """A command whose reply does not matter. Raises as `request`."""
        self._enqueue(command, None)

    def subscribe(self, verb: bytes, topic: bytes) -> asyncio.Future[Any]:
        """See `request`. verb: `subscribe` or `ssubscribe`; the server confirms it in a push that begins so."""
        reply: asyncio.Future[Any] = self._loop.create_future()
        self._enqueue((verb, topic), reply, [verb, topic])
        return reply

    def unsubscribe(self, verb: bytes, topic: bytes) -> None:
        """See `send`. verb: `unsubscribe` or `sunsubscribe`."""
        self._enqueue((verb, topic), None, [verb, topic])

    def _enqueue(
        self,
        command: tuple[Part, ...],
        reply: asyncio.Future[Any] | None,
        confirmed_by: list[bytes] | None = None,
    ) -> None:
        if self.closed:
            raise EOFError("the connection is closed")
        packed: bytes = hiredis.pack_command(command)  # type: ignore[arg-type]  # it says one, and takes any number
        size = len(packed)
        if len(self._pending) >= BACKLOG_COMMANDS or (self._pending and self._pending_bytes + size > BACKLOG_BYTES):
            raise EngineUnavailable("Redis does not keep up: too many commands wait for a reply")
        self._pending.append(_PendingReply(reply, self._loop.time(), size, confirmed_by))
        self._pending_bytes += size
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent.append(packed)

    def _flush(self) -> None:
        # A transport that cannot write keeps it: the backlog limits how much.
        batch, self._unsent = self._unsent, []
        if self._transport is not None and not self.closed:
            self._transport.write(b"".join(batch))

    def is_late(self, timeout: float) -> bool:
        """Whether the oldest command has waited for longer than `timeout` seconds."""
        return bool(self._pending) and self._loop.time() - self._pending[0].since > timeout

    @property
    def is_idle(self) -> bool:
        """Whether no command waits for a reply."""
        return not self._pending

    def close(self) -> None:
        """Close at once; commands without a reply fail with EOFError. It does not count as lost."""
        self._end("the connection is closed")

    async def wait_closed(self) -> None:
        """Let redis-py know, too, that the connection is closed."""
        if self._connection is not None:
            await self._connection.disconnect(nowait=True)

    # -------------------------------------------------------------------------------------------- asyncio calls these

    def connection_lost(self, exc: Exception | None) -> None:
        self._lose("the server closed it" if exc is None else reason(exc))

    def data_received(self, data: bytes) -> None:
        if self.closed:
            return
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets(False)) is not _NOT_ENOUGH and not self.closed:
                if isinstance(reply, hiredis.PushNotification) and not self._confirms(reply):
                    self._on_push(reply)
                else:
                    self._resolve(reply)
        except InvalidResponse as error:
            self._lose(f"it does not speak the protocol of Redis: {error}")
        except Exception as error:  # a reply that cannot be read, or one that its receiver cannot bear
            log.exception("redis: a message cannot be handled, its connection is closed and opened again")
            self._lose(f"a message could not be handled: {type(error).__name__}")

    # -----------------------------------------------------------------------------------------------------------------

    def _confirms(self, push: list[Any]) -> bool:
        """Whether it replies to a command of ours; a cluster also ends subscriptions of its own accord."""
        return bool(self._pending) and push[:2] == self._pending[0].confirmed_by

    def _resolve(self, reply: Any) -> None:
        if not self._pending:  # so an earlier one may have gone to a command that it was not for
            raise InvalidResponse("a reply that nobody asked for")
        pending = self._pending.popleft()
        self._pending_bytes -= pending.size
        if pending.reply is None or pending.reply.done():  # nobody waits any more
            return
        if isinstance(reply, Exception):
            pending.reply.set_exception(reply)
        else:
            pending.reply.set_result(reply)

    def _lose(self, why: str) -> None:
        if not self.closed:
            self._end(f"the connection was lost: {why}")
            self._on_lost(why)

    def _end(self, why: str) -> None:
        if self.closed:
            return
        self.closed = True
        pending, self._pending, self._pending_bytes, self._unsent = self._pending, deque(), 0, []
        for each in pending:
            if each.reply is not None and not each.reply.done():
                each.reply.set_exception(EOFError(why))
        if self._transport is not None:
            self._transport.abort()  # a server that stands still would not take what is left to write
