"""What a server tells whatever it runs, whatever application lies between the two.

`freshet serve` sets `SERVER` before it imports and runs an application; a Freshet in it finds that in its context.
Under another server there is none.
"""

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextvars import ContextVar
from typing import Any, NamedTuple, Protocol

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope

from freshet.runtime.fair_queue import FairQueue
from freshet.runtime.rates import Meter

KIB = 1024

Drain = Callable[[], Awaitable[None]]


class Shortcut(Protocol):
    """An application as one calls it where ASGI can be spared. Nothing has happened when it says that it cannot."""

    def accept(self, scope: Scope) -> Response | bool:
        """What becomes of a request for a WebSocket. True: it has been taken over; False: it has to go through ASGI."""

    def reply(self, scope: Scope, receive: Receive) -> Response | Coroutine[Any, Any, Response | None] | None:
        """What a request is answered. None: it has to go through ASGI; as a result: its client went away."""


class HttpBounds(NamedTuple):
    """What a request may be before anybody looks at it. Sizes in bytes, timeouts in seconds; see `config.Http`."""

    head_size: int = 32 * KIB
    url_size: int = 16 * KIB
    headers: int = 100
    pipelined: int = 16
    head_timeout: float = 10.0
    body_timeout: float = 30.0
    keep_alive: float = 75.0  # longer than proxies in front keep theirs: nginx 60, a load balancer of AWS 60


class TlsFiles(NamedTuple):
    """Paths of PEM files, and seconds between two looks at whether they have changed; see `config.Tls`."""

    certificate: str
    key: str = ""
    client_ca: str = ""
    reload: float = 10.0


class InternalListener(NamedTuple):
    """A second place to listen on, with an application of its own; see `config.Internal`."""

    host: str
    port: int
    tls: bool
    app: ASGIApp


class RunningServer:
    """hubs: the sockets of the hubs of this host, if this process is one of several workers; none: it is alone.

    drains: called before the server ends, so that clients reconnect elsewhere at a pace. http: the bounds of
    requests; an application with options of its own sets them. is_full: whether there is no room for clients that stay.
    refused: called with the policy that a request did not pass, before any application saw it.
    compression: a WebSocket that offers permessage-deflate gets it, also on a route that is not Freshet's. frames: how
    fast one is read there; None: without a limit.
    fair_queue: in which HTTP requests have their turn.
    app: the application that is served; it knows by this that nothing is around it. direct: by the beginning of a path,
    without a slash at its end, what is asked without ASGI of what comes below it.
    tls, internal: None until the command line or an application asks for them, which the server does when it starts.
    """

    __slots__ = (
        "app",
        "compression",
        "direct",
        "drains",
        "fair_queue",
        "frames",
        "http",
        "hubs",
        "internal",
        "is_full",
        "refused",
        "tls",
    )

    def __init__(self, hubs: Sequence[str] = ()) -> None:
        self.hubs = hubs
        self.app: object = None
        self.direct: dict[str, Shortcut] = {}
        self.drains: list[Drain] = []
        self.http = HttpBounds()
        self.tls: TlsFiles | None = None
        self.internal: InternalListener | None = None
        self.is_full: Callable[[], bool] = lambda: False
        self.refused: Callable[[str], None] = lambda policy: None
        self.compression = False
        self.frames: Meter | None = None
        self.fair_queue = FairQueue()


SERVER: ContextVar[RunningServer | None] = ContextVar("freshet_server", default=None)
