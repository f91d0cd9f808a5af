"""`/connection/websocket`: the Centrifugal client protocol over WebSocket; and what opens any session over one."""

from collections.abc import Callable

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from freshet.commands.dispatch import Dispatcher
from freshet.dialects.base import Dialect
from freshet.endpoints.opening import Opening
from freshet.endpoints.responses import carry_websocket
from freshet.model.frame import SUBPROTOCOL, Handshake
from freshet.transports.native import AcceptedSocket

Select = Callable[[Scope, Handshake], Dialect]


class WebSocketEndpoint:
    """Opens a session over WebSocket. select: the dialect for a request."""

    def __init__(self, opening: Opening, dispatcher: Dispatcher, select: Select) -> None:
        self._opening = opening
        self._dispatcher = dispatcher
        self._select = select

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await carry_websocket(self.accept(scope), scope, receive, send)

    def accept(self, scope: Scope) -> AcceptedSocket | Response:
        """What becomes of a request, whoever carries it."""
        request = self._opening.examine(scope)
        if isinstance(request, Response):
            return request
        dialect = self._select(scope, request)
        session = self._dispatcher.open(dialect, request)
        subprotocol = next((name for name in (dialect.subprotocol, SUBPROTOCOL) if name in request.subprotocols), None)
        return AcceptedSocket(session, subprotocol)
