"""What a server tells whatever it runs, whatever application lies between the two.

`freshet serve` sets `SERVER` before it imports and runs an application; a Freshet in it finds that in its context.
Under another server there is none.
"""

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import NamedTuple

KIB = 1024

Drain = Callable[[], Awaitable[None]]


class HttpBounds(NamedTuple):
    """What a request may be before anybody looks at it. Sizes in bytes, timeouts in seconds; see `config.Http`."""

    head_size: int = 32 * KIB
    url_size: int = 16 * KIB
    headers: int = 100
    head_timeout: float = 10.0
    body_timeout: float = 30.0
    keep_alive: float = 5.0


class RunningServer:
    """hub: the socket of the hub of this host, if this process is one of several workers; empty: it is alone.

    drains: called before the server ends, so that clients reconnect elsewhere at a pace. http: the bounds of
    requests; an application with options of its own sets them. is_full: whether there is no room for clients that stay.
    compression: a WebSocket that offers permessage-deflate gets it, also on a route that is not Freshet's.
    """

    __slots__ = ("compression", "drains", "http", "hub", "is_full")

    def __init__(self, hub: str = "") -> None:
        self.hub = hub
        self.drains: list[Drain] = []
        self.http = HttpBounds()
        self.is_full: Callable[[], bool] = lambda: False
        self.compression = False


SERVER: ContextVar[RunningServer | None] = ContextVar("freshet_server", default=None)
