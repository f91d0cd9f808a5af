"""The short way in: a WebSocket that the first protocol recognised is accepted without ASGI, and without a task.

`transports/entrance.py` calls this with the scope that ASGI would have, which goes through the same guard, routes and
opening as a call of the application; what stands around the application does not see it. So it is there only where
nothing does, or where the option `direct` says that nothing has to.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager

from starlette.responses import Response
from starlette.types import Scope

from freshet.endpoints.opening import HostGuard
from freshet.runtime.server import RunningServer
from freshet.transports.native import EXTENSION, AcceptedSocket


class DirectWay:
    """app: what answers requests. own: the application itself, if a call of it does no more than that.

    mounted: the option `direct`. traced: what runs within goes on with the trace of a request.
    """

    def __init__(
        self, app: HostGuard, own: object, mounted: str, traced: Callable[[Scope], AbstractContextManager[None]]
    ) -> None:
        self._app = app
        self._own = own
        self._mounted = mounted
        self._traced = traced

    def open(self, server: RunningServer) -> None:
        """Let the server have it, if nothing around the application has to see each request."""
        if self._own is not None and server.app is self._own:
            server.direct[""] = self.accept
        elif self._mounted:
            server.direct[self._mounted.rstrip("/")] = self.accept

    def close(self, server: RunningServer) -> None:
        """The application ends."""
        server.direct = {prefix: accept for prefix, accept in server.direct.items() if accept != self.accept}

    def accept(self, scope: Scope) -> Response | bool:
        """See `DirectAccept`."""
        with self._traced(scope):
            accepted = self._app.accept(scope)
            if isinstance(accepted, AcceptedSocket):
                scope["extensions"][EXTENSION](*accepted)
                return True
            return accepted or False
