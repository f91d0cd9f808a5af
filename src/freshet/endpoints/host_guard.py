"""The guard before all endpoints: a request for a host that is not ours is refused.

So a page whose own name was made to point at this server (DNS rebinding) does not reach it.
"""

import logging
from collections.abc import Coroutine, Sequence
from typing import Any, Protocol

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from freshet.endpoints.opening import path_of
from freshet.endpoints.responses import BUSY, answer, plain
from freshet.observe.counts import Counts
from freshet.observe.logs import BoundedLog
from freshet.policy.origin import Hosts
from freshet.transports.native import AcceptedSocket
from freshet.transports.stream import AcceptedStream, CutShort, NoRoom

log = logging.getLogger("freshet.opening")

Reply = Coroutine[Any, Any, Response | AcceptedStream | None]


class Router(Protocol):
    """What finds the endpoint of a request."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...

    def accept(self, scope: Scope) -> AcceptedSocket | Response | None:
        """What becomes of a request for a WebSocket, decided without waiting; None: it has to be called."""

    def reply(self, scope: Scope, receive: Receive) -> Reply | None:
        """What a request is answered; None: it has to be called, as a result: nobody is there."""


class HostGuard:
    """Stands before all URLs but those of health: whoever asks for a name that is not ours is not answered.

    without_key: paths below which no key is asked for. open_hosts: the names for those.
    """

    def __init__(
        self,
        app: Router,
        hosts: Hosts,
        counts: Counts,
        without_key: Sequence[str] = (),
        open_hosts: Hosts | None = None,
    ) -> None:
        self.app = app
        self._hosts = hosts
        self._counts = counts
        self._without_key = tuple(f"{path}/" for path in without_key)
        self._open_hosts = open_hosts or hosts
        self._log = BoundedLog(log)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (refusal := self._refusal(scope)) is not None:
            await answer(refusal, scope, receive, send)
            return
        try:
            await self.app(scope, receive, send)
        except NoRoom:
            self._counts.refuse("bodies")
            self._log.warning(
                "bodies",
                "a request with a large body was refused: too many come at once, see limits.bodies",
            )
            await answer(plain(503, BUSY, {"Retry-After": "5"}), scope, receive, send)
        except CutShort:
            pass

    def accept(self, scope: Scope) -> AcceptedSocket | Response | None:
        """See `Router`."""
        return self._refusal(scope) or self.app.accept(scope)

    def reply(self, scope: Scope, receive: Receive) -> Response | Reply | None:
        """See `Router`."""
        return self._refusal(scope) or self.app.reply(scope, receive)

    def _refusal(self, scope: Scope) -> Response | None:
        host = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), None)
        path = path_of(scope)
        is_open = bool(self._without_key) and f"{path}/".startswith(self._without_key)
        if (self._open_hosts if is_open else self._hosts).allow(host) or path.startswith("/health/"):
            return None
        self._counts.refuse("host")
        self._log.warning("host", "a request for the host %.100r was refused: see the option `hosts`", host)
        return plain(421, "This server does not answer to that name: see the option `hosts`.\n")
