"""`/connection/websocket`: the Centrifugal client protocol over WebSocket; and what opens any session over one."""

from collections.abc import Callable

from starlette.types import Receive, Scope, Send

from freshet.commands.dispatch import Dispatcher
from freshet.dialects.base import Dialect
from freshet.endpoints.opening import Opening, carry_websocket
from freshet.model.frame import SUBPROTOCOL, Handshake

Select = Callable[[Scope, Handshake], Dialect]


class WebSocketEndpoint:
    """Opens a session over WebSocket. select: the dialect for a request."""

    def __init__(self, opening: Opening, dispatcher: Dispatcher, select: Select) -> None:
        self._opening = opening
        self._dispatcher = dispatcher
        self._select = select

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = await self._opening.open(scope, receive, send)
        if request is None:
            return
        dialect = self._select(scope, request)
        session = self._dispatcher.open(dialect, request)
        subprotocol = next((name for name in (dialect.subprotocol, SUBPROTOCOL) if name in request.subprotocols), None)
        await carry_websocket(session, subprotocol, scope, receive, send)
