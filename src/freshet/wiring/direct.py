"""The short way in: requests that the first protocol recognised are answered without ASGI.

`transports/entrance.py` calls this with the scope that ASGI would have, which goes through the same guard, routes and
opening as a call of the application; what stands around the application does not see it. So it is there only where
nothing does, or where the option `direct` says that nothing has to. See `runtime/server.Shortcut`.
"""

from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope

from freshet.endpoints.host_guard import HostGuard, Reply
from freshet.runtime.server import RunningServer
from freshet.transports.native import EXTENSION, AcceptedSocket
from freshet.transports.stream import STREAM, AcceptedStream


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
            server.direct[""] = self
        elif self._mounted:
            server.direct[self._mounted.rstrip("/")] = self

    def close(self, server: RunningServer) -> None:
        """The application ends."""
        server.direct = {prefix: way for prefix, way in server.direct.items() if way is not self}

    def accept(self, scope: Scope) -> Response | bool:
        with self._traced(scope):
            accepted = self._app.accept(scope)
            if isinstance(accepted, AcceptedSocket):
                scope["extensions"][EXTENSION](*accepted)
                return True
            return accepted or False

    def reply(self, scope: Scope, receive: Receive) -> Response | Coroutine[Any, Any, Response | None] | None:
        reply = self._app.reply(scope, receive)
        return self._within(scope, reply) if isinstance(reply, Coroutine) else reply

    async def _within(self, scope: Scope, reply: Reply) -> Response | None:
        with self._traced(scope):
            answer = await reply
            if not isinstance(answer, AcceptedStream):
                return answer
            scope["extensions"][STREAM](answer)
            return None
