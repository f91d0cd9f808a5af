"""What a server tells whatever it runs, whatever application lies between the two.

`freshet serve` sets `SERVER` before it imports and runs an application; a Freshet in it finds that in its context.
Under another server there is none.
"""

from collections.abc import Awaitable, Callable
from contextvars import ContextVar

Drain = Callable[[], Awaitable[None]]


class RunningServer:
    """hub: the socket of the hub of this host, if this process is one of several workers; empty: it is alone.

    drains: called before the server ends, so that clients reconnect elsewhere at a pace.
    """

    __slots__ = ("drains", "hub")

    def __init__(self, hub: str = "") -> None:
        self.hub = hub
        self.drains: list[Drain] = []


SERVER: ContextVar[RunningServer | None] = ContextVar("freshet_server", default=None)
