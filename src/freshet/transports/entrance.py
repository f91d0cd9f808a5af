"""A connection from which nothing has come yet: whether ASGI is to carry what comes, or can be spared.

A plain request for a WebSocket, below a path that an application has opened for that (`RunningServer.direct`), is
accepted at once: no parser, no ASGI, no task. Everything else goes, unread, to the protocol of uvicorn.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol, cast

from starlette.responses import Response
from uvicorn.server import ServerState

from freshet.runtime.server import DirectAccept, RunningServer
from freshet.session.session import Carried
from freshet.transports.hosting import websocket_scope
from freshet.transports.lobby import Lobby
from freshet.transports.native import SessionSocket
from freshet.transports.plain import PlainUpgrade, plain_upgrade
from freshet.websocket import handshake
from freshet.websocket.handshake import HandshakeError

log = logging.getLogger("freshet.entrance")


class Successor(Protocol):
    """What a connection is from then on."""

    def go_on(self, transport: asyncio.Transport, data: bytes, deadline: float) -> None:
        """data: all that has come. deadline: when its first request has to be there, in the loop's time."""


class Entrance(asyncio.Protocol):
    """One connection. pass_on: makes what it is, if it is not a plain WebSocket. lobby: where it is meanwhile."""

    __slots__ = ("_connections", "_deadline", "_lobby", "_pass_on", "_server", "_state", "_transport")

    def __init__(
        self, pass_on: Callable[[], Successor], state: ServerState, lobby: Lobby, server: RunningServer
    ) -> None:
        self._pass_on = pass_on
        self._state = state
        self._connections = cast("set[asyncio.Protocol]", state.connections)
        self._lobby = lobby
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._deadline = asyncio.get_running_loop().time() + self._server.http.head_timeout
        self._connections.add(self)
        if not self._lobby.enter(self):
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if not self._accepts(data):
            self._leave()
            self._pass_on().go_on(self._transport, data, self._deadline)

    # ------------------------------------------------------------------------------------------------- the short way

    def _accepts(self, data: bytes) -> bool:
        """Whether it is done with: accepted, or refused."""
        direct = self._server.direct
        request = plain_upgrade(data, self._server.http) if direct and not self._lobby.full else None
        if request is None:
            return False
        for prefix, accept in direct.items():
            if request.target.startswith(prefix.encode() + b"/"):
                return self._accept(accept, prefix, request)
        return False

    def _accept(self, accept: DirectAccept, prefix: str, request: PlainUpgrade) -> bool:
        def take_over(session: Carried, subprotocol: str | None) -> None:
            extensions = handshake.extensions(request.headers) if session.host.compression else None
            headers = self._state.default_headers
            self._transport.write(handshake.response(request.key, subprotocol, extensions, headers))
            self._leave()
            SessionSocket(session, self._transport, self._connections, extensions is not None, self._lobby)

        try:
            answer = accept(websocket_scope(request.target, request.headers, self._transport, take_over, prefix))
        except HandshakeError:
            return False  # which says so
        except Exception:
            log.exception("websocket: the opening failed, its client gets 500, or nothing")
            if self._transport.get_protocol() is not self:
                self._transport.abort()
                return True
            answer = Response("Internal Server Error", 500)
        if isinstance(answer, Response):
            self._transport.write(handshake.refuse(answer.status_code, bytes(answer.body), answer.raw_headers))
            self._transport.close()
        return bool(answer)

    # --------------------------------------------------------------------------------------------------------- the end

    def _leave(self) -> None:
        self._connections.discard(self)
        self._lobby.leave(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._leave()

    def shutdown(self) -> None:
        """What uvicorn calls when the server ends."""
        self._transport.close()

    # -------------------------------------------------------------------------------------------------- see `Guest`

    def deadline(self) -> float:
        return self._deadline

    def overdue(self) -> None:
        """There is no request that could be answered."""
        self._transport.abort()

    def evict(self) -> None:
        self._transport.abort()
