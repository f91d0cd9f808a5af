"""What is made with the package `redis`: connections to a server, and what its errors mean to an operator.

redis-py opens a connection, secures it with TLS and authenticates. What is sent over it is the business of `batch.py`.
"""

import asyncio
import errno
import ssl
from typing import Any, cast

from redis.asyncio.connection import Connection, SSLConnection
from redis.exceptions import ConnectionError as LostConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as ReplyTimeoutError

from freshet.engines.redis.access import RedisAccess, RedisAddress


class TlsConnection(SSLConnection):
    """A connection over TLS. tls: decides what certificates are good, instead of redis-py's own defaults."""

    def __init__(self, *, tls: ssl.SSLContext, **options: Any) -> None:
        super().__init__(**options)
        self.ssl_context.context = tls  # so a given CA is the only one, and not one more beside the system's


def connection_options(access: RedisAccess) -> dict[str, Any]:
    """What redis-py has to know of how a server lets us in, and `connection_class`, for its pools and nodes too."""
    options: dict[str, Any] = {
        "connection_class": Connection,
        "db": access.database,
        "username": (access.username or None) if access.password else None,
        "password": access.password or None,
        "protocol": 3,
        "socket_timeout": access.timeout,
        "socket_connect_timeout": access.timeout,
        "driver_info": None,  # a user with few rights may not name itself
    }
    if access.tls is not None:
        options |= {"connection_class": TlsConnection, "tls": access.tls}
    return options


async def connect(
    address: RedisAddress, access: RedisAccess, protocol: asyncio.Protocol
) -> tuple[Connection, asyncio.Transport]:
    """A connection that the server has let in, whose transport talks to `protocol` from now on.

    redis-py reads a reply at a time, in a task that wakes up for it. The protocol takes all that comes at once: that
    costs up to two fifths less where few publications are under way; `docs/guide/engines.md` has the figures.

    Raises RedisError.
    """
    options = connection_options(access)
    connection: Connection = options.pop("connection_class")(host=address.host, port=address.port, **options)
    try:
        await connection.connect()  # type: ignore[no-untyped-call]
        writer = connection._writer  # the one thing of it that has no public name
        if writer is None or writer.transport.is_closing():
            raise LostConnectionError("the server closed it")
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
    transport = cast(asyncio.Transport, writer.transport)  # it reads, too
    transport.set_protocol(protocol)
    return connection, transport


def is_reply(error: RedisError) -> bool:
    """Whether a server replied with this error, and the connection is as good as before."""
    return isinstance(error, ResponseError) or error.status_code is not None


def reply_text(error: RedisError) -> str:
    """The reply as the server wrote it: redis-py takes the code off those that it knows."""
    text = str(error)
    code = error.status_code
    return f"{code} {text}" if code is not None and not text.startswith(code) else text


def explain(error: RedisError) -> str:
    """An error, in words that say what to do where there is something to do."""
    if not is_reply(error):
        return reason(error)
    text = reply_text(error)
    if text.startswith("OOM") or "-OOM " in text:  # the latter before Redis 7, of a script
        return f"Redis has no memory left, raise its maxmemory or keep less history ({text})"
    if text.startswith(("NOAUTH", "WRONGPASS")):
        return f"Redis did not let us in, check the user and the password ({text})"
    if text.startswith("NOPERM"):
        return f"the user of Redis may not do this ({text})"
    if text.startswith("LOADING"):
        return f"Redis is still loading its data, try again soon ({text})"
    return f"Redis refused: {text}"


def reason(error: BaseException) -> str:
    """Why a connection failed: the operating system's name of it, such as ECONNREFUSED, where there is one."""
    if isinstance(error, ReplyTimeoutError | TimeoutError):
        return "no answer in time"
    below: BaseException | None = error
    while below is not None:
        if isinstance(below, OSError) and not isinstance(below, ssl.SSLError) and below.errno:
            return errno.errorcode.get(below.errno) or str(below)
        below = below.__cause__ or below.__context__
    return str(error) or type(error).__name__
